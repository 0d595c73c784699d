from __future__ import annotations

import json
import subprocess
import typing as t

import pytest
import servers
from conftest import ADMIN_PASSWORD, Stack

SCHEMA = "vedfolnir_adapter.schema"
ADMIN = ("vedfolnir_adapter.admin", "--username", "boss", "--email", "boss@example.org")


@pytest.fixture
def empty(stack: Stack) -> Stack:
    stack.mysql.fresh_database()
    return stack


def messages(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [json.loads(line)["message"] for line in done.stderr.splitlines()]


def test_schema_is_created_once(empty: Stack) -> None:
    results = [empty.run(SCHEMA) for _ in range(2)]
    assert [(r.returncode, r.stdout) for r in results] == [(0, "created\n"), (0, "exists\n")]
    count = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'vedfolnir'"
    assert empty.mysql.rows(count)[0][0] == 20


def test_schema_in_parallel(empty: Stack) -> None:
    started = [
        subprocess.Popen(
            [empty.python, "-m", SCHEMA], env=empty.environment(), cwd=empty.app, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(3)
    ]  # fmt: skip
    outputs = sorted(process.communicate(timeout=120)[0] for process in started)
    assert outputs == ["created\n", "exists\n", "exists\n"]


def test_an_absent_database_is_reported_after_the_wait(empty: Stack) -> None:
    port = str(servers.free_port())
    done = empty.run(SCHEMA, "--wait", "2", MYSQL_PORT=port)
    assert done.returncode == 3
    place = f"127.0.0.1:{port}/vedfolnir"
    waiting, *_, last = messages(done)
    assert waiting == f"Waiting for the database {place} (0 s): OperationalError 2003"
    assert last == f"the database {place} did not answer within 2 s: OperationalError 2003"


def test_a_held_lock_ends_the_job_with_its_own_code(empty: Stack) -> None:
    with empty.mysql.root() as cursor:
        cursor.execute("SELECT GET_LOCK('vedfolnir.schema', 0)")
        done = empty.run(SCHEMA, "--wait", "1")
    assert done.returncode == 4
    assert messages(done)[-1] == "Another process creates the schema since 1 s"


def test_tls_to_a_server_of_another_authority_is_refused(
    empty: Stack, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    servers.make_certificates(other)
    (empty.secrets / "ca.pem").write_bytes((other / "ca.pem").read_bytes())
    assert empty.run(SCHEMA, "--wait", "1").returncode == 3


def test_the_administrator_is_created_once_and_never_changed(empty: Stack) -> None:
    assert empty.run(SCHEMA).returncode == 0
    first = empty.run(*ADMIN)
    columns = "SELECT password_hash, role, is_active, email_verified FROM users"
    rows: list[t.Any] = empty.mysql.rows(columns)
    (empty.secrets / "admin_password").write_text("Another-passw0rd!")
    second = empty.run(*ADMIN)
    assert [(r.returncode, r.stdout) for r in (first, second)] == [
        (0, "created\n"),
        (0, "exists\n"),
    ]
    assert empty.mysql.rows(columns) == rows
    assert rows[0][1:] == ("ADMIN", 1, 1)
    for done in (first, second):
        assert ADMIN_PASSWORD not in done.stdout + done.stderr
        assert "Another-passw0rd!" not in done.stdout + done.stderr


def test_administrators_that_cannot_be_created(empty: Stack) -> None:
    assert empty.run(SCHEMA).returncode == 0
    assert empty.run(*ADMIN).returncode == 0
    done = empty.run("vedfolnir_adapter.admin", "--username", "x", "--email", "boss@example.org")
    assert done.returncode == 5
    assert messages(done)[-1] == "The e-mail address given for x belongs to another user"
    (empty.secrets / "admin_password").write_text("short")
    done = empty.run(*ADMIN)
    assert done.returncode == 2
    path = empty.secrets / "admin_password"
    assert messages(done)[-1] == f"{path} is shorter than 8 characters"


def test_static_files_are_mirrored_by_url(stack: Stack, tmp_path_factory: t.Any) -> None:
    target = tmp_path_factory.mktemp("static")
    command = ("vedfolnir_adapter.export_static", str(target), "--app", str(stack.app))
    assert stack.run(*command).stdout == "changed\n"
    assert (target / "static/css/style.css").is_file()
    assert (target / "admin/admin/static/css/admin.css").is_file()
    assert stack.run(*command).stdout == "unchanged\n"
    (target / "static/old.css").write_text("gone upstream")
    assert stack.run(*command).stdout == "changed\n"
    assert not (target / "static/old.css").exists()
