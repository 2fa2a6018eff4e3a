import copy
import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from evaluation.document import Grid, Paragraph, Plot, Report, Section
from evaluation.markdown import render_markdown
from evaluation.page import render_page
from evaluation.plots import list_plots, render_svg, save_png
from evaluation.predictions import CONSENSUS, Case, tabulate
from evaluation.report import build_report
from evaluation.scoring import score
from evaluation.summary import format_range, format_value, summarise
from evaluation.worklist import judge_worklist
from xray_models.readings import Opinion, agree
from xray_models.tasks import load_task

TASK = dataclasses.replace(load_task("phantom"), title="Chest <b>& more")
EVIL = '<script>alert("x")</script>'
FAULTS = pd.DataFrame([[EVIL, "Nodule", "the file ends <early>"]], columns=["image", "label", "reason"])


def make_case(number: int, said: list[str]) -> Case:
    opinions = []
    for model, label in zip(("first", "sec<ond"), said, strict=False):
        probs = dict.fromkeys(TASK.labels, 0.1) | {label: 0.7}
        opinions.append(Opinion(model, "rev", label=label, probs=probs, prediction_set=(label,)))
    return Case(f"{EVIL}{number}.png", str(number), TASK.labels[number % 4], tuple(opinions), agree(TASK, opinions))


def make_table(models: int = 2):
    cases = []
    for number in range(40):
        truth = TASK.labels[number % 4]
        wrong = TASK.labels[(number + 1) % 4]
        said = [truth if number % 5 else wrong, truth if number % 8 else wrong]
        cases.append(make_case(number, said[:models]))
    return tabulate(TASK, cases)


def judge(table):
    more = {
        "task": "phantom",
        "split": "test",
        "command": f"python -m evaluation.run --task {EVIL}",
        "seed": 0,
        "resamples": 200,
        "unavailable": {"third": f"no weights {EVIL}"},
        "faults": 1,
        "made_with": {"seen": 30, "images": 70},
    }
    return score(table, 200, 0) | more | {"worklist": judge_worklist(table, 200, 0, noise=0.1)}


@pytest.fixture(scope="module")
def judged():
    table = make_table()
    return table, judge(table)


@pytest.fixture(scope="module")
def report(judged):
    table, scores = judged
    return build_report(TASK, table, scores, FAULTS)


@pytest.fixture(scope="module")
def page(report):
    return render_page(report, {report.images[0]: b"\xff\xd8\xff"})


class Tags(HTMLParser):
    """Collects every tag with its attributes, and checks that tags close in order."""

    void = frozenset({"meta", "img", "br"})

    def __init__(self):
        super().__init__()
        self.found, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_from_outside(page):
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    names = {tag for tag, _ in tags.found}
    assert not names & {"script", "link", "iframe", "object"}
    links = [value for _, attrs in tags.found for key, value in attrs.items() if key in ("src", "href", "xlink:href")]
    assert all(link.startswith(("data:image/", "#")) for link in links)
    anchors = {attrs["id"] for _, attrs in tags.found if "id" in attrs}
    assert {link[1:] for link in links if link.startswith("#")} <= anchors
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_every_name_is_escaped(page):
    assert EVIL not in page
    assert "sec<ond" not in page
    assert "Chest <b>" not in page
    assert "&lt;script&gt;" in page
    assert "the file ends &lt;early&gt;" in page


def test_the_page_says_what_was_measured(page, judged, report):
    _, scores = judged
    text = re.sub(r"<[^>]+>", " ", page)
    found = scores["models"]["consensus"]["accuracy"]
    assert f"right in {100 * found['value']:.1f}\N{NO-BREAK SPACE}%" in text
    for expected in ("Not a medical device", "Apache-2.0", "third: no weights", "200 resamples, seed 0", "Fleiss"):
        assert expected in text
    shown = sum(len(block.pictures) for s in report.sections for block in s.blocks if hasattr(block, "pictures"))
    assert page.count("<article") == shown
    assert page.count("data:image/jpeg") == sum(
        picture.image == report.images[0]
        for s in report.sections
        for block in s.blocks
        if hasattr(block, "pictures")
        for picture in block.pictures
    )


def test_the_same_input_gives_the_same_page(page, judged):
    table, scores = judged
    again = build_report(TASK, table, scores, FAULTS)
    assert render_page(again, {again.images[0]: b"\xff\xd8\xff"}) == page


def test_every_figure_stands_in_the_tables(report, judged):
    """Each model's row holds what metrics.json holds, and each row is as long as the head."""
    _, scores = judged
    grids = [block for section in report.sections for block in section.blocks if isinstance(block, Grid)]
    assert all(len(row) == len(grid.heads) for grid in grids for row in grid.rows)
    answers = next(grid for grid in grids if grid.caption.startswith("Answers."))
    place = answers.heads.index("AUROC")
    for row in answers.rows:
        assert row[place].text == format_value(scores["models"][row[0]]["auroc"]["value"], "auroc")
    differ = next(grid for grid in grids if grid.caption.startswith("Images on which two give"))
    for row, pair in zip(differ.rows, scores["pairs"], strict=True):
        assert [int(cell) for cell in row[1:]] == [pair["differ"][k] for k in ("n", "a_right", "b_right", "neither")]


def test_markdown_says_the_same_and_escapes(report, judged):
    _, scores = judged
    text = render_markdown(report)
    assert "<script>" not in text
    assert "sec\\<ond" in text
    assert f"{100 * scores['models'][CONSENSUS]['accuracy']['value']:.1f}" in text
    assert all(f"]({figures.name}.png)" in text for figures in report.figures)
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == [s.title for s in report.sections]
    widths = {}
    for number, line in enumerate(text.splitlines()):
        if line.startswith("|"):
            widths.setdefault(number - len(widths.get(number - 1, [])), []).append(line)
    assert render_markdown(report) == text


def test_a_name_cannot_break_a_markdown_table():
    row = ("a|b\nc", "*x*")
    section = Section("T", (Grid("c", ("h", "i"), (row,)), Paragraph("# not a head")))
    text = render_markdown(Report("t", "", (), (), "", (), (section,)))
    assert "| a\\|b c | \\*x\\* |" in text
    assert "\n# not a head" not in text


def test_the_best_model_is_one_that_has_answered_as_often_as_the_consensus(judged):
    table, scores = judged
    fewer = copy.deepcopy(scores)
    fewer["models"]["sec<ond"]["n"] -= 1
    assert "The best single model on these images, first, is right in" in " ".join(summarise(TASK, table, fewer))
    fewer["models"]["first"]["n"] -= 1
    assert "best single model" not in " ".join(summarise(TASK, table, fewer))


def test_summary_counts_right(judged):
    table, scores = judged
    sentences = summarise(TASK, table, scores)
    assert sentences[0].startswith("On 40 test images, the consensus of 2 models is right in")
    assert "most frequent label, Normal, every time would be right in 25.0\N{NO-BREAK SPACE}%" in sentences[1]
    assert "The best single model on these images, sec<ond, is right in 87.5\N{NO-BREAK SPACE}%" in sentences[3]
    pair = next(pair for pair in scores["pairs"] if CONSENSUS not in (pair["a"], pair["b"]))
    assert f"first and sec<ond (p = {pair['holm_p']:.2f})".replace(" = ", "\xa0=\xa0") in sentences[4]
    assert f"disagree on {int(table.divided.sum())} images" in sentences[5]
    assert "finds" in sentences[6]


def test_words_count_images_and_pairs(judged):
    table, scores = judged
    words = " ".join(summarise(TASK, table, scores))
    right = (table.answers[CONSENSUS].predicted == table.truth)[table.divided]
    assert f"is right in {right.sum()} of {len(right)} (" in words
    pairs = [pair | {"holm_p": None} for pair in scores["pairs"]]
    unknown = " ".join(summarise(TASK, table, scores | {"pairs": pairs}))
    assert "Whether the models differ in accuracy cannot be told." in unknown
    alone = dataclasses.replace(TASK, positive=("Nodule",))
    assert "Of the images that show Nodule, it names" in " ".join(summarise(alone, table, scores))


def test_where_nothing_is_missed_no_finding_is_missed_most():
    cases = [make_case(number, [TASK.labels[number % 4]] * 2) for number in range(8)]
    table = tabulate(TASK, cases)
    sentences = summarise(TASK, table, judge(table))
    assert "It misses none of the findings that these images show." in sentences
    assert "misses most" not in " ".join(sentences)


@pytest.mark.filterwarnings("error::UserWarning")
def test_one_image_is_one_image_of_one_group_and_draws_no_empty_legend():
    table = tabulate(TASK, [make_case(1, [TASK.labels[2]] * 2)])
    scores = judge(table)
    assert summarise(TASK, table, scores)[0].startswith("On 1 test image, the consensus")
    page = render_page(build_report(TASK, table, scores, FAULTS), {})
    assert "in 1 group<" in page and "1 group of 1 image" in page
    assert "Of 1 image, those highest" in page and "1 groups" not in page


def test_bounds_that_are_one_are_not_called_certain():
    assert format_range({"value": 1.0, "low": 1.0, "high": 1.0}, "accuracy") == "no spread"
    assert format_range({"value": 1.0, "low": 0.9996, "high": 1.0}, "auroc") == "1.000 to 1.000"


def test_sets_that_hold_the_truth_too_seldom_are_named(judged):
    table, scores = judged
    low = {
        name: found | {"coverage": {"value": 0.8, "low": 0.7, "high": 0.85}} for name, found in scores["models"].items()
    }
    page = render_page(build_report(TASK, table, scores | {"models": low}, FAULTS), {})
    assert "prediction sets of first, sec&lt;ond hold the truth in fewer of these images" in page
    given = build_report(TASK, table, scores | {"models": low, "split": "given"}, FAULTS)
    assert "in fewer of these images" not in render_page(given, {})


@pytest.mark.parametrize(("gap", "says"), [(0.05, "too sure"), (-0.05, "not sure enough")])
def test_calibration_errors_beyond_chance_are_named(judged, gap, says):
    table, scores = judged
    chance = {"value": 0.02, "low": 0.01, "high": 0.04}
    within = {"ece": {"value": 0.03, "low": 0.01, "high": 0.05}, "ece_by_chance": chance}
    beyond = within | {"ece": {"value": 0.06, "low": 0.04, "high": 0.08}, "overconfidence": dict.fromkeys(chance, gap)}
    models = {name: found | (within if name == "first" else beyond) for name, found in scores["models"].items()}
    page = render_page(build_report(TASK, table, scores | {"models": models}, FAULTS), {})
    assert f"Calibration errors beyond chance: sec&lt;ond is {says}, {CONSENSUS} is {says}." in page
    assert ("is less sure than it is right" in page) == (gap < 0)
    alike = {name: found | within for name, found in models.items()}
    page = render_page(build_report(TASK, table, scores | {"models": alike}, FAULTS), {})
    assert "errors beyond chance" not in page


def test_a_panel_of_one_has_no_agreement():
    table = make_table(models=1)
    scores = judge(table)
    assert scores["agreement"]["fleiss_kappa"] is None
    assert "There is only one model." in render_page(build_report(TASK, table, scores, FAULTS), {})
    assert "first, the only model," in summarise(TASK, table, scores)[0]


def test_intervals_that_one_group_leaves_undefined_are_not_known():
    table = make_table()
    table = dataclasses.replace(table, groups=np.zeros(len(table.images), int))
    report = build_report(TASK, table, judge(table), FAULTS)
    page = render_page(report, {})
    assert "interval not known" in page
    assert "whether that is chance cannot be told" in page
    for word in ("None", "nan"):
        assert word not in re.sub(r"<svg.*?</svg>|<style.*?</style>", "", page, flags=re.S)


def test_plots_take_the_page_s_colours(judged, tmp_path):
    plots = list_plots(*judged)
    assert {name: len(found) for name, found in plots.items()} == {
        "accuracy": 1,
        "confusion": 3,
        "roc": 4,
        "reliability": 3,
    }
    for name, found in plots.items():
        svg = render_svg(found[0])
        assert svg.startswith("<svg")
        assert "var(--ink)" in svg
        assert not re.search(r"#(?!ffffff)[0-9a-f]{6}[;\"]", svg), name
        save_png(found, tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("value", "metric", "text"),
    [
        (0.9518, "accuracy", "95.2"),
        (0.9518, "auroc", "0.952"),
        (-0.021, "mcc", "−0.021"),
        (-0.0002, "mcc", "0.000"),
        (None, "auroc", "–"),
    ],
)
def test_numbers_are_written_as_people_write_them(value, metric, text):
    assert format_value(value, metric) == text


def test_each_share_has_the_count_that_it_is_a_share_of(page):
    sensitivity, specificity = page.replace("&nbsp;", " ").split("Specificity, %: of the images without it")
    assert "Nodule (n = 10)" in sensitivity
    assert "Nodule (n = 30)" in specificity


def test_a_number_and_its_percent_sign_stay_on_one_line(page):
    text = re.sub(r"<svg.*?</svg>|<style.*?</style>", "", page, flags=re.S)
    assert len(re.findall(r"\d&nbsp;%", text)) > 1
    assert not re.search(r"\d %", text)


def test_a_dollar_sign_in_a_name_is_one(tmp_path):
    plot = Plot(r"a$\frac$", lambda axes: axes.plot([0, 1], label=r"$\none$") and axes.legend())
    svg = render_svg(plot)
    save_png([plot], tmp_path / "plot.png")
    assert r"$\none$" in svg and (tmp_path / "plot.png").stat().st_size
