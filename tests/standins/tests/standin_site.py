"""One installation of the stand-in application: database, directory, environment, processes."""

from __future__ import annotations

import base64
import functools
import os
import subprocess
import typing as t
from pathlib import Path

import requests
from standin_services import (
    APP_SOURCE,
    REDIS_PASSWORD,
    Database,
    Program,
    RedisServer,
    free_port,
    wait_for,
)

USER_PASSWORD = "Correct-Horse-7"
_INSERT_USER = (
    "INSERT INTO users (username, email, password_hash, role, is_active, email_verified, "
    "account_locked, failed_login_attempts, created_at) "
    "VALUES (%s, %s, %s, %s, 1, %s, 0, 0, UTC_TIMESTAMP())"
)


@functools.cache
def _password_hash(python: Path) -> str:
    code = f"from werkzeug.security import *; print(generate_password_hash({USER_PASSWORD!r}))"
    return subprocess.run(
        [str(python), "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


class Site:
    """Runs commands and the web process in a directory of its own."""

    def __init__(
        self, name: str, directory: Path, python: Path, database: Database, cache: RedisServer
    ) -> None:
        self.name, self.directory, self.python = name, directory, python
        self.database, self.cache = database, cache
        database.query(
            None, f"CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci"
        )
        self.url = ""
        self.env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(APP_SOURCE),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONWARNINGS": "ignore",
            "CONTAINER_ENV": "true",
            "STANDIN_APP_ROOT": str(directory),
            "STANDIN_PROVIDE_MISSING": "true",
            "FLASK_SECRET_KEY": "the key of the tests",
            "PLATFORM_ENCRYPTION_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
            "DATABASE_URL": database.url(name),
            "REDIS_URL": cache.url,
            "REDIS_PASSWORD": REDIS_PASSWORD,
            "OLLAMA_URL": "http://127.0.0.1:9",
            "RETRY_BASE_DELAY": "0.1",
        }

    def command(self, *argv: str, **env: str | None) -> subprocess.CompletedProcess[str]:
        """Run Python with the site's environment."""
        return subprocess.run(
            [str(self.python), *argv],
            cwd=self.directory,
            env=self.environment(**env),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def environment(self, **changes: str | None) -> dict[str, str]:
        """Return the environment with changes; nothing as a value removes a variable."""
        merged: dict[str, str | None] = {**self.env, **changes}
        return {name: value for name, value in merged.items() if value is not None}

    def program(self, name: str, *argv: str, **env: str | None) -> Program:
        """Start Python with the site's environment."""
        return Program(
            [str(self.python), "-u", *argv],
            self.directory / f"{name}.out",
            env=self.environment(**env),
            cwd=self.directory,
        )

    def gunicorn(self, *arguments: str, **env: str | None) -> Program:
        """Start the web process as upstream's image does; the log is new with every start."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        log = self.directory / "web.out"
        log.unlink(missing_ok=True)
        return Program(
            [
                str(self.python.with_name("gunicorn")),
                "--config",
                str(APP_SOURCE / "gunicorn.conf.py"),
                "--bind",
                f"127.0.0.1:{port}",
                *arguments,
                "web_app:app",
            ],
            log,
            env=self.environment(**env),
            cwd=self.directory,
        )

    def serve(self, *arguments: str, **env: str | None) -> Program:
        """Start the web process with one worker and wait until it answers."""
        program = self.gunicorn("--workers", "1", *arguments, **env)
        try:
            wait_for(lambda: self.get("/health/live").ok, what="the web process")
        except AssertionError:
            program.stop()
            raise AssertionError(program.output()[-3000:]) from None
        return program

    def get(self, path: str, **options: t.Any) -> requests.Response:
        """Fetch a page without a session."""
        options.setdefault("allow_redirects", False)
        return requests.get(self.url + path, timeout=30, **options)

    def create_user(self, name: str, role: str = "VIEWER", *, verified: bool = True) -> None:
        """Create an account; the tables must be there."""
        hashed = _password_hash(self.python)
        self.rows(_INSERT_USER, name, f"{name}@example.org", hashed, role, int(verified))

    def login(self, name: str, password: str = USER_PASSWORD) -> Visitor:
        """Log in and return the session, whether it worked or not."""
        visitor = Visitor(self.url)
        visitor.login_answer = visitor.post(
            "/user-management/login",
            data={"username_or_email": name, "password": password},
            allow_redirects=False,
        )
        return visitor

    def rows(self, statement: str, *values: object) -> tuple[tuple[t.Any, ...], ...]:
        """Return rows of the site's database."""
        return self.database.query(self.name, statement, *values)


class Visitor(requests.Session):
    """A browser session at one site."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.site_url = url
        self.login_answer = requests.Response()

    def request(self, method: t.Any, url: t.Any, **options: t.Any) -> requests.Response:  # type: ignore[override]
        """Send a request to a path of the site."""
        options.setdefault("timeout", 60)
        return super().request(method, self.site_url + url, **options)
