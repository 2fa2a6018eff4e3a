import numpy as np
import pytest
from PIL import Image

from xray_models.curves import _draw, plot_curves

HISTORY = [
    {"epoch": 1.0, "loss": 0.9, "learning_rate": 1e-4},
    {"epoch": 1.0, "eval_log_loss": 0.8, "eval_accuracy": 0.6},
    {"epoch": 2.0, "loss": 0.5, "learning_rate": 5e-5},
    {"epoch": 2.0, "eval_log_loss": 0.6, "eval_accuracy": 0.75},
    {"epoch": 2.0, "train_runtime": 3.0},
]


def test_the_curves_are_the_histories():
    loss, accuracy, rate = _draw(HISTORY).axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in loss.lines}
    assert drawn == {"training (as optimised)": [[1, 0.9], [2, 0.5]], "validation": [[1, 0.8], [2, 0.6]]}
    assert accuracy.lines[0].get_xydata().tolist() == [[1, 0.6], [2, 0.75]]
    assert rate.lines[0].get_xydata().tolist() == [[1, 1e-4], [2, 5e-5]]


@pytest.mark.parametrize(
    ("accuracies", "expected"), [((0.6, 0.8), {"60%", "65%", "80%"}), ((0.956, 0.96), {"95.6%", "96%"})]
)
def test_ticks_have_as_many_digits_as_they_need(accuracies, expected):
    history = [{"epoch": float(n), "eval_accuracy": value} for n, value in enumerate(accuracies)]
    figure = _draw([*HISTORY[:1], *history])
    figure.canvas.draw()
    drawn = [tick.get_text() for tick in figure.axes[1].get_yticklabels()]
    assert expected <= set(drawn)
    assert len(set(drawn)) == len(drawn)


def test_the_same_history_gives_the_same_picture(tmp_path):
    pictures = []
    for name, history in (("a", HISTORY), ("b", HISTORY), ("c", HISTORY[:2])):
        plot_curves(history, tmp_path / f"{name}.png")
        pictures.append(np.asarray(Image.open(tmp_path / f"{name}.png").convert("L")))
    assert pictures[0].shape[1] > 2 * pictures[0].shape[0]
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])
