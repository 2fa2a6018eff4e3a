from xray_models.commands import show_command


def test_folders_stand_for_themselves_and_the_rest_is_kept():
    words = ["--task", "covid", "--data", "/home/me/x", "--out=/tmp/y", "--models", "resnet18", "vit_tiny"]
    assert show_command("evaluation.run", words) == (
        "python -m evaluation.run --task covid --data DATA --out=OUT --models resnet18 vit_tiny"
    )
    assert show_command("m", ["--predictions", "/a.csv", "/b.csv"]) == "python -m m --predictions FILE FILE"


def test_what_is_kept_and_quoted():
    assert show_command("m", ["--out", "checkpoints/a b"], keep=["--out"]) == "python -m m --out 'checkpoints/a b'"
