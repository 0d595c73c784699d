# Copyright: the vedfolnir.stack maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare option values with their argument specs, in an operator's words."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterable, Iterator, Mapping

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.vedfolnir.stack.plugins.plugin_utils.preflight_data import Spec
from ansible_collections.vedfolnir.stack.plugins.plugin_utils.preflight_names import near

_LONGEST = 60
_MARKUP = re.compile(r"\b[A-Z]\(([^)]*)\)")
_NAMES = (
    (bool, "bool"),
    (int, "int"),
    (float, "float"),
    (str, "str"),
    (Mapping, "dict"),
    ((list, tuple, set), "list"),
)


def check_value(name: str, spec: Spec, value: t.Any, *, hide: bool = False) -> list[str]:
    """Return what is wrong with one option's value; each message starts with its name."""
    found = list(_walk(name, spec, value, hide=hide))
    if found or value is None:
        return found
    # Whatever the walk has no words for (mutually_exclusive, required_if, …) Ansible judges.
    result = ArgumentSpecValidator({name: dict(spec)}).validate({name: value})
    if not result.error_messages:
        return []
    if hide or _has_secret(spec):
        return [f"{name} does not match its specification (value hidden)."]
    return [f"{name}: {message}" for message in result.error_messages]


def missing_value(name: str, spec: Spec) -> str:
    """Return the message for a required option without a value."""
    text = spec.get("description") or ""
    sentence = str(text[0] if isinstance(text, list) else text).partition(". ")[0].rstrip(".")
    sentence = _MARKUP.sub(r"\1", sentence)
    return f"{name} is required: {sentence}." if sentence else f"{name} is required."


def secret_values(spec: Spec, value: t.Any) -> Iterator[str]:
    """Yield the texts inside a value that must never be shown."""
    if spec.get("no_log"):
        yield from _texts(value)
    elif isinstance(value, Mapping):
        for key, sub in (spec.get("options") or {}).items():
            yield from secret_values(sub, value.get(key))
    elif isinstance(value, list):
        for item in value:
            yield from secret_values({**spec, "elements": None}, item)


def _texts(value: t.Any) -> Iterator[str]:
    parts: Iterable[t.Any] = ()
    if isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, (list, tuple)):
        parts = value
    elif value is not None:
        yield str(value)
    for part in parts:
        yield from _texts(part)


def _has_secret(spec: Spec) -> bool:
    return bool(spec.get("no_log")) or any(map(_has_secret, (spec.get("options") or {}).values()))


def _walk(path: str, spec: Spec, value: t.Any, *, hide: bool) -> Iterator[str]:
    """Yield the problems of a value and of everything inside it."""
    hide = hide or bool(spec.get("no_log"))
    if value is None:
        if spec.get("required"):
            yield missing_value(path, spec)
        return
    kind = spec.get("type", "str")
    if not _is_kind(kind, value):
        yield f"{path} must be of type {kind}, but is {_describe(value, hide=hide)}."
        return
    yield from _choices(path, spec, value, hide=hide)
    if kind == "dict" and spec.get("options"):
        yield from _members(path, spec["options"], value, hide=hide)
    if kind == "list" and spec.get("elements"):
        inner = {**spec, "type": spec["elements"], "elements": None, "required": True}
        for index, item in enumerate(value):
            yield from _walk(f"{path}[{index}]", inner, item, hide=hide)


def _members(path: str, options: Mapping[str, Spec], value: t.Any, *, hide: bool) -> Iterator[str]:
    for key in value:
        if key not in options:
            meant = near(str(key), options)
            hint = f"did you mean {meant}?" if meant else f"known are {', '.join(sorted(options))}."
            yield f"{path}.{key} is not known; {hint}"
    for key, spec in options.items():
        yield from _walk(f"{path}.{key}", spec, value.get(key), hide=hide)


def _choices(path: str, spec: Spec, value: t.Any, *, hide: bool) -> Iterator[str]:
    choices = spec.get("choices")
    if not choices or isinstance(value, list):  # a list's choices are those of its elements
        return
    if str(value) not in map(str, choices):
        meant = None if hide else near(str(value), map(str, choices))
        hint = f"; did you mean '{meant}'?" if meant else "."
        known = ", ".join(map(str, choices))
        yield f"{path} must be one of {known}, but is {_describe(value, hide=hide)}{hint}"


def _is_kind(kind: str, value: t.Any) -> bool:
    """Judge a type as Ansible does, but without its conversions that no role asked for."""
    if kind in ("list", "dict"):
        return isinstance(value, Mapping if kind == "dict" else list)
    if kind == "raw":
        return True
    if isinstance(value, (Mapping, list, tuple, set)):
        return False
    if kind in ("int", "float") and isinstance(value, bool):
        return False
    result = ArgumentSpecValidator({"value": {"type": kind}}).validate({"value": value})
    return not result.error_messages


def _describe(value: t.Any, *, hide: bool) -> str:
    name = next((name for kind, name in _NAMES if isinstance(value, t.cast(t.Any, kind))), "str")
    if hide:
        return f"a {name} (value hidden)"
    if name in ("dict", "list"):
        return f"a {name}"
    text = repr(value if name in ("bool", "int", "float") else str(value))
    return f"{text if len(text) <= _LONGEST else text[:_LONGEST] + '…'} ({name})"
