"""The evaluation's report, as a browser lays it out."""

import pytest

from evaluation.document import Grid, Report, Section
from evaluation.page import render_page
from tests.browser.chromium import DESK, NEEDS_CHROMIUM, PHONE, RUNNING

pytestmark = NEEDS_CHROMIUM
SENTENCE = "Internal: models of this panel were made with 3,762 of the data's 4,426 images; none of them is judged"


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_a_table_of_sentences_can_be_read_beside_its_heads(size):
    """On a phone its heads kept to one line each, which left the sentences a word a line beyond the screen's edge."""
    rows = (("Training procedure and choice of the final model", "In each model's card"), ("Testing", SENTENCE))
    sections = (Section("Checklist", (Grid("What is known.", ("Item", "Known here"), rows, "words"),)),)
    report = render_page(Report("Title", "Lead", (), (), "Notice", (), sections), {})
    page = RUNNING.new_context(viewport=size).new_page()
    page.set_content(report)
    cell = page.get_by_text(SENTENCE).bounding_box()
    RUNNING.close_contexts()
    assert cell["x"] + cell["width"] <= size["width"]
    assert cell["width"] > 120
    assert cell["height"] < 250
