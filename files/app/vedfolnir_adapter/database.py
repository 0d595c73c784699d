"""Short-lived MySQL connections, a bounded wait and named locks that survive a reconnect."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import types
import typing as t

import pymysql

from vedfolnir_adapter import request_ids, traces
from vedfolnir_adapter.settings import Settings

log = logging.getLogger(__name__)

EX_TEMPFAIL: t.Final = 75
PING_SECONDS: t.Final = 5.0
MAX_LOCK_NAME: t.Final = 64


class DatabaseUnavailableError(Exception):
    """The database did not answer in time."""


def connect(settings: Settings, *, timeout: int = 5) -> pymysql.connections.Connection[t.Any]:
    """Open a connection with autocommit."""
    return pymysql.connect(
        host=settings.mysql_host,
        port=settings.mysql_port,
        user=settings.mysql_user,
        password=settings.secrets["mysql_password"],
        database=settings.mysql_database,
        charset="utf8mb4",
        autocommit=True,
        connect_timeout=timeout,
        read_timeout=30,
        ssl={"ca": settings.ca_file} if settings.ca_file else None,
    )


@contextlib.contextmanager
def _cursor(settings: Settings, sql: str) -> t.Iterator[t.Any]:
    """Open a connection for one statement."""
    with (
        traces.child(*traces.statement(sql)),
        contextlib.closing(connect(settings)) as connection,
        connection.cursor() as cursor,
    ):
        yield cursor


def query(settings: Settings, sql: str, arguments: t.Sequence[t.Any] = ()) -> list[t.Any]:
    """Run one statement and return its rows."""
    with _cursor(settings, sql) as cursor:
        cursor.execute(request_ids.commented(sql), arguments)
        return list(cursor.fetchall())


def execute(settings: Settings, sql: str, arguments: t.Sequence[t.Any] = ()) -> int:
    """Run one statement and return the number of rows it changed."""
    with _cursor(settings, sql) as cursor:
        return int(cursor.execute(request_ids.commented(sql), arguments))


def describe(exc: BaseException) -> str:
    """Name an error in a few words (PyMySQL puts no password into its messages)."""
    code = exc.args[0] if exc.args else ""
    return f"{type(exc).__name__} {code}".strip()


def wait(settings: Settings, seconds: float, *, report_every: float = 5.0) -> None:
    """Wait until a query answers, with a progress line now and then."""
    started = time.monotonic()
    place = f"{settings.mysql_host}:{settings.mysql_port}/{settings.mysql_database}"
    reported = float("-inf")
    while True:
        try:
            query(settings, "SELECT 1")
        except (pymysql.Error, OSError) as exc:
            passed = time.monotonic() - started
            if passed >= seconds:
                msg = f"the database {place} did not answer within {seconds:g} s: {describe(exc)}"
                raise DatabaseUnavailableError(msg) from exc
            if passed - reported >= report_every:
                reported = passed
                log.info("Waiting for the database %s (%.0f s): %s", place, passed, describe(exc))
            time.sleep(min(1.0, max(0.05, seconds - passed)))
        else:
            log.info("The database %s answers", place)
            return


class NamedLock:
    """A MySQL named lock: one holder on the whole server, freed when its process dies.

    A thread pings the connection. When the server restarts it takes the lock again; when
    somebody else got it meanwhile this process ends at once, for two holders would work twice.
    """

    def __init__(self, settings: Settings, name: str, *, wait_seconds: float = 0) -> None:
        """Prefix the name with the database, since names are global to the server."""
        self.name = f"{settings.mysql_database}.{name}"[:MAX_LOCK_NAME]
        self._settings = settings
        self._wait = wait_seconds
        self._connection: pymysql.connections.Connection[t.Any] | None = None
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def _take(self, wait_seconds: float) -> bool:
        connection = connect(self._settings)
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET SESSION wait_timeout = 86400")
                cursor.execute("SELECT GET_LOCK(%s, %s)", (self.name, wait_seconds))
                row = cursor.fetchone()
        except BaseException:
            connection.close()
            raise
        if row and row[0] == 1:
            self._connection = connection
            return True
        connection.close()
        return False

    def acquire(self) -> bool:
        """Take the lock; false when another process holds it."""
        deadline = time.monotonic() + self._wait
        # In slices, because the connection's read timeout is finite.
        while not self._take(min(5.0, max(0.0, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                return False
        self._thread = threading.Thread(target=self._keep, name=f"lock {self.name}", daemon=True)
        self._thread.start()
        return True

    def _keep(self) -> None:
        while not self._done.wait(PING_SECONDS):
            try:
                if self._connection is None:
                    self._retake()
                else:
                    self._connection.ping(reconnect=False)
            except (pymysql.Error, OSError) as exc:
                if self._connection is not None:
                    log.warning("Lost the connection of lock %s: %s", self.name, describe(exc))
                    with contextlib.suppress(Exception):
                        self._connection.close()
                self._connection = None

    def _retake(self) -> None:
        if self._take(0):
            log.info("Took lock %s again", self.name)
            return
        log.critical("Another process has taken lock %s; stopping at once", self.name)
        os._exit(EX_TEMPFAIL)

    def release(self) -> None:
        """Stop the thread and free the lock."""
        self._done.set()
        if self._thread is not None:
            self._thread.join()
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.close()
            self._connection = None

    def __enter__(self) -> bool:
        """Take the lock and say whether it was free."""
        return self.acquire()

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _value: BaseException | None,
        _trace: types.TracebackType | None,
    ) -> None:
        """Free the lock."""
        self.release()
