"""Say where a document differs from what may be in it; unknown keys are named, too."""

from __future__ import annotations

import typing as t

Spec = t.Any
"""A type, ``[spec]`` for a list of them, or a dictionary of keys, those that must be there with a
``!`` behind the name; ``object`` takes anything."""


def problems(value: t.Any, spec: Spec, where: str = "") -> list[str]:
    """Return what is wrong, one sentence each."""
    if isinstance(spec, dict):
        return _mapping(value, spec, where)
    if isinstance(spec, list):
        if not isinstance(value, list):
            return [f"{where}: is no list"]
        return [
            text
            for index, item in enumerate(value)
            for text in problems(item, spec[0], f"{where}[{index}]")
        ]
    # In Python a bool is an int.
    wrong = spec not in (bool, object) if isinstance(value, bool) else not isinstance(value, spec)
    return [f"{where}: {value!r} has the wrong type"] if wrong else []


def _mapping(value: t.Any, spec: dict[str, Spec], where: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{where or 'the document'}: is no mapping"]
    known = {key.rstrip("!"): inner for key, inner in spec.items()}
    prefix = f"{where}." if where else ""
    found = [f"{prefix}{key}: is not known" for key in value if key not in known]
    found += [
        f"{prefix}{key[:-1]}: is missing"
        for key in spec
        if key.endswith("!") and key[:-1] not in value
    ]
    for key, inner in known.items():
        if key in value:
            found += problems(value[key], inner, f"{prefix}{key}")
    return found
