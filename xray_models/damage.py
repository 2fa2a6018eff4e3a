"""What is wrong with a model's folder, said in one sentence that names the file and no place of this machine."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from xray_models.tasks import TaskError

_FITTED = {  # what a panel takes from `second_read`: the least and the greatest, and whether the least is valid itself
    "conformal_threshold": (0.0, 1.0, True, "a number from 0 to 1"),
    "ood_distance": (0.0, math.inf, False, "a finite number above 0"),
}
_RAISED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
)  # by libraries, on files that they do not expect


@contextlib.contextmanager
def blame(file: str, model: str, folder: Path) -> Iterator[None]:
    """Says of whatever a library raises on a damaged file which file of which model that is.

    Args:
        file: its bare name.
        model: the model's name.
        folder: the model's; left out of what is said.

    Raises:
        TaskError: in the place of the library's own error.
    """
    try:
        yield
    except TaskError:
        raise
    except FileNotFoundError as error:
        missing = Path(error.filename).name if error.filename else file
        raise TaskError(f"{missing} of model {model!r} is missing. Train, pull or copy it again.") from error
    except _RAISED as error:
        detail = _describe(error, folder)
        if detail and isinstance(error, OSError) and error.errno is None:
            raise TaskError(str(error)) from error  # a fusion's own sentence about its members
        what = f"{file} ({detail})" if detail else file
        raise TaskError(f"model {model!r} has a damaged {what}. Train, pull or copy it again.") from error


@contextlib.contextmanager
def blame_weights(model: str) -> Iterator[None]:
    """Like `blame`, for a model's safetensors alone: other errors pass."""
    try:
        yield
    except SafetensorError as error:
        raise TaskError(
            f"the weights of model {model!r} are damaged (model.safetensors: {error}). Train, pull or copy it again."
        ) from error


def _describe(error: Exception, folder: Path) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    text = next(iter(str(error).splitlines()), "").rstrip(". ")
    return "" if any(str(place) in text for place in (folder, folder.resolve())) else text


def check_files(folder: Path, model: str) -> None:
    """Raises `TaskError` unless a model's folder has a config, and weights, all of which may be read.

    Args:
        folder: the model's.
        model: its name.
    """
    for path in sorted(folder.glob("*.*")):
        if path.suffix in (".json", ".safetensors") and not os.access(path, os.R_OK) and path.exists():
            raise TaskError(
                f"{path.name} of model {model!r} may not be read by this account. Change its permissions (chmod a+r)."
            )
    with blame("config.json", model, folder):
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if not isinstance(config, Mapping) or not {"model_type", "pretrained_cfg"} & set(config):
            raise ValueError("it names no model_type")
    if not (folder / "model.safetensors").is_file():
        raise TaskError(f"model.safetensors of model {model!r} is missing. Train, pull or copy it again.")


def read_fitted(info: Any, key: str, model: str) -> float | None:
    """Reads a number that calibration fitted; None where it is not fitted.

    Args:
        info: `second_read` of the model's `config.json`.
        key: `conformal_threshold` or `ood_distance`.
        model: the model's name.

    Raises:
        TaskError: when it is none that a panel could compare with.
    """
    if not isinstance(info, Mapping):
        raise TaskError(
            f"second_read in config.json of model {model!r} is {info!r}; it must be a mapping. "
            "Train, pull or copy it again."
        )
    value = info.get(key)
    if value is None:
        return None
    least, greatest, closed, words = _FITTED[key]
    fits = type(value) in (int, float) and math.isfinite(value) and least <= value <= greatest
    if not fits or (value == least and not closed):
        raise TaskError(
            f"{key} in config.json of model {model!r} is {value!r}; it must be {words}. Train, pull or copy it again."
        )
    return float(value)
