"""Take secrets out of text before it leaves the process."""

from __future__ import annotations

import json
import re
import typing as t
from pathlib import Path
from urllib.parse import quote

MARK: t.Final = "[redacted]"
MIN_VALUE: t.Final = 6

_FILE: t.Final = Path(__file__).with_name("redaction.txt")


def patterns(text: str) -> list[re.Pattern[str]]:
    """Return the expressions of `redaction.txt`; each has one group, which is the secret."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    names = [word for line in lines if line.startswith("names:") for word in line.split()[1:]]
    joined = "|".join(map(re.escape, names))
    found = [
        re.compile(line.replace("{names}", joined), re.ASCII)
        for line in lines
        if not line.startswith("names:")
    ]
    if any(pattern.groups != 1 for pattern in found):
        msg = "an expression for redaction must have exactly one group"
        raise ValueError(msg)
    return found


def _mark(match: re.Match[str]) -> str:
    """Return the match with the mark in place of its group."""
    start, end = (position - match.start() for position in match.span(1))
    return f"{match[0][:start]}{MARK}{match[0][end:]}"


def _forms(value: str) -> set[str]:
    """Return the ways a value is written: plain, in a URL, in JSON, in a Python repr."""
    return {
        value,
        quote(value, safe=""),
        quote(value),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
    }


_PATTERNS: t.Final = patterns(_FILE.read_text(encoding="utf-8"))


class Redactor:
    """Replace known secret values and anything that looks like a credential."""

    def __init__(self, values: t.Iterable[str] = ()) -> None:
        """Compile one expression for all known values."""
        self._known: re.Pattern[str] | None = None
        self.values: list[str] = []
        self.learn(values)

    def learn(self, values: t.Iterable[str]) -> None:
        """Set the exact values to hide; short ones would hide ordinary words."""
        self.values = list(values)
        forms = {form for value in self.values if len(value) >= MIN_VALUE for form in _forms(value)}
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        joined = "|".join(re.escape(form) for form in longest_first)
        self._known = re.compile(joined) if joined else None

    def __call__(self, text: str) -> str:
        """Return the text without secrets."""
        if self._known is not None:
            text = self._known.sub(MARK, text)
        for pattern in _PATTERNS:
            text = pattern.sub(_mark, text)
        return text


#: The redactor of this process; `bootstrap` teaches it the values of the secret files.
redact: t.Final = Redactor()
