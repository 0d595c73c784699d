"""Start what the tests talk to: programs on loopback ports, everything in a temporary directory."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pymysql
import redis
import requests

STANDINS = Path(__file__).resolve().parents[1]
APP_SOURCE = STANDINS / "app"
VENV = STANDINS.parents[1] / ".lab" / "standin-venv"
PASSWORD = "Pass/word:with@reserved#characters"
# The application's health check does not undo the quoting of the Redis URL.
REDIS_PASSWORD = "redis-password-without-reserved-characters"
QUOTED_PASSWORD = "Pass%2Fword%3Awith%40reserved%23characters"


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(probe: t.Callable[[], t.Any], seconds: float = 30, what: str = "condition") -> t.Any:
    """Call ``probe`` until it returns something true; an exception counts as false."""
    deadline = time.monotonic() + seconds
    problem: object = None
    while time.monotonic() < deadline:
        try:
            result = probe()
        except Exception as exc:
            problem = exc
        else:
            if result:
                return result
            problem = result
        time.sleep(0.1)
    msg = f"{what} not met within {seconds} s: {problem!r}"
    raise AssertionError(msg)


class Program:
    """A process of ours with its output in a file."""

    def __init__(
        self,
        argv: list[str],
        log: Path,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                argv,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=env if env is not None else dict(os.environ),
                cwd=cwd,
                start_new_session=True,
            )

    def output(self) -> str:
        """Return what the program wrote so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait(self, seconds: float = 30) -> int:
        """Return the exit code."""
        return self.process.wait(timeout=seconds)

    def stop(self, seconds: float = 20) -> int:
        """Send TERM, then KILL, and return the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()


def require(name: str) -> str:
    """Return the path of a server program; fail with the package to install."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        msg = f"{name} is missing: apt-get install mariadb-server redis-server"
        raise AssertionError(msg)
    return path


@dataclasses.dataclass
class Database:
    """A MariaDB server of our own."""

    port: int
    program: Program

    def connect(self, database: str | None = None) -> pymysql.connections.Connection[t.Any]:
        """Return a connection as the administrator."""
        return pymysql.connect(
            host="127.0.0.1",
            port=self.port,
            user="tests",
            password=PASSWORD,
            database=database,
            autocommit=True,
        )

    def query(
        self, database: str | None, statement: str, *values: object
    ) -> tuple[tuple[t.Any, ...], ...]:
        """Return the rows of a statement; ``values`` fill its placeholders."""
        with self.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return tuple(cursor.fetchall())

    def url(self, database: str, options: str = "") -> str:
        """Return the application's URL for a database."""
        return (
            f"mysql+pymysql://tests:{QUOTED_PASSWORD}@127.0.0.1:{self.port}/{database}"
            f"?charset=utf8mb4{options}"
        )


def start_mariadb(directory: Path, certificates: Path) -> Database:
    """Start MariaDB with TLS offered and an administrator ``tests``."""
    data, port = directory / "mysql", free_port()
    as_root = ["--user=root"] if os.geteuid() == 0 else []
    subprocess.run(
        [require("mariadb-install-db"), "--no-defaults", f"--datadir={data}", *as_root],
        check=True,
        capture_output=True,
    )
    init = directory / "init.sql"
    init.write_text(
        f"CREATE USER tests@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n"
        "GRANT ALL ON *.* TO tests@'127.0.0.1' WITH GRANT OPTION;\n",
        encoding="utf-8",
    )
    program = Program(
        [
            require("mariadbd"),
            "--no-defaults",
            *as_root,
            f"--datadir={data}",
            f"--socket={directory / 'mysql.sock'}",
            f"--init-file={init}",
            f"--port={port}",
            "--bind-address=127.0.0.1",
            f"--ssl-ca={certificates / 'ca.pem'}",
            f"--ssl-cert={certificates / 'server.pem'}",
            f"--ssl-key={certificates / 'server.key'}",
            # Nothing here has to outlive a power cut.
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-flush-method=nosync",
            "--innodb-doublewrite=0",
        ],
        directory / "mysql.log",
    )
    database = Database(port, program)
    wait_for(lambda: database.query(None, "SELECT 1"), what="MariaDB")
    return database


@dataclasses.dataclass
class RedisServer:
    """A Redis of our own."""

    port: int
    program: Program

    @property
    def url(self) -> str:
        """Return the URL with the password."""
        return f"redis://:{REDIS_PASSWORD}@127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        """Return a client."""
        return redis.Redis.from_url(self.url, decode_responses=True)


def start_redis(directory: Path) -> RedisServer:
    """Start Redis with a password."""
    port = free_port()
    configuration = directory / "redis.conf"
    configuration.write_text(
        f'port {port}\nbind 127.0.0.1\nsave ""\nrequirepass {REDIS_PASSWORD}\ndir {directory}\n',
        encoding="utf-8",
    )
    program = Program([require("redis-server"), str(configuration)], directory / "redis.log")
    server = RedisServer(port, program)
    wait_for(lambda: server.client().ping(), what="Redis")
    return server


def start_module(name: str, directory: Path, *arguments: str) -> tuple[str, Program]:
    """Start one of the stand-ins that need only Python, and return its URL."""
    port = free_port()
    program = Program(
        [sys.executable, "-m", name, "--host", "127.0.0.1", "--port", str(port), *arguments],
        directory / f"{name}.log",
        cwd=STANDINS,
    )
    url = f"http://127.0.0.1:{port}"
    wait_for(lambda: requests.get(f"{url}/_control/health", timeout=2).ok, what=name)
    return url, program


class Ollama:
    """The Ollama stand-in, server and command line, with a directory of its own."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.models = directory / "models"
        self.log = directory / "ollama.log"
        self.env = dict(os.environ) | {
            "OLLAMA_HOST": f"127.0.0.1:{self.port}",
            "OLLAMA_MODELS": str(self.models),
            **settings,
        }
        self.start()

    def start(self) -> None:
        """Start the server."""
        script = str(STANDINS / "ollama" / "ollama.py")
        self.program = Program([sys.executable, script, "serve"], self.log, env=self.env)
        wait_for(lambda: requests.get(f"{self.url}/api/version", timeout=2).ok, what="Ollama")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line."""
        return subprocess.run(
            [sys.executable, str(STANDINS / "ollama" / "ollama.py"), *arguments],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def ensure_venv() -> Path:
    """Return the Python that has the application's packages, installing them when need be."""
    python = VENV / "bin" / "python"
    pins = APP_SOURCE / "constraints.txt"
    stamp = VENV / "installed.txt"
    if stamp.is_file() and stamp.read_bytes() == pins.read_bytes() and python.exists():
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
    subprocess.run([str(python), "-m", "pip", "install", "-q", "-r", str(pins)], check=True)
    stamp.write_bytes(pins.read_bytes())
    return python
