"""Reliability diagrams of the page of the models, drawn as SVG. No gradio here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from xray_models.figures import Bin

_SIDE, _LEFT, _TOP, _BELOW = 100, 12, 3, 14  # of the drawing; its square of figures begins at the left and the top
_SCALE = f'x="{_LEFT}" y="{_TOP}" width="{_SIDE}" height="{_SIDE}"'
_NOTE = (
    "Right answers by confidence: on the diagonal a probability means what it says; below it, the model is too sure. "
    "Dots: as many test images each. Lines: 95 % intervals (Wilson, which takes each image as independent)."
)


def render_reliability(models: Iterable[tuple[str, Sequence[Bin]]]) -> str:
    """Draws a diagram for each model; "" where there is none.

    Args:
        models: each model's title and the bins of its evaluation, the least sure first; none where there is none.
    """
    drawn = "".join(_render_diagram(title, bins) for title, bins in models if bins)
    if not drawn:
        return ""
    return f'<h2 class="sr-sub">Reliability</h2><div class="sr-diagrams">{drawn}</div><p class="sr-quiet">{_NOTE}</p>'


def _render_diagram(title: str, bins: Sequence[Bin]) -> str:
    dots = [(_across(each.confidence), _down(each.accuracy.value or 0.0)) for each in bins]
    lines = "".join(
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_down(each.accuracy.low or 0.0):.1f}" '
        f'y2="{_down(1.0 if each.accuracy.high is None else each.accuracy.high):.1f}"/>'
        for (x, _), each in zip(dots, bins, strict=True)
    )
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in dots)
    marks = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.8"/>' for x, y in dots)
    gap = max(abs(each.confidence - (each.accuracy.value or 0.0)) for each in bins)
    about = escape(f"Reliability of {title}: the largest gap is {100 * gap:.0f} %")
    return (
        f'<figure><svg viewBox="0 0 {_LEFT + _SIDE + 3} {_TOP + _SIDE + _BELOW}" role="img" aria-label="{about}">'
        f'<rect {_SCALE}/><path d="M{_LEFT} {_TOP + _SIDE}L{_LEFT + _SIDE} {_TOP}"/><g class="sr-spread">{lines}</g>'
        f'<polyline points="{path}"/>{marks}{_render_scales()}</svg><figcaption>{escape(title)}</figcaption></figure>'
    )


def _render_scales() -> str:
    end, foot = _LEFT + _SIDE, _TOP + _SIDE
    return (
        f'<text x="{_LEFT}" y="{foot + 9}">0</text><text x="{end}" y="{foot + 9}" text-anchor="end">1</text>'
        f'<text x="{_LEFT + _SIDE / 2}" y="{foot + 10}" text-anchor="middle">confidence</text>'
        f'<text x="{_LEFT - 3}" y="{foot}" text-anchor="end">0</text>'
        f'<text x="{_LEFT - 3}" y="{_TOP + 7}" text-anchor="end">1</text>'
    )


def _across(value: float) -> float:
    return _LEFT + _SIDE * value


def _down(value: float) -> float:
    return _TOP + _SIDE * (1 - value)
