import dataclasses

import pytest

from xray_models import train
from xray_models.fields import TaskError
from xray_models.policies import POLICIES
from xray_models.recipes import _CHOICES, Recipe, describe_fields


def test_a_policy_is_one_of_those_that_there_are():
    with pytest.raises(TaskError, match=f"Valid: {', '.join(POLICIES)}\\."):
        Recipe(augment="")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epochs": 0}, "epochs is 0; it must be a finite number above 0."),
        ({"learning_rate": float("nan")}, "learning_rate is nan; it must be a finite number above 0."),
        ({"dropout": 1.0}, r"dropout is 1.0; it must be a finite number in \[0, 1\)."),
        ({"teaching": 1.1}, r"teaching is 1.1; it must be a finite number in \[0, 1\]."),
        ({"layer_decay": 0.0}, r"layer_decay is 0.0; it must be a finite number in \(0, 1\]."),
        ({"mixup": -0.1}, "mixup is -0.1; it must be a finite number of 0 or more."),
        ({"optimizer": "sgdd"}, "Did you mean 'sgd'"),
    ],
)
def test_a_value_that_cannot_be_is_refused(change, says):
    with pytest.raises(TaskError, match=says):
        Recipe(**change)
    with pytest.raises(TaskError, match=says):
        dataclasses.replace(Recipe(), **change)


def test_every_field_is_described_with_the_words_that_it_may_be(capsys):
    said = describe_fields()
    assert list(said) == [field.name for field in dataclasses.fields(Recipe)]
    for name, words in _CHOICES.items():
        assert all(f"`{word}`" in said[name] for word in words), name
    with pytest.raises(SystemExit):
        train.main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "none, loss (weighted by inverse frequency), sampler" in shown


def test_values_at_the_ends_of_their_ranges_are_taken():
    assert Recipe(mixup=0, dropout=0, ema=0, teaching=1, layer_decay=1, image_size=0).teaching == 1


def test_an_option_without_a_number_of_its_own_takes_one(capsys):
    options = train._parse(["--task", "phantom", "--model", "simple_cnn", "--out", "out", "--dropout", "0"])
    assert (options.dropout, options.ema) == (0.0, None)
    with pytest.raises(SystemExit):
        train._parse(["--task", "phantom", "--model", "simple_cnn", "--out", "out", "--dropout", "little"])
    assert "--dropout: invalid float value" in capsys.readouterr().err
