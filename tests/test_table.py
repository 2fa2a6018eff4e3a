import json

import pytest

from evaluation.table import main, render_table

KNOWN = {"value": 0.9, "low": 0.8, "high": 0.95}
SCORES = dict.fromkeys(("accuracy", "balanced_accuracy", "auroc", "ece", "ece_by_chance"), KNOWN)
METRICS = {"n": 20, "split": "test", "command": "c", "models": {"a": SCORES}}


def test_figures_that_are_not_known_are_left_open():
    scores = SCORES | {"auroc": dict.fromkeys(KNOWN), "ece": dict.fromkeys(KNOWN) | {"value": 0.1}}
    table = render_table(METRICS | {"models": {"a": scores}})
    assert (
        table.splitlines()[-1]
        == "| a | 0.900 (0.800 to 0.950) | 0.900 (0.800 to 0.950) | – | 0.100 | 0.900 (0.800 to 0.950) |"
    )


def test_sensitivity_is_also_told_where_one_in_twenty_may_be_a_false_alarm():
    operating = {
        label: {"specificity_95": {"sensitivity": score}, "youden": {"sensitivity": dict.fromkeys(KNOWN, 0.1)}}
        for label, score in (("A", KNOWN), ("B", dict.fromkeys(KNOWN)))
    }
    table = render_table(METRICS | {"models": {"a": SCORES, "consensus": SCORES | {"operating": operating}}})
    assert table.splitlines()[-1].endswith("on other folds of the test images: A 0.900 (0.800 to 0.950), B –.")
    assert "other folds" not in render_table(METRICS)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot be read as a metrics.json"),
        ("{", "cannot be read as a metrics.json"),
        ("[]", "holds no figures of models"),
        ('{"task": "covid", "split": "test"}', "holds no figures of models"),
        (json.dumps(METRICS | {"models": {"a": {}}}), "is no whole metrics.json: 'accuracy'"),
    ],
)
def test_what_is_no_metrics_file_is_a_sentence(tmp_path, capsys, text, says):
    if text is not None:
        (tmp_path / "metrics.json").write_text(text)
    assert main([str(tmp_path / "metrics.json")]) == 2
    assert says in capsys.readouterr().err
