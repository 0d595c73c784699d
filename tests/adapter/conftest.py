"""The stand-in application behind the real adapter, with real servers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import requests

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "files/app"))
sys.path.insert(0, str(ROOT / "tests/standins"))
sys.path.insert(0, str(Path(__file__).parent))

import servers  # noqa: E402
from neighbours import Ollama, Platform  # noqa: E402

FLASK_KEY = "flask-key-one-0123456789abcdef"
FERNET_KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
ADMIN_PASSWORD = "Adm1n-pass-word!"
APP_FILES = ("app", "config", "scripts", "standin", "static", "admin", "templates")


@pytest.fixture(scope="session")
def python() -> str:
    """The interpreter of an environment with the versions of the image."""
    environment = ROOT / ".lab/adapter-venv"
    executable = environment / "bin/python"
    constraints = ROOT / "files/app/constraints.txt"
    if not executable.exists():
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        subprocess.run(
            [str(executable), "-m", "pip", "install", "-q", "-r", str(constraints)], check=True
        )
    return str(executable)


class Stack:
    """Servers, secrets and the application's directory, and ways to run the adapter on them."""

    def __init__(self, directory: Path, python: str) -> None:
        missing = servers.missing_programs()
        if missing:
            pytest.skip(f"not installed: {', '.join(missing)} (mariadb-server, redis-server)")
        self.python = python
        self.directory = directory
        self.counter = 0
        self.processes: list[servers.Process] = []
        for name in ("mysql", "redis", "secrets"):
            (directory / name).mkdir()
        self.mysql = servers.MySQL(directory / "mysql")
        self.redis = servers.Redis(directory / "redis")
        self.secrets = directory / "secrets"
        self.reset_secrets()
        self.app = self._copy_app()

    def _copy_app(self) -> Path:
        target = self.directory / "app"
        source = ROOT / "tests/standins/app"
        shutil.copytree(
            source, target, ignore=shutil.ignore_patterns("tests", "secrets", ".*", "__pycache__")
        )
        (target / "logs/app").mkdir(parents=True)
        (target / "storage/images").mkdir(parents=True)
        return target

    def reset_secrets(self) -> None:
        for old in self.secrets.iterdir():
            old.unlink()
        values = {
            "flask_secret_key": FLASK_KEY,
            "platform_encryption_key": FERNET_KEY,
            "mysql_password": servers.MYSQL_PASSWORD,
            "redis_password": servers.REDIS_PASSWORD,
            "admin_password": ADMIN_PASSWORD,
            "ca.pem": self.mysql.ca.read_text(encoding="utf-8"),
        }
        for name, value in values.items():
            (self.secrets / name).write_text(f"{value}\n", encoding="utf-8")

    def environment(self, **extra: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "PYTHONPATH": f"{self.app}:{ROOT}/files/app",
            "PYTHONDONTWRITEBYTECODE": "1",
            "CONTAINER_ENV": "true",
            "FLASK_ENV": "production",
            "STANDIN_APP_ROOT": str(self.app),
            "VEDFOLNIR_SECRETS_DIR": str(self.secrets),
            "VEDFOLNIR_HEARTBEAT_DIR": str(self.directory / "heartbeat"),
            "VEDFOLNIR_GUNICORN_CONFIG": str(self.app / "gunicorn.conf.py"),
            "VEDFOLNIR_ALLOWED_ORIGINS": "https://captions.example.org",
            "MYSQL_HOST": "127.0.0.1",
            "MYSQL_PORT": str(self.mysql.port),
            "MYSQL_USER": "app",
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(self.redis.port),
            "REDIS_USER": "appuser",
            "OLLAMA_URL": "http://127.0.0.1:1",
            "OLLAMA_TIMEOUT": "10.0",
            **extra,
        }

    def run(self, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        """Run a module of the adapter to its end."""
        return subprocess.run(
            [self.python, "-m", *arguments],
            env=self.environment(**extra),
            cwd=self.app,
            text=True,
            capture_output=True,
            timeout=120,
        )

    def start(self, *arguments: str, **extra: str) -> servers.Process:
        """Start a module of the adapter."""
        self.counter += 1
        metrics = str(self.directory / f"metrics-{self.counter}")
        process = servers.Process(
            [self.python, "-m", *arguments],
            self.directory / f"process-{self.counter}.log",
            env=self.environment(PROMETHEUS_MULTIPROC_DIR=metrics, **extra),
            cwd=self.app,
        )
        self.processes.append(process)
        return process

    def stop_all(self) -> None:
        for process in self.processes:
            process.kill()
        self.processes.clear()

    def schema_and_admin(self) -> None:
        assert self.run("vedfolnir_adapter.schema").returncode == 0
        assert (
            self.run(
                "vedfolnir_adapter.admin", "--username", "admin", "--email", "admin@example.org"
            ).returncode
            == 0
        )


def samples(text: str) -> dict[str, float]:
    """Return the series of an exposition with their values."""
    lines = [line for line in text.splitlines() if line and line[0] != "#"]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


class Session(requests.Session):
    """A client that sends Secure cookies back over plain HTTP, as a proxy would."""

    def __init__(self) -> None:
        super().__init__()
        self.headers["X-Forwarded-Proto"] = "https"
        self.jar: dict[str, str] = {}

    def carry(self, answer: requests.Response) -> None:
        """Send the cookies of an answer from now on."""
        self.jar |= {cookie.name: cookie.value or "" for cookie in answer.cookies}
        self.cookies.clear()
        self.headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.jar.items())


class Web:
    """One running replica."""

    def __init__(
        self, stack: Stack, module: str = "serve", more: t.Sequence[str] = (), **extra: str
    ) -> None:
        self.port = servers.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        address = f"127.0.0.1:{self.port}"
        arguments = {
            "serve": ("vedfolnir_adapter.serve", "--bind", address, *more),
            "gunicorn": (
                "gunicorn", "--config", str(stack.app / "gunicorn.conf.py"), "--workers", "1",
                "--bind", address, "vedfolnir_adapter.wsgi:app",
            ),
        }[module]  # fmt: skip
        self.process = stack.start(*arguments, **extra)
        try:
            servers.wait_for(self.ready, 25, "the readiness of the application")
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.process.output}") from None

    def ready(self) -> bool:
        assert self.process.running(), self.process.output
        try:
            return requests.get(f"{self.url}/health/ready", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    def samples(self) -> dict[str, float]:
        """Return the series of /metrics with their values."""
        return samples(requests.get(f"{self.url}/metrics", timeout=30).text)

    def login(self, *, remember: bool = False) -> Session:
        """Log in as the administrator."""
        session = Session()
        form = {"username_or_email": "admin", "password": ADMIN_PASSWORD}
        if remember:
            form["remember_me"] = "y"
        answer = session.post(
            f"{self.url}/user-management/login", data=form, allow_redirects=False, timeout=10
        )
        assert answer.status_code == 302, answer.text[:300]
        session.carry(answer)
        return session


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, python: str) -> t.Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack"), python)
    yield stack
    stack.stop_all()
    stack.mysql.process.kill()
    stack.redis.process.kill()


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Platform]:
    platform = Platform(tmp_path_factory.mktemp("platform"))
    yield platform
    platform.process.kill()


@pytest.fixture(scope="module")
def ollama(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Ollama]:
    ollama = Ollama(tmp_path_factory.mktemp("ollama"))
    yield ollama
    ollama.process.kill()


@pytest.fixture(autouse=True)
def _clean(request: pytest.FixtureRequest) -> t.Iterator[None]:
    """Leave no process and no changed secret behind."""
    yield
    if "stack" in request.fixturenames:
        stack: Stack = request.getfixturevalue("stack")
        stack.stop_all()
        stack.reset_secrets()
