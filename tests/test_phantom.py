import os
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from xray_models import phantom
from xray_models.anatomy import build_chest, grow_vessels
from xray_models.phantom import LABELS, draw_lesion, draw_phantom, write_dataset

SICK = LABELS[1:]
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=10, deadline=None, derandomize=True)


@given(st.sampled_from(LABELS), seeds, st.sampled_from([64, 97, 256]))
@few
def test_same_request_gives_the_same_picture(label, seed, size):
    first, again = draw_phantom(label, seed, size), draw_phantom(label, seed, size)
    assert first.pixels.shape == first.mask.shape == (size, size)
    assert first.pixels.dtype == np.uint8 and first.mask.dtype == bool
    assert first.label == label
    np.testing.assert_array_equal(first.pixels, again.pixels)
    np.testing.assert_array_equal(first.mask, again.mask)


def checksum():
    return zlib.crc32(b"".join(draw_phantom(LABELS[seed % 4], seed).pixels.tobytes() for seed in range(12)))


def test_plain_processor_draws_the_same_pictures():
    """Draw again without numpy's vector instructions, nor the package's own imports, which are slow."""
    code = (
        "import sys, types, zlib; sys.modules['xray_models'] = package = types.ModuleType('xray_models');"
        "package.__path__ = ['xray_models']; from xray_models.phantom import LABELS, draw_phantom;"
        "assert 'torch' not in sys.modules;"
        "pictures = [draw_phantom(LABELS[seed % 4], seed).pixels.tobytes() for seed in range(12)];"
        "sys.stdout.write(str(zlib.crc32(b''.join(pictures))))"
    )
    vector = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    root = Path(phantom.__file__).parent.parent
    plain = {**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(vector)}
    other = subprocess.run([sys.executable, "-c", code], env=plain, cwd=root, capture_output=True, check=True)
    assert int(other.stdout) == checksum()


def test_seeds_draw_different_patients():
    first, second = draw_phantom("Normal", 1).pixels, draw_phantom("Normal", 2).pixels
    assert np.abs(first.astype(int) - second).mean() > 5


@pytest.mark.parametrize("label", SICK)
@given(seed=seeds)
@few
def test_only_the_lesion_tells_the_label(label, seed):
    healthy, sick = draw_phantom("Normal", seed), draw_phantom(label, seed)
    changed = healthy.pixels != sick.pixels
    near = ndimage.distance_transform_edt(~sick.mask) <= 16
    assert not (changed & ~near).any()


@pytest.mark.parametrize("label", SICK)
@given(seed=seeds)
@few
def test_mask_marks_a_lesion_of_plausible_size(label, seed):
    mask = draw_phantom(label, seed).mask
    assert 60 < mask.sum() < 9000
    assert not draw_phantom("Normal", seed).mask.any()


@given(seed=seeds)
@few
def test_nodule_is_round_and_nine_to_twenty_pixels_in_radius(seed):
    mask = draw_phantom("Nodule", seed).mask
    rows, columns = np.nonzero(mask)
    longest = max(np.ptp(rows), np.ptp(columns)) / 2
    assert 7.5 <= longest <= 22.5
    assert np.sqrt(mask.sum() / np.pi) > 0.6 * longest


@pytest.mark.parametrize("label", SICK)
@given(seed=seeds)
@few
def test_lesion_lies_in_lung(label, seed):
    rng = np.random.default_rng(seed)
    chest = build_chest(192, rng)
    lesion = draw_lesion(label, chest, grow_vessels(192, rng), rng)
    assert lesion.dtype == np.float32 and lesion.min() >= 0
    assert chest.lung[lesion > 0.25 * lesion.max()].min() > 0.1
    healthy = draw_phantom("Normal", seed).pixels
    mask = draw_phantom(label, seed).mask
    mediastinum = healthy[100:200, 118:138]
    assert np.median(healthy[mask]) < np.median(mediastinum)


@given(seed=seeds)
@few
def test_effusion_lies_low_in_one_lung(seed):
    rows, columns = np.nonzero(draw_phantom("Effusion", seed).mask)
    assert rows.mean() > 128
    assert columns.max() < 140 or columns.min() > 116


@pytest.mark.parametrize("label", SICK)
@given(seed=seeds)
@few
def test_lesion_brightens_its_place_above_the_noise(label, seed):
    healthy, sick = draw_phantom("Normal", seed).pixels.astype(float), draw_phantom(label, seed)
    gain = (sick.pixels - healthy)[sick.mask]
    noise = (healthy - ndimage.gaussian_filter(healthy, 1))[sick.mask].std()
    assert gain.mean() > 3 * noise / np.sqrt(gain.size)
    assert gain.mean() > 4


def test_looks_like_a_chest():
    mean = np.mean([draw_phantom("Normal", seed).pixels for seed in range(40)], axis=0)
    lungs = mean[90:150, [*range(45, 95), *range(170, 215)]].mean()
    heart, belly, left_of_spine, right_of_spine = (
        mean[150:180, 120:150].mean(),
        mean[220:250, 80:180].mean(),
        mean[150:170, 160:175].mean(),
        mean[150:170, 80:95].mean(),
    )
    assert heart > lungs + 60 and belly > lungs + 60
    assert left_of_spine > right_of_spine + 20, "the heart lies to the image's right"
    assert mean[:8, :8].mean() < lungs


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (("Fracture", 0), "Normal, Consolidation, Nodule, Effusion"),
        (("Normal", -1), "-1"),
        (("Normal", 0, 16), "64"),
    ],
)
def test_bad_requests_name_what_is_valid(request_, named):
    with pytest.raises(ValueError, match=named):
        draw_phantom(*request_)


def test_dataset_layout(tmp_path):
    folder = write_dataset(tmp_path / "phantom", 10, seed=3, size=64)
    images = sorted(path.relative_to(folder) for path in folder.glob("[A-Z]*/*.png"))
    assert [len(list((folder / label).iterdir())) for label in LABELS] == [3, 3, 2, 2]
    assert sorted(path.relative_to(folder / "masks") for path in folder.glob("masks/*/*.png")) == images
    assert sorted(path.stem for path in images) == [f"{index:05d}" for index in range(10)]
    for path in images:
        mask = Image.open(folder / "masks" / path)
        picture = Image.open(folder / path)
        assert (picture.mode, mask.mode, picture.size, mask.size) == ("L", "1", (64, 64), (64, 64))
        assert np.asarray(mask).any() == (path.parent.name != "Normal")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["phantom"]


def read_files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_dataset_is_deterministic_and_kept(tmp_path):
    first = write_dataset(tmp_path / "a", 8, seed=5, size=64)
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*.png")}
    assert read_files(first) == read_files(write_dataset(tmp_path / "b", 8, seed=5, size=64))
    assert read_files(first) != read_files(write_dataset(tmp_path / "c", 8, seed=6, size=64))
    write_dataset(first, 8, seed=5, size=64)
    assert before == {path: path.stat().st_mtime_ns for path in first.rglob("*.png")}


def test_pool_writes_what_one_process_writes(tmp_path, monkeypatch):
    pooled = write_dataset(tmp_path / "pool", 200, size=64)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert read_files(pooled) == read_files(write_dataset(tmp_path / "one", 200, size=64))


def test_two_writers_at_once_leave_one_dataset(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(lambda _: write_dataset(tmp_path / "p", 12, size=64), range(2)))
    assert folders == [tmp_path / "p"] * 2
    assert len(list((tmp_path / "p").glob("[A-Z]*/*.png"))) == 12
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


def test_dataset_never_overwrites_another(tmp_path):
    folder = write_dataset(tmp_path / "phantom", 4, size=64)
    with pytest.raises(FileExistsError, match="choose another folder"):
        write_dataset(folder, 8, size=64)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="other files"):
        write_dataset(tmp_path / "mine", 4, size=64)
    with pytest.raises(ValueError, match="0 phantoms"):
        write_dataset(tmp_path / "none", 0)
