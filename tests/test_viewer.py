"""The viewer's Python side; `tests/browser/test_viewer.py` drives it."""

import base64
import re

import numpy as np
from matplotlib import colormaps

from reading_room import viewer
from reading_room.renders import color_tables
from tests.dicom_samples import RAMP, read
from xray_models.images import from_pixels


def test_a_case_says_what_is_known_and_nothing_of_the_patient():
    metadata = {"modality": "DX", "view": "PA", "spacing_mm": (0.2, 0.1), "photometric_interpretation": "MONOCHROME1"}
    image = from_pixels(np.zeros((40, 50), np.uint16), "DICOM", ["It is so."], metadata)
    value = viewer.show_case(image, "pixels/x", 2.5)
    assert value == {
        "state": "case",
        "pixels": "pixels/x",
        "height": 40,
        "width": 50,
        "bits": 16,
        "window": None,
        "spacing": [0.2, 0.1],
        "detector": False,
        "sha256": image.sha256,
        "opened": 2.5,
        "facts": "DICOM · 50 × 40 · 16 bit · DX · PA",
        "warnings": list(image.warnings),
    }


def test_a_files_own_values_come_with_their_window():
    image = read(RAMP, 12, WindowCenter=1000, WindowWidth=500, PhotometricInterpretation="MONOCHROME1", RescaleSlope=2)
    value = viewer.show_case(image, "pixels/x", 2.5)
    assert (value["bits"], value["window"]["inverted"]) == (16, True)
    assert (value["window"]["slope"], value["window"]["intercept"]) == (2, 0)


def test_colours_are_matplotlibs():
    tables = {name: np.frombuffer(base64.b64decode(text), np.uint8) for name, text in color_tables().items()}
    assert set(tables) == {"inferno", "viridis", "cividis", "PuOr_r"}
    for name, table in tables.items():
        expected = colormaps[name](np.arange(256))[:, :3] * 255
        np.testing.assert_allclose(table.reshape(256, 3), expected, atol=0.51)


def test_all_files_are_used_and_none_fetches_from_elsewhere():
    names = {path.name for path in viewer._FOLDER.iterdir() if path.suffix in (".js", ".css", ".html")}
    assert names == {*viewer.SCRIPTS, "viewer.html", "viewer.css"}
    for name in names:
        text = viewer.read_part(name).replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|@import|url\(", text), name


def test_the_skeleton_is_no_template():
    """Gradio fills `${…}` and `{{…}}`; the skeleton must not change when the value does."""
    assert not re.search(r"\$\{|\{\{|`", viewer.read_part("viewer.html"))


def test_every_button_has_its_act():
    html, script = viewer.read_part("viewer.html"), viewer.read_part("start.js")
    for act in re.findall(r'data-act="(\w+)"', html):
        assert re.search(rf'\b{act}: "|"{act}"', script), act
    for role in re.findall(r'role\("([\w-]+)"\)', viewer.read_script()):
        assert f'data-role="{role}"' in html, role
