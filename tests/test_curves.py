import numpy as np
from PIL import Image

from xray_models.curves import plot_curves

HISTORY = [
    {"epoch": 1.0, "loss": 0.9, "learning_rate": 1e-4},
    {"epoch": 1.0, "eval_log_loss": 0.8, "eval_accuracy": 0.6},
    {"epoch": 2.0, "loss": 0.5, "learning_rate": 5e-5},
    {"epoch": 2.0, "eval_log_loss": 0.6, "eval_accuracy": 0.75},
    {"epoch": 2.0, "train_runtime": 3.0},
]


def test_the_curves_follow_the_history(tmp_path):
    plot_curves(HISTORY, tmp_path / "a.png")
    plot_curves(HISTORY, tmp_path / "b.png")
    changed = [{**entry, "eval_accuracy": 0.9} if "eval_accuracy" in entry else entry for entry in HISTORY]
    plot_curves(changed, tmp_path / "c.png")
    a, b, c = (np.asarray(Image.open(tmp_path / f"{name}.png").convert("L")) for name in "abc")
    assert a.shape[1] > 2 * a.shape[0]
    assert np.array_equal(a, b)
    third = a.shape[1] // 3
    assert not np.array_equal(a[:, third : 2 * third], c[:, third : 2 * third])
    assert np.array_equal(a[:, :third], c[:, :third])
