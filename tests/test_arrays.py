import numpy as np

from xray_models.arrays import load_arrays
from xray_models.images import InputSpec, read_image, to_uint8


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
