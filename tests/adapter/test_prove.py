"""The look at restored data: what belongs together, and what does not, by its place."""

from __future__ import annotations

import json
import typing as t

import pytest
from conftest import FERNET_KEY, Stack
from cryptography.fernet import Fernet

MODULE = "vedfolnir_adapter.prove"
LOST = Fernet.generate_key().decode()


def look(stack: Stack) -> dict[str, t.Any]:
    done = stack.run(MODULE)
    assert done.returncode == 0, done.stderr
    assert "gAAAA" not in done.stdout + done.stderr
    return dict(json.loads(done.stdout))


def sealed(key: str) -> str:
    return Fernet(key).encrypt(b"plain").decode()


@pytest.fixture
def filled(stack: Stack) -> Stack:
    stack.mysql.fresh_database()
    assert stack.run("vedfolnir_adapter.schema").returncode == 0
    rows = stack.mysql.rows
    rows("INSERT INTO users (id, username, email, password_hash) VALUES (1, 'u', 'e', 'h')")
    for number, key in ((1, FERNET_KEY), (2, LOST)):
        rows(
            "INSERT INTO platform_connections (id, user_id, name, platform_type, instance_url,"
            " access_token, client_key, is_active) VALUES (%s, 1, %s, 'pixelfed', 'https://p', %s,"
            " %s, 1)",
            number, f"platform {number}", sealed(key), sealed(FERNET_KEY),
        )  # fmt: skip
    return stack


def test_what_does_not_open_is_named(filled: Stack) -> None:
    found = look(filled)
    assert found["users"] == 1
    assert found["credentials"] == {
        "values": 4, "unreadable": 1, "where": ["access_token of row 2"]
    }  # fmt: skip
    filled.mysql.rows("DELETE FROM platform_connections WHERE id = 2")
    assert look(filled)["credentials"] == {"values": 2, "unreadable": 0, "where": []}


def test_an_image_without_its_file_is_named(filled: Stack) -> None:
    rows = filled.mysql.rows
    rows("INSERT INTO posts (id, post_id, user_id, post_url) VALUES (1, 'p', 1, 'https://p/1')")
    for number in (1, 2):
        rows(
            "INSERT INTO images (id, post_id, image_url, local_path, attachment_index)"
            " VALUES (%s, 1, 'https://p/i', %s, 0)",
            number, f"storage/images/prove-{number}.png",
        )  # fmt: skip
    (filled.app / "storage/images/prove-1.png").write_bytes(b"x")
    assert look(filled)["images"] == {"rows": 2, "missing": 1, "where": ["image 2"]}


def test_an_empty_database_is_no_reason_to_fail(stack: Stack) -> None:
    stack.mysql.fresh_database()
    found = look(stack)
    assert (found["users"], found["images"]["rows"], found["credentials"]["values"]) == (0, 0, 0)
