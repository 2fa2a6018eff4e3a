import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xray_models import arrays as arrays_module
from xray_models.arrays import load_arrays
from xray_models.images import InputSpec, encode_png, from_pixels, read_image, to_uint8
from xray_models.layouts import DataError


def test_arrays_are_what_a_model_gets_and_are_cached(phantoms):
    paths = [str(path) for path in sorted(phantoms.glob("Nodule/*.png"))[:5]]
    spec = InputSpec(height=48, width=40)
    arrays = load_arrays(paths, spec)
    for path, pixels in zip(paths, arrays.pixels, strict=True):
        assert np.array_equal(pixels, to_uint8(read_image(path), spec))
    assert load_arrays(paths, spec).pixels.filename == arrays.pixels.filename
    assert load_arrays(paths, InputSpec(height=40, width=40)).pixels.filename != arrays.pixels.filename


def test_a_changed_file_is_decoded_anew_and_a_missing_one_named(phantoms, tmp_path):
    first, second = sorted(phantoms.glob("Nodule/*.png"))[:2]
    file = tmp_path / "image.png"
    spec = InputSpec(height=32, width=32)
    file.write_bytes(first.read_bytes())
    before = load_arrays([str(file)], spec).sha256
    file.write_bytes(second.read_bytes())
    assert load_arrays([str(file)], spec).sha256 != before
    file.unlink()
    gone = load_arrays([str(file)], spec)
    assert gone.sha256 == [""]
    assert "cannot be opened" in gone.faults[0]


def test_a_picture_that_no_model_can_take_is_a_fault(phantoms, tmp_path):
    (tmp_path / "long.png").write_bytes(encode_png(from_pixels(np.eye(3, 30_000, dtype=np.uint8))))
    paths = [str(tmp_path / "long.png"), str(next(phantoms.glob("Nodule/*.png")))]
    arrays = load_arrays(paths, InputSpec(height=224, width=224, fit="crop"))
    assert "too long and thin" in arrays.faults[0] and arrays.sha256[0] == ""
    assert not arrays.faults[1] and arrays.pixels[1].any()


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system reserves no blocks")
def test_a_cache_without_room_is_said_before_anything_is_decoded(phantoms, tmp_path, monkeypatch):
    """Writing to a memory map without blocks behind it would end the process."""
    asked = []

    def refuse(_, start, size):
        asked.append((start, size))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "posix_fallocate", refuse)
    paths = [str(path) for path in sorted(phantoms.glob("Nodule/*.png"))[:5]]
    folder = tmp_path / "second-read" / "arrays"
    with pytest.raises(DataError, match=f"need 10,240 bytes in {folder}.*No space left.*XDG_CACHE_HOME"):
        load_arrays(paths, InputSpec(height=64, width=32))
    assert asked[0][0] == 0 and asked[0][1] > 10_240
    assert not list(folder.iterdir())


def test_a_cache_that_cannot_be_made_is_a_sentence(phantoms, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match="XDG_CACHE_HOME"):
        load_arrays([str(next(phantoms.glob("Nodule/*.png")))], InputSpec(height=64, width=32))


def test_a_file_that_could_not_be_opened_is_tried_again_and_a_damaged_one_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    whole, damaged = str(tmp_path / "1.png"), str(tmp_path / "2.png")
    Image.fromarray(np.full((20, 20), 90, np.uint8)).save(whole)
    Path(damaged).write_bytes(Path(whole).read_bytes()[:50])
    spec, opened = InputSpec(height=16, width=16), Path.open

    def refuse(path, *words, **more):
        if str(path) == whole:
            raise OSError(5, "Input/output error")
        return opened(path, *words, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        for _ in range(2):
            assert "Input/output error" in load_arrays([whole, damaged], spec).faults[0]
    arrays = load_arrays([whole, damaged], spec)
    assert arrays.faults[0] == "" and arrays.faults[1] != "" and (arrays.pixels[0] == 90).all()
    monkeypatch.setattr(arrays_module, "_decode", lambda *_: pytest.fail("decoded again"))
    assert load_arrays([whole, damaged], spec).faults == arrays.faults
