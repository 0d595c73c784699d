# Copyright: the vedfolnir.stack maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge a secret that an operator chose."""

from __future__ import annotations

WELL_KNOWN = (
    "changeme",
    "change-me",
    "change_me",
    "password",
    "passw0rd",
    "secret",
    "letmein",
    "welcome",
    "example",
    "default",
    "vedfolnir",
    "admin",
    "mysql",
    "redis",
    "qwerty",
    "123456789",
    "12345678",
    "123456",
    "root",
    "test",
)
_LONG_ENOUGH_FOR_ANY_CLASS = 24
_LEAST_CLASSES = 3
_LEAST_OWN = 8
_LEAST_DIFFERENT = 6


def password_problem(secret: object, min_length: int = 16) -> str:
    """Return what is wrong with a secret, never its value; empty when it is strong."""
    if not isinstance(secret, str):
        return "is not a text"
    checks = (
        (not secret, "is empty"),
        (_own_length(secret) < min(_LEAST_OWN, min_length), "is built from a well-known default"),
        (len(secret) < min_length, f"is shorter than {min_length} characters"),
        (len(set(secret)) < _LEAST_DIFFERENT, "repeats the same few characters"),
        (
            len(secret) < _LONG_ENOUGH_FOR_ANY_CLASS and _classes(secret) < _LEAST_CLASSES,
            "needs three of lower case, upper case, digits and other characters, "
            f"or {_LONG_ENOUGH_FOR_ANY_CLASS} characters",
        ),
    )
    return next((reason for wrong, reason in checks if wrong), "")


def _own_length(secret: str) -> int:
    """Count the characters that remain when every well-known word is cut out."""
    rest = secret.casefold()
    if not any(word in rest for word in WELL_KNOWN):
        return _LEAST_OWN  # Nothing well-known in it: other checks judge its length.
    for word in WELL_KNOWN:
        rest = rest.replace(word, "")
    return len(rest)


def _classes(secret: str) -> int:
    kinds = (str.islower, str.isupper, str.isdigit, lambda char: not char.isalnum())
    return sum(any(map(kind, secret)) for kind in kinds)
