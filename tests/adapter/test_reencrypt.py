"""The job in the middle of a rotation of the Fernet key, on real servers."""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import typing as t

import pymysql
import pytest
import redis
import servers
from conftest import FERNET_KEY, Stack
from cryptography.fernet import Fernet, InvalidToken
from vedfolnir_adapter import reencrypt, settings

MODULE = "vedfolnir_adapter.reencrypt"
OLD = FERNET_KEY
NEW, OLDER, LOST = (Fernet.generate_key().decode() for _index in range(3))
ALL = "SELECT * FROM platform_connections ORDER BY id"
TOKENS = "SELECT id, access_token, client_key, client_secret FROM platform_connections ORDER BY id"
PLAIN = "plain-credential"
CREATED = 1_600_000_000  # when the values of the tests were encrypted
#: What roles/redis lets the application do.
ACL = "~* &* +@all -@admin -@dangerous +keys +info +sort +client|list"
BREAK = (
    "CREATE TRIGGER broken BEFORE UPDATE ON platform_connections FOR EACH ROW"
    " IF NEW.id = 3 THEN SET NEW.access_token = FAULT; END IF"
)
BROKEN = {
    "damaged": "CONCAT(LEFT(NEW.access_token, 40), 'AAAA', SUBSTRING(NEW.access_token, 45))",
    "not written": "OLD.access_token",
    "of another credential": "NEW.client_key",
    "emptied": "''",
}


def sealed(key: str, plain: str) -> str:
    return Fernet(key).encrypt_at_time(f"{PLAIN}-{plain}".encode(), CREATED).decode()


def opened(key: str, stored: str | None) -> str | None:
    try:
        return Fernet(key).decrypt((stored or "").encode()).decode().removeprefix(f"{PLAIN}-")
    except InvalidToken:
        return None


class Credentials:
    """The table of a stack whose keys are NEW and then OLD and OLDER."""

    def __init__(self, stack: Stack, tables: list[str]) -> None:
        self.stack = stack
        self.rows = stack.mysql.rows
        stack.mysql.fresh_database()
        for statement in tables:
            self.rows(statement)
        self.rows(
            "INSERT INTO users (id, username, email, password_hash) VALUES (1, 'u', 'e', 'h')"
        )
        self.keys(NEW, OLD, OLDER)

    def keys(self, present: str, *others: str) -> None:
        (self.stack.secrets / "platform_encryption_key").write_text(f"{present}\n")
        (self.stack.secrets / "platform_encryption_key_fallbacks").write_text("\n".join(others))

    def add(
        self, number: int, access: str, key: str | None = None, secret: str | None = None
    ) -> None:
        self.rows(
            "INSERT INTO platform_connections (id, user_id, name, platform_type, instance_url,"
            " access_token, client_key, client_secret, is_active, updated_at)"
            " VALUES (%s, 1, %s, 'pixelfed', 'https://p.example.org', %s, %s, %s, %s,"
            " '2020-02-02 02:02:02')",
            number, f"platform {number}", access, key, secret, number % 2,
        )  # fmt: skip

    def add_old(self, count: int = 3) -> list[t.Any]:
        """Fill the table with values under the old key and return it."""
        for number in range(1, count + 1):
            self.add(number, *(sealed(OLD, f"{number}{letter}") for letter in "abc"))
        return self.rows(ALL)

    def opens(self, key: str) -> list[tuple[str | None, ...]]:
        """Return what a single key makes of the table."""
        return [tuple(opened(key, value) for value in row[1:]) for row in self.rows(TOKENS)]

    def run(self, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        done = self.stack.run(MODULE, *arguments, **extra)
        no_secret(done.stdout + done.stderr)
        return done

    @contextlib.contextmanager
    def held(self, number: int) -> t.Iterator[None]:
        """Stop the job inside its transaction, at the write of a row."""
        self.rows(
            "CREATE TRIGGER hold BEFORE UPDATE ON platform_connections FOR EACH ROW"
            " IF NEW.id = %s THEN DO GET_LOCK('hold', 60); END IF",
            number,
        )
        with self.stack.mysql.root() as cursor:
            cursor.execute("SELECT GET_LOCK('hold', 0)")
            yield
        # Waits until the transaction is over.
        self.rows("DROP TRIGGER hold")

    def uncommitted(self) -> list[t.Any]:
        with self.stack.mysql.root() as cursor:
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED")
            cursor.execute("USE vedfolnir")
            cursor.execute(TOKENS)
            return list(cursor.fetchall())

    def cache(self, *names: str) -> redis.Redis:
        client = redis.Redis(
            port=self.stack.redis.port, username="appuser", password=servers.REDIS_PASSWORD
        )
        client.flushdb()
        client.mset(dict.fromkeys(names, f"{PLAIN}-cached"))
        return client


def no_secret(output: str) -> None:
    secrets = (NEW, OLD, OLDER, LOST, PLAIN, servers.MYSQL_PASSWORD, servers.REDIS_PASSWORD)
    for secret in (*secrets, "gAAAA"):
        assert secret not in output


def messages(output: str) -> list[str]:
    return [json.loads(line)["message"] for line in output.splitlines()]


def summary(output: str) -> str:
    (found,) = (text for text in messages(output) if text.startswith("Platforms: "))
    return found.removeprefix("Platforms: ")


def expected(count: int = 3) -> list[tuple[str, ...]]:
    return [tuple(f"{number}{letter}" for letter in "abc") for number in range(1, count + 1)]


NOTHING = [(None, None, None)] * 3


@pytest.fixture(scope="module")
def tables(stack: Stack) -> list[str]:
    """The statements that make the two tables as the application makes them."""
    stack.mysql.fresh_database()
    assert stack.run("vedfolnir_adapter.schema").returncode == 0
    shown = ("SHOW CREATE TABLE users", "SHOW CREATE TABLE platform_connections")
    return [stack.mysql.rows(statement)[0][1] for statement in shown]


@pytest.fixture
def credentials(stack: Stack, tables: list[str]) -> Credentials:
    return Credentials(stack, tables)


def test_everything_that_opens_comes_under_the_new_key(credentials: Credentials) -> None:
    credentials.add(1, sealed(OLD, "1a"), sealed(OLD, "1b"), sealed(OLD, "1c"))
    credentials.add(2, sealed(NEW, "2a"), sealed(NEW, "2b"), None)
    credentials.add(3, sealed(NEW, "3a"), sealed(OLD, "3b"), sealed(OLDER, "3c"))
    credentials.add(4, sealed(OLD, "4ä"), None, "")
    credentials.add(5, "", sealed(LOST, "5b"), sealed(OLD, "5c"))
    credentials.add(6, sealed(LOST, "6a"), "never encrypted", "größe")
    before = credentials.rows(ALL)

    first = credentials.run()

    assert (first.returncode, first.stdout) == (0, "reencrypted\n")
    assert summary(first.stderr) == "6 rows, 7 values rewritten, 3 already current, 4 unreadable"
    assert [text for text in messages(first.stderr) if text.startswith("No key")] == [
        "No key opens client_key of row 5, left as it is",
        "No key opens access_token and client_key and client_secret of row 6, left as it is",
    ]
    assert credentials.opens(NEW) == [
        ("1a", "1b", "1c"), ("2a", "2b", None), ("3a", "3b", "3c"),
        ("4ä", None, None), (None, None, "5c"), (None, None, None),
    ]  # fmt: skip
    after = credentials.rows(ALL)
    assert [[*row[:6], *row[9:]] for row in after] == [[*row[:6], *row[9:]] for row in before]
    values = [row[6:9] for row in after]
    kept = [row[6:9] for row in before]
    assert values[1] == kept[1]
    assert values[2][0] == kept[2][0]
    assert values[3][1:] == (None, "")
    assert values[4][:2] == kept[4][:2]
    assert values[5] == kept[5]
    assert Fernet(NEW).extract_timestamp(values[0][0]) == CREATED

    second = credentials.run()

    assert (second.returncode, second.stdout) == (0, "current\n")
    assert summary(second.stderr) == "6 rows, 0 values rewritten, 10 already current, 4 unreadable"
    assert credentials.rows(ALL) == after


def test_the_columns_are_where_the_test_looks(credentials: Credentials) -> None:
    names = [row[0] for row in credentials.rows("SHOW COLUMNS FROM platform_connections")]
    assert tuple(names[6:9]) == reencrypt.COLUMNS


def test_a_fresh_database_and_an_empty_table(stack: Stack, credentials: Credentials) -> None:
    done = credentials.run()
    assert (done.returncode, done.stdout) == (0, "current\n")
    assert summary(done.stderr) == "0 rows, 0 values rewritten, 0 already current, 0 unreadable"
    stack.mysql.fresh_database()
    done = credentials.run()
    assert (done.returncode, done.stdout) == (0, "current\n")
    assert "There is no table of platforms yet" in messages(done.stderr)


def test_without_the_old_key_nothing_is_touched_and_it_is_said(credentials: Credentials) -> None:
    before = credentials.add_old()
    credentials.keys(NEW)
    done = credentials.run()
    assert (done.returncode, done.stdout) == (0, "current\n")
    said = "platform_encryption_key_fallbacks is empty, so no earlier key is tried"
    assert said in messages(done.stderr)
    assert summary(done.stderr) == "3 rows, 0 values rewritten, 0 already current, 9 unreadable"
    assert credentials.rows(ALL) == before


@pytest.mark.parametrize("line", ["short", "k" * 43 + "ä", "A" * 60 + "="])
def test_a_fallback_that_is_no_key_is_refused(credentials: Credentials, line: str) -> None:
    before = credentials.add_old(1)
    credentials.keys(NEW, OLD, line)
    done = credentials.run()
    assert (done.returncode, done.stdout) == (2, "")
    said = "A line of platform_encryption_key_fallbacks is not a Fernet key"
    assert messages(done.stderr)[-1] == said
    assert credentials.rows(ALL) == before


def test_a_column_that_dates_itself_is_not_dated_anew(credentials: Credentials) -> None:
    before = credentials.add_old()
    credentials.rows(
        "ALTER TABLE platform_connections MODIFY updated_at DATETIME NULL"
        " ON UPDATE CURRENT_TIMESTAMP"
    )
    dates = "SELECT updated_at FROM platform_connections ORDER BY id"
    dated = credentials.rows(dates)
    assert credentials.run().stdout == "reencrypted\n"
    assert credentials.rows(dates) == dated
    assert credentials.rows(ALL) != before
    credentials.rows("UPDATE platform_connections SET name = 'other' WHERE id = 1")
    assert credentials.rows(dates) != dated, "the column does not date itself"


def test_killed_before_the_commit_all_is_as_it_was(credentials: Credentials) -> None:
    before = credentials.add_old()
    with credentials.held(3):
        process = credentials.stack.start(MODULE)

        def written() -> bool:
            assert process.running(), process.output
            return [opened(NEW, row[1]) for row in credentials.uncommitted()] == ["1a", "2a", None]

        servers.wait_for(written, what="the rewriting of two rows of three")
        process.kill()
    no_secret(process.output)
    assert credentials.rows(ALL) == before
    assert credentials.opens(OLD) == expected()
    assert credentials.opens(NEW) == NOTHING
    assert credentials.run().stdout == "reencrypted\n"
    assert credentials.opens(NEW) == expected()
    assert credentials.opens(OLD) == NOTHING


def test_nobody_comes_between(credentials: Credentials) -> None:
    credentials.add_old()
    with credentials.held(2):
        process = credentials.stack.start(MODULE)
        servers.wait_for(lambda: opened(NEW, credentials.uncommitted()[0][1]), what="the first row")
        second = credentials.run("--wait", "1")
        assert (second.returncode, second.stdout) == (4, "")
        said = "Another process writes the credentials anew since 1 s"
        assert messages(second.stderr)[-1] == said
        credentials.rows("SET GLOBAL innodb_lock_wait_timeout = 1")
        try:
            with pytest.raises(pymysql.OperationalError, match="1205"):
                credentials.add(9, sealed(OLD, "9a"))
            with pytest.raises(pymysql.OperationalError, match="1205"):
                credentials.rows("UPDATE platform_connections SET client_key = 'x' WHERE id = 3")
        finally:
            credentials.rows("SET GLOBAL innodb_lock_wait_timeout = 50")
    assert process.popen.wait(30) == 0
    assert credentials.opens(NEW) == expected()


@contextlib.contextmanager
def other_transaction(credentials: Credentials) -> t.Iterator[t.Any]:
    """Hold a row in a transaction of a replica that still writes with the old key."""
    connection = pymysql.connect(
        unix_socket=f"{credentials.stack.mysql.directory}/sock", user="root", database="vedfolnir"
    )
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute(
            "UPDATE platform_connections SET access_token = %s WHERE id = 2", (sealed(OLD, "new"),)
        )
        yield connection


def test_a_write_under_way_is_waited_for_and_rewritten(credentials: Credentials) -> None:
    credentials.add_old()
    waiting = "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
    with other_transaction(credentials) as connection:
        process = credentials.stack.start(MODULE)
        servers.wait_for(lambda: credentials.rows(waiting), what="the wait for the row")
        again = "Another transaction holds rows, again: OperationalError 1205"
        servers.wait_for(lambda: again in process.output, what="a second try")
        connection.commit()
        assert process.popen.wait(30) == 0
    assert credentials.opens(NEW)[1] == ("new", "2b", "2c")
    no_secret(process.output)


def test_a_row_that_is_held_too_long_ends_the_job(credentials: Credentials) -> None:
    before = credentials.add_old()
    with other_transaction(credentials):
        done = credentials.run("--wait", "1")
    assert (done.returncode, done.stdout) == (1, "")
    said = "The transaction failed, running again is safe: OperationalError 1205"
    assert messages(done.stderr)[-1] == said
    assert credentials.rows(ALL) == before


@pytest.mark.parametrize("fault", BROKEN)
def test_what_does_not_read_back_is_rolled_back(credentials: Credentials, fault: str) -> None:
    """A trigger makes the server store something else than the job writes into the last row."""
    before = credentials.add_old()
    credentials.cache("platform:1")
    credentials.rows(BREAK.replace("FAULT", BROKEN[fault]))
    done = credentials.run()
    assert (done.returncode, done.stdout) == (1, "")
    said = "The transaction was rolled back: access_token of row 3 does not read back as it was"
    assert messages(done.stderr)[-1] == said
    assert credentials.rows(ALL) == before
    assert credentials.opens(OLD) == expected()
    credentials.rows("DROP TRIGGER broken")
    assert credentials.run().stdout == "reencrypted\n"
    assert credentials.opens(NEW) == expected()


def test_what_no_key_opens_must_stay_too(credentials: Credentials) -> None:
    credentials.add(1, sealed(OLD, "1a"), sealed(LOST, "1b"))
    before = credentials.rows(ALL)
    credentials.rows(
        "CREATE TRIGGER broken BEFORE UPDATE ON platform_connections FOR EACH ROW"
        " SET NEW.client_key = NULL"
    )
    assert credentials.run().returncode == 1
    assert credentials.rows(ALL) == before


def test_a_failed_proof_rolls_back_in_this_process(
    credentials: Credentials, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = credentials.add_old()
    seen: list[list[t.Any]] = []

    def refuse(*_arguments: t.Any) -> None:
        seen.append(credentials.uncommitted())
        raise reencrypt.MismatchError("no")

    monkeypatch.setattr(reencrypt, "verify", refuse)
    found = settings.load(credentials.stack.environment(), credentials.stack.app)
    with caplog.at_level(logging.INFO):
        assert reencrypt.run(found, 5) == 1
    assert [opened(NEW, row[3]) for row in seen[0]] == ["1c", "2c", "3c"]
    assert credentials.rows(ALL) == before
    no_secret(caplog.text)


def test_rows_that_came_or_went_are_a_mismatch() -> None:
    ring = reencrypt.Ring(NEW, [OLD])
    before: reencrypt.Rows = {1: (ring.read(sealed(OLD, "a")), ring.read(None), ring.read(""))}
    now = {1: (before[1][0].fresh, None, "")}
    reencrypt.verify(ring, before, now)
    for other in ({}, {2: now[1]}, {**now, 2: now[1]}):
        with pytest.raises(reencrypt.MismatchError, match="came or went"):
            reencrypt.verify(ring, before, other)
    assert repr(before[1][0]) == "Value()"


def test_the_caches_are_removed_by_the_user_that_the_role_makes(credentials: Credentials) -> None:
    credentials.add_old()
    many = [f"platform:{number}" for number in range(1200)]
    stays = ("platform_stats:1:x", "vedfolnir:session:1", "x:platform:1", "platforms")
    client = credentials.cache(*many, "user_platforms:1", "user_platforms:2", *stays)
    client.execute_command(  # type: ignore[no-untyped-call]
        "ACL", "SETUSER", "role", "on", f">{servers.REDIS_PASSWORD}", *ACL.split()
    )
    done = credentials.run(REDIS_USER="role")
    assert (done.returncode, done.stdout) == (0, "reencrypted\n")
    assert messages(done.stderr)[-1] == "Removed 1202 cached platforms and lists from Redis"
    assert sorted(client.keys()) == sorted(name.encode() for name in stays)


def test_a_redis_that_is_down_is_told_after_the_commit(credentials: Credentials) -> None:
    credentials.add_old()
    client = credentials.cache("platform:1")
    done = credentials.run(REDIS_PORT=str(servers.free_port()))
    assert (done.returncode, done.stdout) == (6, "")
    assert summary(done.stderr).startswith("3 rows, 9 values rewritten")
    last = messages(done.stderr)[-1]
    said = "The database is done, but Redis still caches platforms; running again is safe: "
    assert last.startswith(f"{said}ConnectionError")
    assert credentials.opens(NEW) == expected()
    assert client.exists("platform:1")
    again = credentials.run()
    assert (again.returncode, again.stdout) == (0, "current\n")
    assert not client.exists("platform:1")


def test_a_redis_that_refuses_the_password(credentials: Credentials) -> None:
    (credentials.stack.secrets / "redis_password").write_text("another-password")
    done = credentials.run()
    assert done.returncode == 6
    assert "another-password" not in done.stderr


def test_an_absent_database_has_the_code_of_the_other_jobs(credentials: Credentials) -> None:
    done = credentials.run("--wait", "1", MYSQL_PORT=str(servers.free_port()))
    assert (done.returncode, done.stdout) == (3, "")
