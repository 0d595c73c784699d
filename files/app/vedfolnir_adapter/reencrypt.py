"""Write the stored credentials anew under the present Fernet key, in the middle of its rotation.

`python -m vedfolnir_adapter.reencrypt [--wait SECONDS]`, to be run once every process writes with
the new `platform_encryption_key` and `platform_encryption_key_fallbacks` still holds the old one.
All rows change in one transaction, which ends well only when the new key alone opens everything
that any key opened before; then the caches of the platforms are taken out of Redis. Values that
no key opens were lost before: they stay as they are and are named in a warning.

Prints `reencrypted`, or `current` when nothing was left to do. Running it again is always safe.
Exit codes: 0 done, 1 the transaction failed, 2 settings, 3 the database did not answer, 4 another
process held the lock too long, 6 the database is done, but Redis still has the caches.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import logging
import sys
import time
import typing as t

import pymysql
import redis

# The class itself: `fernet_patch` replaces the name in its module by one that opens with every
# key, and that one proves nothing. Hence this import stands before `bootstrap.prepare` is called.
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from vedfolnir_adapter import database
from vedfolnir_adapter.schema import EXIT_FAILED, EXIT_LOCK, prepare_job, result
from vedfolnir_adapter.settings import EXIT_SETTINGS, Settings

EXIT_REDIS = 6
LOCK = "reencrypt"
#: Seconds a statement waits for a row; shorter than the connection's read timeout.
ROW_LOCK_SECONDS: t.Final = 5
#: Errors that mean "another transaction holds a row": lock wait timeout, deadlock.
BUSY: t.Final = (1205, 1213)
CACHES: t.Final = ("platform:*", "user_platforms:*")
BATCH: t.Final = 500

COLUMNS: t.Final = ("access_token", "client_key", "client_secret")
_EXISTS = (
    "SELECT COUNT(*) FROM information_schema.tables"
    " WHERE table_schema = DATABASE() AND table_name = 'platform_connections'"
)
_READ = (
    "SELECT id, access_token, client_key, client_secret FROM platform_connections"
    " ORDER BY id FOR UPDATE"
)
# NULL leaves a column alone, and an ON UPDATE clause must not call this a change of the row.
_WRITE = (
    "UPDATE platform_connections SET access_token = COALESCE(%s, access_token),"
    " client_key = COALESCE(%s, client_key), client_secret = COALESCE(%s, client_secret),"
    " updated_at = updated_at WHERE id = %s"
)

log = logging.getLogger(__name__)


class MismatchError(Exception):
    """What was written is not what was read; says where, never what."""


@dataclasses.dataclass(frozen=True)
class Value:
    """One stored value, what it opens to (if any key opens it) and what replaces it (if it must).

    Nothing of it is in its repr.
    """

    stored: str | None = dataclasses.field(repr=False)
    plain: bytes | None = dataclasses.field(default=None, repr=False)
    fresh: str | None = dataclasses.field(default=None, repr=False)

    @property
    def unreadable(self) -> bool:
        """Whether there is something that no key opens."""
        return bool(self.stored) and self.plain is None


Rows = dict[int, tuple[Value, ...]]


def _opened(keys: Fernet | MultiFernet, stored: str) -> bytes | None:
    try:
        return keys.decrypt(stored.encode())
    except InvalidToken:
        return None


class Ring:
    """The present key, alone and together with the further ones."""

    def __init__(self, present: str, others: t.Sequence[str]) -> None:
        """Take the keys; a `ValueError` says that one is none."""
        self._present = Fernet(present)
        self._all = MultiFernet([self._present, *(Fernet(key) for key in others)])

    def read(self, stored: str | None) -> Value:
        """Open a value and, if the present key alone does not, write it anew.

        Like `MultiFernet.rotate` this keeps the time at which the value was encrypted.
        """
        if not stored:
            return Value(stored)
        plain = _opened(self._present, stored)
        if plain is not None:
            return Value(stored, plain)
        plain = _opened(self._all, stored)
        if plain is None:
            return Value(stored)
        return Value(stored, plain, self._all.rotate(stored.encode()).decode())

    def proves(self, value: Value, now: str | None) -> bool:
        """Whether the present key alone opens `now` to the same, or the value was left alone."""
        if value.plain is None:
            return now == value.stored
        return bool(now) and _opened(self._present, now or "") == value.plain


def _read(cursor: t.Any) -> dict[int, tuple[str | None, ...]]:
    cursor.execute(_READ)
    return {row[0]: tuple(row[1:]) for row in cursor.fetchall()}


def verify(
    ring: Ring,
    before: t.Mapping[int, tuple[Value, ...]],
    now: t.Mapping[int, tuple[str | None, ...]],
) -> None:
    """Compare the rows with what they were, or raise `MismatchError`."""
    if before.keys() != now.keys():
        msg = "rows came or went"
        raise MismatchError(msg)
    for number, values in before.items():
        for column, value, stored in zip(COLUMNS, values, now[number], strict=True):
            if not ring.proves(value, stored):
                msg = f"{column} of row {number} does not read back as it was"
                raise MismatchError(msg)


def _transaction(settings: Settings, ring: Ring) -> Rows:
    """Rewrite and prove all rows in one transaction; return them as they were."""
    with (
        contextlib.closing(database.connect(settings)) as connection,
        connection.cursor() as cursor,
    ):
        # With this level the locking read keeps new rows out, too.
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SET SESSION innodb_lock_wait_timeout = %s", (ROW_LOCK_SECONDS,))
        connection.autocommit(False)
        try:
            before: Rows = {
                number: tuple(ring.read(stored) for stored in row)
                for number, row in _read(cursor).items()
            }
            for number, values in before.items():
                fresh = [value.fresh for value in values]
                if any(fresh):
                    cursor.execute(_WRITE, (*fresh, number))
            verify(ring, before, _read(cursor))
            connection.commit()
        except BaseException:
            # A connection that is gone has been rolled back by the server.
            with contextlib.suppress(pymysql.Error, OSError):
                connection.rollback()
            raise
    return before


def rewrite(settings: Settings, ring: Ring, seconds: float) -> Rows:
    """Run the transaction, again while others hold rows; no rows when there is no table yet."""
    if not database.query(settings, _EXISTS)[0][0]:
        log.info("There is no table of platforms yet")
        return {}
    deadline = time.monotonic() + seconds
    while True:
        try:
            return _transaction(settings, ring)
        except pymysql.Error as exc:
            busy = bool(exc.args) and exc.args[0] in BUSY
            if not busy or time.monotonic() >= deadline:
                raise
            log.info("Another transaction holds rows, again: %s", database.describe(exc))


def purge(settings: Settings) -> int:
    """Remove what Redis caches of the platforms and return the number of keys."""
    client = redis.Redis.from_url(settings.redis_url, socket_timeout=5, socket_connect_timeout=5)
    removed = 0
    with contextlib.closing(client):
        for pattern in CACHES:
            keys = client.scan_iter(match=pattern, count=BATCH)
            while batch := list(itertools.islice(keys, BATCH)):
                removed += client.unlink(*batch)
    return removed


def report(rows: Rows) -> int:
    """Log what was done, and the places of what no key opens; return how many were rewritten."""
    for number, values in rows.items():
        lost = [column for column, value in zip(COLUMNS, values, strict=True) if value.unreadable]
        if lost:
            log.warning("No key opens %s of row %d, left as it is", " and ".join(lost), number)
    stored = [value for row in rows.values() for value in row if value.stored]
    rewritten = sum(value.fresh is not None for value in stored)
    unreadable = sum(value.unreadable for value in stored)
    log.info(
        "Platforms: %d rows, %d values rewritten, %d already current, %d unreadable",
        len(rows), rewritten, len(stored) - rewritten - unreadable, unreadable,
    )  # fmt: skip
    return rewritten


def _under_lock(settings: Settings, ring: Ring, seconds: float) -> int:
    try:
        rewritten = report(rewrite(settings, ring, seconds))
    except MismatchError as exc:
        log.critical("The transaction was rolled back: %s", exc)
        return EXIT_FAILED
    except (pymysql.Error, OSError) as exc:
        log.critical("The transaction failed, running again is safe: %s", database.describe(exc))
        return EXIT_FAILED
    try:
        log.info("Removed %d cached platforms and lists from Redis", purge(settings))
    except (redis.RedisError, OSError) as exc:
        said = "The database is done, but Redis still caches platforms; running again is safe: %s"
        log.critical(said, database.describe(exc))
        return EXIT_REDIS
    result("reencrypted" if rewritten else "current")
    return 0


def run(settings: Settings, seconds: float) -> int:
    """Check the keys and do everything under a lock."""
    try:
        ring = Ring(settings.secrets["platform_encryption_key"], settings.encryption_fallback_keys)
    except ValueError:
        log.critical("A line of platform_encryption_key_fallbacks is not a Fernet key")
        return EXIT_SETTINGS
    if not settings.encryption_fallback_keys:
        log.warning("platform_encryption_key_fallbacks is empty, so no earlier key is tried")
    with database.NamedLock(settings, LOCK, wait_seconds=seconds) as held:
        if not held:
            log.critical("Another process writes the credentials anew since %g s", seconds)
            return EXIT_LOCK
        return _under_lock(settings, ring, seconds)


def main() -> int:
    """Parse the command line and do it."""
    parser = argparse.ArgumentParser(prog="vedfolnir_adapter.reencrypt")
    parser.add_argument("--wait", type=float, default=120, help="seconds to wait (default 120)")
    options = parser.parse_args()
    return run(prepare_job(options.wait), options.wait)


if __name__ == "__main__":
    sys.exit(main())
