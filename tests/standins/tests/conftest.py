"""Servers shared by the tests, and one running installation of the application."""

from __future__ import annotations

import itertools
import typing as t
from pathlib import Path

import pytest
from standin_certificates import write_certificates
from standin_services import (
    Database,
    Ollama,
    RedisServer,
    ensure_venv,
    start_mariadb,
    start_module,
    start_redis,
)
from standin_site import Site

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def python() -> Path:
    """Return the Python of the application."""
    return ensure_venv()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a CA and a server certificate."""
    return write_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory, certificates: Path) -> t.Iterator[Database]:
    """Run a MariaDB."""
    server = start_mariadb(tmp_path_factory.mktemp("db"), certificates)
    yield server
    server.program.stop()


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[RedisServer]:
    """Run a Redis."""
    server = start_redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.program.stop()


@pytest.fixture(scope="session")
def make_site(
    tmp_path_factory: pytest.TempPathFactory, python: Path, database: Database, cache: RedisServer
) -> t.Callable[[], Site]:
    """Return what makes new installations."""

    def make() -> Site:
        name = f"site{next(_NUMBERS)}"
        return Site(name, tmp_path_factory.mktemp(name), python, database, cache)

    return make


@pytest.fixture
def site(make_site: t.Callable[[], Site]) -> Site:
    """Return a new installation in which nothing runs."""
    return make_site()


@pytest.fixture(scope="session")
def fediverse(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[str]:
    """Run the fake platform and return its URL."""
    url, program = start_module("fediverse", tmp_path_factory.mktemp("fediverse"))
    yield url
    program.stop()


@pytest.fixture(scope="session")
def ollama(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Ollama]:
    """Run the Ollama stand-in with the application's default model."""
    server = Ollama(tmp_path_factory.mktemp("ollama"))
    assert server.run("pull", "llava:7b").returncode == 0
    yield server
    server.program.stop()


@pytest.fixture(scope="session")
def running(make_site: t.Callable[[], Site], ollama: Ollama) -> t.Iterator[Site]:
    """Run the application with an administrator ``root`` and a user ``anna``."""
    site = make_site()
    site.env["OLLAMA_URL"] = ollama.url
    program = site.serve()
    site.create_user("root", "ADMIN")
    site.create_user("anna")
    yield site
    program.stop()
