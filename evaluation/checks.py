"""The checks that look at the images again, beside the models' answers: robustness, heatmaps, audit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from evaluation.audit import Audit, audit_dataset
from evaluation.audit_section import build_audit_section
from evaluation.document import Section
from evaluation.heatmaps import build_heatmap_section, judge_heatmaps
from evaluation.margins import judge_margins
from evaluation.robustness import build_robustness_section, judge_robustness
from xray_models import attribution
from xray_models.datasets import Manifest
from xray_models.panel import Panel


class Sizes(NamedTuple):
    """How many images each check looks at; 0 leaves it out."""

    robustness: int
    heatmaps: int
    margins: int


class Checked(NamedTuple):
    """What the checks found.

    Attributes:
        found: plain data by key of `metrics.json`.
        sections: of the report, in order.
        words: sentences for the report's first lines.
        audit: the audit with its tables; None where it was left out.
    """

    found: Mapping[str, Any] = {}
    sections: tuple[Section, ...] = ()
    words: tuple[str, ...] = ()
    audit: Audit | None = None

    def add(self, key: str, found: Any, section: Section) -> Checked:
        """With one more check: its plain data and its section."""
        return self._replace(found={**self.found, key: found}, sections=(*self.sections, section))


def run_checks(panel: Panel, manifest: Manifest, split: str, sizes: Sizes, seed: int) -> Checked:
    """Runs the checks.

    Args:
        panel: the models.
        manifest: the data; the audit looks at all of it.
        split: whose images the models are asked about.
        sizes: how many images.
        seed: of every choice of images.
    """
    rows, folder = manifest.part(split), manifest.folder
    found: dict[str, Any] = {}
    sections = []
    if sizes.robustness:
        found["robustness"] = judge_robustness(panel, rows, folder, sizes.robustness, seed)
        sections.append(build_robustness_section(found["robustness"]))
    if sizes.heatmaps:
        found["heatmaps"] = judge_heatmaps(panel, rows, folder, sizes.heatmaps, seed, attribution.DEFAULT)
        sections.append(build_heatmap_section(found["heatmaps"]))
    if not sizes.margins:
        return Checked(found, tuple(sections))
    audit = audit_dataset(panel.task, manifest, judge_margins(panel, rows, folder, sizes.margins, seed), seed)
    found["audit"] = audit.found
    sections.append(build_audit_section(audit.found))
    return Checked(found, tuple(sections), tuple(audit.found["alarms"]), audit)
