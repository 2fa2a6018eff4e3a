"""The intended-use notice: shown until a reader of this browser has put it away. The disclaimer stays beside it."""

from __future__ import annotations

import gradio as gr

_TEXT = (
    '<aside class="sr-notice" aria-label="Intended use" hidden><p><b>For research and teaching only.</b> '
    "Not a medical device. Heatmaps are not lesion markers. Do not use it for patients’ care.</p>"
    '<button type="button">Understood</button></aside>'
)
_ON_LOAD = """
const KEY = 'second-read-intended-use';
const notice = element.querySelector('.sr-notice');
notice.hidden = localStorage.getItem(KEY) === 'understood';
notice.querySelector('button').addEventListener('click', () => {
  localStorage.setItem(KEY, 'understood');
  notice.hidden = true;
  document.querySelector('.vw-stage')?.focus({preventScroll: true}); // where the keys go; the button is gone
});
"""


def build_notice() -> None:
    """Adds the notice to the current `gr.Blocks`; it waits at the top and takes no focus."""
    gr.HTML(_TEXT, elem_id="notice", js_on_load=_ON_LOAD)
