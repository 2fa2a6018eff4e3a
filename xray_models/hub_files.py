"""What a model's repository holds: the same model for `transformers`, for timm, and for those without this package.

A checkpoint's folder is not changed; whatever the Hub needs beyond it is made in memory:

timm architectures    weights without the prefix `timm_model.`, and a config that `timm.create_model("hf-hub:...")`
                      reads too; `transformers` puts the prefix back when it loads them.
own architectures     `auto_map` in the config and the module that defines them, for `trust_remote_code=True`.
fusions               their members' weights in their own file.
"""

from __future__ import annotations

import ast
import contextlib
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import timm
from safetensors.torch import load_file, save
from transformers import CONFIG_MAPPING, MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING

from xray_models.cards import render_card
from xray_models.figures import Figures, take_figures
from xray_models.fusing import save_complete
from xray_models.hub_cache import FILES, check_config, check_files, find_folder, read_config
from xray_models.hub_client import HubError
from xray_models.revisions import hash_weights
from xray_models.tasks import CHECKPOINTS, ModelRef, Task, TaskError

_PROJECT = __name__.partition(".")[0]
_SIBLINGS = f"{_PROJECT}.architectures"  # modules in here may be uploaded; they lie side by side on the Hub too
_PREFIX = "timm_model."
_CRASHING = ("num_classes", "in_chans", "global_pool")  # timm's arguments that TimmWrapper passes a second time


def compose_files(task: Task, ref: ModelRef) -> dict[str, bytes | Path]:
    """Puts together what is uploaded for one model.

    Args:
        task: the model's task.
        ref: the model; its weights lie in its local folder, `checkpoints/<task>/<model>` for one that the panel takes
            from the Hub.

    Returns:
        Content by name in the repository: bytes, or the path of a file that goes as it is.

    Raises:
        HubError: when the folder lacks a file, has other labels, or its code cannot stand alone.
    """
    folder = ref.path or CHECKPOINTS / task.name / ref.name
    present = {path.name for path in folder.glob("*") if path.is_file()}
    check_files(present, f"checkpoints/{task.name}/{ref.name}")
    config = read_config(folder)
    check_config(task, config, present, f"checkpoints/{task.name}/{ref.name}")
    files: dict[str, bytes | Path] = {name: folder / name for name in FILES if name in present}
    if "README.md" not in files:
        files["README.md"] = _render(task, ref.name, config.get("second_read") or {}).encode()
    with _blame_config(ref.name):
        if config.get("sources"):
            config, files["model.safetensors"] = join_members(folder)
        if config.get("model_type") == "timm_wrapper":
            config = serve_timm(config)
            files["model.safetensors"] = strip_prefix(folder / "model.safetensors")
        else:
            auto_map, sources = collect_code(str(config.get("model_type")))
            config = {**config, "auto_map": auto_map} if auto_map else config
            files |= {name: text.encode() for name, text in sources.items()}
    files["config.json"] = (json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
    return files


def compose_card(task: Task, ref: ModelRef, metrics: Mapping[str, Any] | None = None) -> str:
    """Renders the card of a model as the panel asks it: in its local folder, or pulled from the Hub.

    Args:
        task: the model's task.
        ref: the model.
        metrics: the content of a `metrics.json`, for figures with bootstrap intervals; None for its config's figures.

    Raises:
        HubError: when the model is not pulled, or its config has no figures, or such as cannot be shown.
        TaskError: when the model is not there, or the metrics are not of it, or lack a figure.
    """
    folder = find_folder(task, ref)
    info = read_config(folder).get("second_read") or {}
    figures = None
    if metrics is not None:
        figures = _take_figures(task, ref, ref.revision or hash_weights(folder), metrics)
    return _render(task, ref.name, info, figures)


def _render(task: Task, name: str, info: dict[str, Any], figures: Figures | None = None) -> str:
    """As `render_card`; raises `HubError` where the config does not hold what a card shows."""
    with _blame_config(name):
        try:
            return render_card(task, info, figures)
        except KeyError as error:
            raise HubError(
                f"config.json of {name!r} lacks `second_read.{error.args[0]}`, which the card shows. "
                f"Train it with python -m xray_models.train --task {task.name} --model {name}, which writes it."
            ) from error


@contextlib.contextmanager
def _blame_config(name: str) -> Iterator[None]:
    """Says of what a model's config brings about that it is the config; raises `HubError`."""
    try:
        yield
    except (HubError, TaskError):
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise HubError(
            f"config.json of {name!r} holds a value of another kind than it should ({error}). Train, pull or copy the "
            "model again."
        ) from error


def _take_figures(task: Task, ref: ModelRef, digest: str, metrics: Mapping[str, Any]) -> Figures:
    """As `take_figures`; raises `TaskError` where a figure that the card shows is missing."""
    try:
        return take_figures(task, ref.name, digest, metrics)
    except (KeyError, TypeError, ValueError) as error:
        raise TaskError(
            f"The metrics of {ref.name!r} lack a figure or its interval: {error}. Evaluate it again: "
            f"python -m evaluation.run --task {task.name}"
        ) from error


def serve_timm(config: dict[str, Any]) -> dict[str, Any]:
    """Adds to a TimmWrapper config what `timm.create_model("hf-hub:...")` wants; `transformers` still reads it.

    Raises:
        HubError: when `model_args` repeats what TimmWrapper passes by itself.
    """
    args = config.get("model_args") or {}
    for name in _CRASHING:
        if name in args:
            raise HubError(
                f"config.json has `model_args.{name}`, which transformers passes to timm a second time and fails. "
                "Build the model without it; the labels and pretrained_cfg already say it."
            )
    known = timm.get_pretrained_cfg(config["architecture"])
    shape = {"classifier": known.classifier, "first_conv": known.first_conv} if known else {}
    both = {**config, "pretrained_cfg": {**shape, **config["pretrained_cfg"]}}
    if not args:
        both.pop("model_args", None)  # timm reads a null as a mapping
    return both


def strip_prefix(weights: Path) -> bytes:
    """Returns a TimmWrapper's weights under timm's own names, as safetensors."""
    state = {name.removeprefix(_PREFIX): tensor for name, tensor in load_file(weights).items()}
    return save(state, metadata={"format": "pt"})


def join_members(fusion: Path) -> tuple[dict[str, Any], bytes]:
    """Returns the config and the weights of a fusion that holds its members itself.

    Raises:
        HubError: when a member's weights are missing, or not those that the fusion was trained with.
    """
    with tempfile.TemporaryDirectory() as made:
        try:
            save_complete(fusion, Path(made))
        except OSError as error:
            raise HubError(str(error)) from error
        return read_config(Path(made)), (Path(made) / "model.safetensors").read_bytes()


def collect_code(model_type: str) -> tuple[dict[str, str], dict[str, str]]:
    """Collects the source of an architecture that `transformers` does not have.

    Args:
        model_type: as `config.json` names it.

    Returns:
        `auto_map` for the config, and source text by file name; both empty for a native architecture.

    Raises:
        HubError: for an unknown type, or a module that imports what cannot be uploaded beside it.
    """
    if model_type not in CONFIG_MAPPING:
        raise HubError(
            f"config.json has the model_type {model_type!r}, which neither transformers nor {_PROJECT} knows."
        )
    config_class = CONFIG_MAPPING[model_type]
    if not config_class.__module__.startswith(f"{_SIBLINGS}."):
        return {}, {}
    model_class = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING[config_class]
    classes: dict[str, Any] = {"AutoConfig": config_class, "AutoModelForImageClassification": model_class}
    auto_map = {auto: f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}" for auto, cls in classes.items()}
    sources: dict[str, str] = {}
    waiting = [cls.__module__ for cls in classes.values()]
    while waiting:
        module = waiting.pop()
        name = f"{module.rpartition('.')[2]}.py"
        if name not in sources:
            text = Path(str(sys.modules[module].__file__)).read_text(encoding="utf-8")
            waiting += find_siblings(text, name)
            sources[name] = re.sub(rf"^(\s*)from {re.escape(_SIBLINGS)}\.", r"\1from .", text, flags=re.MULTILINE)
    return auto_map, sources


def find_siblings(text: str, name: str) -> list[str]:
    """Lists the modules of `architectures` that a module's source imports.

    Raises:
        HubError: when it imports anything else of the project, which a repository of the Hub cannot hold.
    """
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            modules = ["." * node.level + (node.module or "")]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            continue
        for module in modules:
            sibling = re.fullmatch(rf"(?:\.|{re.escape(_SIBLINGS)}\.)(\w+)", module)
            if sibling and isinstance(node, ast.ImportFrom):
                found.append(f"{_SIBLINGS}.{sibling[1]}")
            elif module.startswith(".") or module.partition(".")[0] == _PROJECT:
                raise HubError(
                    f"{name}, line {node.lineno}: {ast.unparse(node)!r} cannot be uploaded. A module for remote code "
                    f"may import, of this project, only `from {_SIBLINGS}.<module> import ...`."
                )
    return found
