from __future__ import annotations

import pytest
from ansible_collections.vedfolnir.stack.plugins.filter.password_problem import FilterModule
from ansible_collections.vedfolnir.stack.plugins.test import strong_password as plugin

CLASSES = "needs three of lower case, upper case, digits and other characters, or 24 characters"
KNOWN = "is built from a well-known default"

problem = FilterModule().filters()["password_problem"]
is_strong = plugin.TestModule().tests()["strong_password"]


@pytest.mark.parametrize(
    "secret",
    [
        "Tr4vel-by-night-0nly",
        "0f1e2d3c4b5a69788796a5b4c3d2e1f0",
        "correct horse battery staple",
        "Grün-Kohl-44-Überall",
        "my-Admin-Kw8_fhQ2zP!x",
    ],
)
def test_strong_secrets_pass(secret: str) -> None:
    assert problem(secret) == ""
    assert is_strong(secret)


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        ("", "is empty"),
        (None, "is not a text"),
        (12345678901234567890, "is not a text"),
        ("changeme", KNOWN),
        ("ChangeMe123!", KNOWN),
        ("PASSWORDpassword1!", KNOWN),
        ("vedfolnir-admin-1", KNOWN),
        ("Xk4-fq9Z", "is shorter than 16 characters"),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "repeats the same few characters"),
        ("onlylowercasehere", CLASSES),
        ("lower1and2digits3", CLASSES),
    ],
)
def test_weak_secrets_are_named_without_their_value(secret: object, reason: str) -> None:
    assert problem(secret) == reason
    assert not is_strong(secret)


def test_the_least_length_is_the_callers() -> None:
    assert problem("Xk4-fq9Z", 8) == ""
    assert is_strong("Xk4-fq9Z", 8)
    assert problem("Xk4-fq9Z", 9) == "is shorter than 9 characters"
