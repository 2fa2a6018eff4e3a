"""Makes the project's own architectures known to the Auto classes of `transformers`, without importing it.

Whoever has imported `xray_models` can load them, whether `transformers` came before or comes after. With torch it takes
seconds to import, which `--help` and a page without an image do not need, and it knows no entry points. So where
`transformers` is there already, they are registered at once; else a finder at the front of `sys.meta_path` waits until
somebody imports it, lets it finish, registers them and goes.

It waits for the package itself, not for the module with the Auto classes: a package is whole before any of its modules
begins, so nobody's import is halfway when the architectures import what they need of it. Only they themselves may be:
where one of them is what imports `transformers` first, it is let finish, too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_AWAITED = "transformers"
_OWN = {f"xray_models.architectures.{name}" for name in ("bone_cnn", "fusion", "headed", "simple_cnn")}


def register() -> None:
    """Registers the architectures; imports torch and `transformers`."""
    from transformers import AutoConfig, AutoModelForImageClassification

    from xray_models.architectures.bone_cnn import BoneCnnConfig, BoneCnnForImageClassification
    from xray_models.architectures.fusion import FusionConfig, FusionForImageClassification
    from xray_models.architectures.headed import HeadedConfig, HeadedForImageClassification
    from xray_models.architectures.simple_cnn import SimpleCnnConfig, SimpleCnnForImageClassification

    models: list[tuple[Any, Any]] = [
        (SimpleCnnConfig, SimpleCnnForImageClassification),
        (BoneCnnConfig, BoneCnnForImageClassification),
        (HeadedConfig, HeadedForImageClassification),
        (FusionConfig, FusionForImageClassification),
    ]
    for config, model in models:
        AutoConfig.register(config.model_type, config)
        AutoModelForImageClassification.register(config, model)


def register_when_needed() -> None:
    """Registers the architectures now, if `transformers` is imported, or as soon as it is."""
    if _AWAITED in sys.modules:
        register()
    else:
        sys.meta_path.insert(0, _Waiting())


class _Waiting(MetaPathFinder):
    """Finds what it waits for where the other finders do, and registers after it was executed, not when found."""

    def __init__(self) -> None:
        self.running = 0  # modules of those waited for that are being executed, one inside the other

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != _AWAITED and name not in _OWN:
            return None
        specs = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((spec for spec in specs if spec is not None), None)
        loader: Any = spec.loader if spec is not None else None
        if loader is not None:
            loader.exec_module = self._follow(loader.exec_module)
        return spec

    def _follow(self, execute: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
        def exec_module(module: ModuleType) -> None:
            self.running += 1
            try:
                execute(module)
            finally:
                self.running -= 1
            if self in sys.meta_path and not self.running:
                sys.meta_path.remove(self)
                register()

        return exec_module
