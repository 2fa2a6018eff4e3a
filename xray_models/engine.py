"""What runs a model's body: torch, or OpenVINO on the CPU. The head stays in torch, and with it Grad-CAM.

OpenVINO computes in bfloat16 where the processor does and the body bears it, else in single precision. A body is
converted once and kept in the cache, under the hash of its weights; before it is used, its features of drawn images,
and what the model makes of them, are compared with torch's.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import torch
from torch import nn

from xray_models.architectures import FusedParts, Parts
from xray_models.arrays import cache_folder
from xray_models.checkpoints import Checkpoint
from xray_models.images import InputSpec
from xray_models.tasks import TaskError, choose

_log = logging.getLogger(__name__)
ENGINES = ("auto", "torch", "openvino")
TOLERANCE = 5e-3  # difference of a probability that an engine may make
ROUNDING = 5e-2  # of a body's features, as a share of them: with more, labels and Grad-CAMs of real images differ
_BEARABLE = {"bf16": 0.3, "f32": 1e-3}  # what a body from the cache may lose and not be damaged
_LAYOUT = 1  # of the cached files


class Engine(NamedTuple):
    """How one model's body is run.

    Attributes:
        name: "torch", or "openvino" and the precision: "bf16", "f32", "bf16+f32" where a fusion's members differ.
        parts: the model's parts, whose bodies it runs.
        reason: why it is torch although more was asked for, or "".
    """

    name: str
    parts: Parts | FusedParts
    reason: str = ""


def build_engine(checkpoint: Checkpoint, kind: str = "auto") -> Engine:
    """Builds what runs a model's body.

    Args:
        checkpoint: a loaded model, on the CPU for OpenVINO.
        kind: one of `ENGINES`. "auto" takes OpenVINO where it is installed, converts the model and agrees with torch
            on drawn images (features within `ROUNDING`, probabilities within `TOLERANCE`, the same label), else
            torch; "openvino" insists.

    Raises:
        TaskError: for an unknown kind, or when OpenVINO was asked for and cannot be had.
    """
    choose("engine", kind, ENGINES)
    if kind == "torch" or (kind == "auto" and checkpoint.model.device.type != "cpu"):
        return Engine("torch", checkpoint.parts)
    fast, reason = _find_fast(checkpoint)
    if fast is not None:
        return fast
    if kind == "openvino":
        raise TaskError(f"model {checkpoint.name!r} does not run on OpenVINO: {reason}. Use --engine torch or auto.")
    _log.warning("model %s runs on torch: %s", checkpoint.name, reason)
    return Engine("torch", checkpoint.parts, reason)


def is_installed() -> bool:
    """Whether OpenVINO can be imported."""
    return importlib.util.find_spec("openvino") is not None


def list_precisions() -> list[str]:
    """Precisions that OpenVINO computes in on this processor, fastest first."""
    able = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ["bf16", "f32"] if "BF16" in able else ["f32"]


def _find_fast(checkpoint: Checkpoint) -> tuple[Engine | None, str]:
    """The fastest that agrees with torch, or None and the reason why there is none."""
    if not is_installed():
        return None, "OpenVINO is not installed (pip install openvino)"
    try:
        precisions = list_precisions()
    except (ImportError, RuntimeError) as error:
        return None, f"OpenVINO does not start here ({error})"
    reason = ""
    for first in range(len(precisions)):
        try:
            fast, used = _open_parts(checkpoint, precisions[first:])
            difference, same = compare(checkpoint, fast)
        except OSError as error:
            reason = f"the cache of converted models cannot be used ({error.strerror or type(error).__name__})"
        except Exception as error:  # noqa: BLE001 - the edge: what one network's conversion meets must not stop the others
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        else:
            if same and difference <= TOLERANCE:
                return Engine(f"openvino {used}", fast), ""
            reason = f"OpenVINO's {used} differs from torch by {difference:.1e} in a probability"
    return None, reason


def _open_parts(checkpoint: Checkpoint, precisions: Sequence[str]) -> tuple[Parts | FusedParts, str]:
    """A model's parts with bodies that OpenVINO runs, and the precisions that those compute in."""
    parts = checkpoint.parts
    if isinstance(parts, Parts):
        body, used = _open_body(parts.body, checkpoint.spec, precisions)
        return parts._replace(body=body), used
    opened = [_open_body(member.body, checkpoint.spec, precisions) for member in parts.members]
    members = tuple(member._replace(body=body) for member, (body, _) in zip(parts.members, opened, strict=True))
    return parts._replace(members=members), "+".join(sorted({used for _, used in opened}))


def _open_body(body: nn.Module, spec: InputSpec, precisions: Sequence[str]) -> tuple[Any, str]:
    """A body in the first precision whose rounding its features bear, and that precision."""
    digest = hash_body(body, spec)
    for precision in precisions:
        refused = engine_folder() / f"{digest}-{precision}.refused"  # kept, so that no later start tries it again
        if not refused.is_file():
            found = _open(body, spec, digest, precision)
            if found.rounding <= ROUNDING:
                return found, precision
            refused.write_text(f"{found.rounding:.1%}", encoding="utf-8")
    by = refused.read_text(encoding="utf-8")
    raise RuntimeError(f"OpenVINO's features in {precision} differ from torch's by {by}")


@torch.inference_mode()
def compare(checkpoint: Checkpoint, fast: Parts | FusedParts) -> tuple[float, bool]:
    """Compares parts with the model's own on a drawn image.

    Args:
        checkpoint: the model.
        fast: its parts, run by an engine.

    Returns:
        The largest difference of a probability, and whether the most probable label is the same.
    """
    inputs = _draw(checkpoint.spec)
    ours, theirs = (parts.head(parts.body(inputs)).softmax(dim=1) for parts in (fast, checkpoint.parts))
    return float((ours - theirs).abs().max()), bool((ours.argmax(dim=1) == theirs.argmax(dim=1)).all())


def _draw(spec: InputSpec) -> torch.Tensor:
    """Two smooth pictures with some noise, (2, C, h, w), of about unit variance like a normalised image."""
    source = torch.Generator().manual_seed(0)
    coarse = torch.randn(2, 1, 8, 8, generator=source)
    smooth = nn.functional.interpolate(coarse, (spec.height, spec.width), mode="bicubic")
    noise = 0.1 * torch.randn(2, 1, spec.height, spec.width, generator=source)
    return (smooth + noise).expand(-1, len(spec.mean), -1, -1).contiguous()


class CompiledBody:
    """A body that OpenVINO runs; may be called from several threads.

    Attributes:
        rounding: how far its features are from torch's, as a share of their norm; 0 until that is measured.
    """

    def __init__(self, compiled: Any):
        self.rounding = 0.0
        self._compiled = compiled
        self._own = threading.local()

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) float32 to features, float32."""
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        found = self._own.request.infer([inputs.contiguous().numpy()], share_inputs=True)
        return torch.from_numpy(found[0])  # which is a copy


_open_bodies: WeakValueDictionary[str, CompiledBody] = WeakValueDictionary()
_opening = threading.Lock()


def _open(body: nn.Module, spec: InputSpec, digest: str, precision: str) -> CompiledBody:
    """Opens a body: one that is open already, one from the cache, or one that is converted now."""
    key, path = f"{digest}-{precision}", engine_folder() / f"{digest}.xml"
    with _opening:
        found = _open_bodies.get(key)
        if found is None:
            found = _open_kept(body, spec, path, precision) if path.is_file() else None
            if found is None:
                found = _compile(body, spec, path, precision)
                found.rounding = _measure_rounding(body, found, spec)
            _open_bodies[key] = found
    return found


def _open_kept(body: nn.Module, spec: InputSpec, path: Path, precision: str) -> CompiledBody | None:
    """Opens a body from the cache; one that is damaged is taken out of it, and None is returned."""
    with contextlib.suppress(RuntimeError):
        found = _compile(body, spec, path, precision)
        found.rounding = _measure_rounding(body, found, spec)
        if found.rounding <= _BEARABLE[precision]:
            return found
    for known in (path, *path.parent.glob(f"{path.stem}-*.refused")):  # what was refused may have been the damage
        known.unlink(missing_ok=True)
    return None


@torch.inference_mode()
def _measure_rounding(body: nn.Module, fast: CompiledBody, spec: InputSpec) -> float:
    inputs = 0.5 * _draw(spec)  # a soft image: the fainter the features, the more rounding weighs
    right = body(inputs)
    away = float((fast(inputs) - right).norm())
    return away / max(float(right.norm()), 1e-12) if away else 0.0


def _compile(body: nn.Module, spec: InputSpec, path: Path, precision: str) -> CompiledBody:
    options = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    return CompiledBody(_core().compile_model(_convert(body, spec, path), "CPU", options))


def engine_folder() -> Path:
    """Where converted bodies are kept."""
    return cache_folder() / "engines"


def hash_body(body: nn.Module, spec: InputSpec) -> str:
    """A digest of all that a converted body depends on: its weights, its code's and OpenVINO's versions, its input."""
    versions = [importlib.metadata.version(name) for name in ("openvino", "torch", "transformers", "timm")]
    digest = hashlib.sha256(repr((_LAYOUT, type(body).__qualname__, versions, spec)).encode())
    for name, tensor in sorted(body.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def _convert(body: nn.Module, spec: InputSpec, path: Path) -> Path:
    """Converts a body into the cache unless it is there; another process never sees half a file."""
    if path.is_file() and path.with_suffix(".bin").is_file():
        return path
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # no word to anyone: it is not found
    import openvino

    shape = [-1, len(spec.mean), spec.height, spec.width]
    with warnings.catch_warnings(), _log_as_before():
        warnings.simplefilter("ignore")  # of torch's tracer
        converted = openvino.convert_model(body, example_input=_draw(spec)[:1], input=shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    own = path.with_name(f"{path.stem}.{os.getpid()}.xml")
    openvino.save_model(converted, own, compress_to_fp16=False)
    own.with_suffix(".bin").replace(path.with_suffix(".bin"))
    own.replace(path)
    return path


@contextlib.contextmanager
def _log_as_before() -> Iterator[None]:
    """Keeps the root logger as it is: OpenVINO raises its level, and after a failure nothing but errors was logged."""
    root = logging.getLogger()
    level, handlers, filters = root.level, list(root.handlers), list(root.filters)
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:], root.filters[:] = handlers, filters


def _core() -> Any:
    global _shared
    if _shared is None:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino

        _shared = openvino.Core()
    return _shared


_shared: Any = None
