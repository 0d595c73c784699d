"""The database: one administrator and the sessions, in SQLite as Grafana's own."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import sqlite3
import typing as t
from pathlib import Path

ADMIN = 1


def _digest(password: str, salt: bytes) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 10_000)


class Store:
    """The users."""

    def __init__(self, data: Path) -> None:
        """Remember where the database is."""
        self._path = data / "grafana.db"

    @contextlib.contextmanager
    def _open(self) -> t.Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self._path, timeout=10)
        try:
            with connection:
                yield connection
        finally:
            connection.close()

    def make(self, login: str, password: str) -> bool:
        """Make the database with its administrator; tell whether there was none."""
        if self._path.exists() and self._path.stat().st_size:
            return False
        with self._open() as database:
            database.execute(
                "CREATE TABLE user (id INTEGER PRIMARY KEY, login TEXT UNIQUE, salt, password)"
            )
            database.execute("CREATE TABLE session (token TEXT PRIMARY KEY, user INTEGER)")
            database.execute("INSERT INTO user (id, login) VALUES (?, ?)", (ADMIN, login))
        self.set_password(password)
        return True

    def set_password(self, password: str, user: int = ADMIN) -> None:
        """Give a user a password."""
        salt = os.urandom(16)
        with self._open() as database:
            database.execute(
                "UPDATE user SET salt = ?, password = ? WHERE id = ?",
                (salt, _digest(password, salt), user),
            )

    def user(self, login: str, password: str) -> int:
        """Return the number of the user who has this password, else 0."""
        with self._open() as database:
            row = database.execute(
                "SELECT id, salt, password FROM user WHERE login = ?", (login,)
            ).fetchone()
        if row is None or not hmac.compare_digest(_digest(password, row[1]), row[2]):
            return 0
        return int(row[0])

    def begin(self, user: int) -> str:
        """Return the token of a new session."""
        token = secrets.token_hex(16)
        with self._open() as database:
            database.execute("INSERT INTO session VALUES (?, ?)", (token, user))
        return token

    def session(self, token: str) -> int:
        """Return the user of a session, else 0."""
        with self._open() as database:
            row = database.execute("SELECT user FROM session WHERE token = ?", (token,)).fetchone()
        return int(row[0]) if row else 0
