"""Durations and sizes as Go programs write them."""

from __future__ import annotations

import re
import typing as t

_UNITS: t.Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART: t.Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|w)")


def seconds(text: str) -> float:
    """Return a duration in seconds.

    Raises:
        ValueError: it is none.
    """
    parts = _PART.findall(text)
    if text != "0" and (not parts or "".join(a + b for a, b in parts) != text):
        raise ValueError(f"not a valid duration: {text!r}")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
