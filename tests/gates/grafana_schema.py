"""Judges a dashboard by Grafana's published schema, as its Foundation SDK has it for Python.

The SDK's models take what they know from a file, and leave the rest and wrong types alone. So a
dashboard is decoded, what the models hold is compared with what they say that they hold, and what
is lost on the way back was no part of the schema.
"""

from __future__ import annotations

import enum
import inspect
import json
import types
import typing as t

from grafana_foundation_sdk.cog import encoder, plugins
from grafana_foundation_sdk.models import dashboard

_UNKNOWN: t.Final = ("UnknownDataquery", "UnknownVariant")


def problems(data: dict[str, t.Any]) -> list[str]:
    """Return what the schema does not allow."""
    plugins.register_default_plugins()
    try:
        model = dashboard.Dashboard.from_json(data)
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        return [f"cannot be decoded: {exc!r}"]
    found = list(_wrong(model, dashboard.Dashboard, "dashboard"))
    back = json.loads(encoder.JSONEncoder().encode(model))
    return found + list(_lost(data, back, "dashboard"))


def _lost(given: t.Any, back: t.Any, path: str) -> t.Iterator[str]:
    """Yield what the models did not take."""
    if isinstance(given, dict) and isinstance(back, dict):
        for key, value in given.items():
            if key not in back:
                # A threshold without a lower end is written as null and left out on the way back.
                if value is not None:
                    yield f"{path}.{key}: is not in the schema"
            else:
                yield from _lost(value, back[key], f"{path}.{key}")
    elif isinstance(given, list) and isinstance(back, list) and len(given) == len(back):
        for number, (one, other) in enumerate(zip(given, back, strict=True)):
            yield from _lost(one, other, f"{path}[{number}]")
    elif given != back:
        yield f"{path}: {given!r} became {back!r}"


def _wrong(value: t.Any, kind: t.Any, path: str) -> t.Iterator[str]:
    """Yield each value that is not of the type that its model declares."""
    if type(value).__name__ in _UNKNOWN:
        yield f"{path}: a query of no known data source"
    elif not _fits(value, kind):
        yield f"{path}: {value!r} is not {kind}"
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _wrong(one, (t.get_args(kind) or (t.Any,))[0], f"{path}[{number}]")
    elif type(value).__module__.startswith("grafana_foundation_sdk") and not isinstance(
        value, enum.Enum
    ):
        hints = t.get_type_hints(type(value))
        for name, inner in vars(value).items():
            yield from _wrong(inner, _plain(inner, hints.get(name, t.Any)), f"{path}.{name}")


def _plain(value: t.Any, kind: t.Any) -> t.Any:
    """Return the member of a union that a value belongs to, or the type itself."""
    if t.get_origin(kind) not in (t.Union, types.UnionType):
        return kind
    return next((one for one in t.get_args(kind) if _fits(value, one)), kind)


def _fits(value: t.Any, kind: t.Any) -> bool:
    """Say whether a value is of a type."""
    origin = t.get_origin(kind)
    if origin in (t.Union, types.UnionType):
        return any(_fits(value, one) for one in t.get_args(kind))
    if origin is t.Literal:
        return value in t.get_args(kind)
    wanted = origin or kind
    if not inspect.isclass(wanted):
        return wanted is not None or value is None
    if issubclass(wanted, enum.Enum):  # the SDK leaves the text or number as it is
        return value in [member.value for member in wanted] or isinstance(value, wanted)
    if wanted in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if wanted is float else wanted)
