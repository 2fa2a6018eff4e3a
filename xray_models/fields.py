"""Values from a file or a command line, checked: what is wrong is a `TaskError` that names the value and the fix."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

_T = TypeVar("_T")
_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {  # by a field's annotation: what a file may say there
    "str": (lambda value: isinstance(value, str), "a text: quote it"),
    "str | None": (lambda value: value is None or isinstance(value, str), "a text: quote it"),
    "int": (lambda value: type(value) is int, "a whole number"),
    "float": (lambda value: type(value) in (int, float), "a number"),
    "float | None": (lambda value: value is None or type(value) in (int, float), "a number"),
    "tuple[str, ...]": (lambda value: _are_texts(value), "a list of texts that are not empty: quote each"),
    "Mapping[str, str]": (
        lambda value: isinstance(value, Mapping) and _are_texts([*value.values()]),
        "keys with texts",
    ),
    "Mapping[str, Any]": (lambda value: isinstance(value, Mapping), "a mapping of keys"),
}


class TaskError(ValueError):
    """A task, a model or a setting that does not exist or does not fit; the message says what to do."""


def choose(what: str, name: str, valid: Iterable[str]) -> str:
    """Returns `name` if it is among `valid`; else raises `TaskError` that lists them and the nearest."""
    names = list(valid)
    if name in names:
        return name
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise TaskError(f"Unknown {what}: {name!r}. Valid: {', '.join(names) or 'none'}.{hint}")


def check_once(what: str, names: Sequence[str]) -> None:
    """Raises `TaskError` for a name that is there twice."""
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise TaskError(f"{what} {twice[0]!r} is named twice. Name every one once.")


def build_fields(cls: type[_T], where: str, raw: Any) -> _T:
    """Builds a dataclass from a mapping, every key and the type of every value checked."""
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    required = {f.name for f in fields if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING}
    check_keys(where, raw, allowed={f.name for f in fields}, required=required)
    for field in fields:
        if field.name in raw:
            check_type(where + field.name, raw[field.name], str(field.type))
    return cls(**raw)


def check_type(where: str, value: Any, kind: str) -> None:
    """Raises `TaskError` unless a value is of a kind of `_TYPES`."""
    fits, words = _TYPES[kind]
    if not fits(value):
        raise TaskError(f"`{where}` is {value!r}; it must be {words}.{_suggest_number(value, kind)}")


def _suggest_number(value: Any, kind: str) -> str:
    """What to write in the place of a text such as 3e-4, which is no number in YAML for want of a point."""
    try:
        number = float(value) if kind == "float" and isinstance(value, str) else math.nan
    except ValueError:
        return ""
    return f" Write {number:.12f}".rstrip("0").rstrip(".") + "." if math.isfinite(number) else ""


def _are_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(text, str) and text.strip() for text in value)


def check_keys(where: str, raw: Any, allowed: set[str], required: set[str]) -> None:
    """Raises `TaskError` unless a value is a mapping with these keys; `where` is what stands before a key's name."""
    if not isinstance(raw, Mapping):
        raise TaskError(f"`{where.rstrip('.') or 'the file'}` must be a mapping of keys, not {raw!r}.")
    for key in raw:
        choose(f"key `{where}{key}`; key", str(key), sorted(allowed))
    missing = sorted(required - set(raw))
    if missing:
        raise TaskError(f"the key `{where}{missing[0]}` is missing.")
