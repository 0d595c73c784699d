"""Take secrets out of text before it leaves the process."""

from __future__ import annotations

import json
import re
import typing as t
from urllib.parse import quote

MARK: t.Final = "[redacted]"
MIN_VALUE: t.Final = 6

#: Names whose value is a secret wherever it is written as `name: value` or `name=value`.
SECRET_NAMES: t.Final = (
    "access_token",
    "refresh_token",
    "client_key",
    "client_secret",
    "secret_key",
    "password",
    "passwd",
    "encryption_key",
)

_NAMES = "|".join(SECRET_NAMES)
# A name, its (possibly escaped) quote, a separator; then a quoted or a bare value.
_QUOTED = re.compile(
    rf"(?P<head>(?:{_NAMES})\\*[\"']?\s*[:=]\s*)[bu]?(?P<quote>\\*[\"'])"
    r"(?P<value>(?:\\.|.)*?)(?P=quote)",
    re.IGNORECASE | re.DOTALL,
)
_BARE = re.compile(
    rf"(?P<head>(?:{_NAMES})\\*[\"']?\s*[:=]\s*)(?!\\*[\"']|None\b|null\b|\[redacted\])"
    r"[^\s,;&\"'\\)}}\]]+",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE)
_FERNET = re.compile(r"gAAAA[A-Za-z0-9_-]{20,}={0,2}")
_URL_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*):[^\s/]+@", re.IGNORECASE)
_LINK_TOKEN = re.compile(r"(/(?:reset-password|verify-email)/)[^\s/?\"']+")


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
        if "://" in text:
            text = _URL_PASSWORD.sub(rf"\1:{MARK}@", text)
        text = _QUOTED.sub(rf"\g<head>\g<quote>{MARK}\g<quote>", text)
        text = _BARE.sub(rf"\g<head>{MARK}", text)
        text = _BEARER.sub(rf"\1 {MARK}", text)
        text = _FERNET.sub(MARK, text)
        return _LINK_TOKEN.sub(rf"\1{MARK}", text)


#: The redactor of this process; `bootstrap` teaches it the values of the secret files.
redact: t.Final = Redactor()
