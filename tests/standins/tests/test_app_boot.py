"""Starting and stopping: what the application needs, ignores, and does not survive."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from standin_services import Database, free_port, wait_for
from standin_site import Site


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"FLASK_SECRET_KEY": None}, "FLASK_SECRET_KEY environment variable is required"),
        ({"DATABASE_URL": "postgresql://u:p@127.0.0.1/x"}, "must start with mysql+pymysql://"),
        (
            {"DATABASE_URL": f"mysql+pymysql://u:p@127.0.0.1:{free_port()}/x"},
            "Failed to create MySQL database tables",
        ),
        ({"STANDIN_PROVIDE_MISSING": None}, "docker_task_status_routes"),
        ({"MEMORY_LIMIT": "1.5g"}, "ValueError"),
        ({"DB_POOL_SIZE": "many"}, "ValueError"),
    ],
    ids=["key", "scheme", "unreachable", "missing-module", "memory-limit", "pool-size"],
)
def test_refuses_to_start(site: Site, env: dict[str, str | None], message: str) -> None:
    program = site.gunicorn("--workers", "1", **env)
    code = program.wait()
    assert code == 1, program.output()
    assert message in program.output()


def test_ignores_secret_files(site: Site) -> None:
    secret = site.directory / "key"
    secret.write_text("from a file", encoding="utf-8")
    program = site.gunicorn(FLASK_SECRET_KEY=None, FLASK_SECRET_KEY_FILE=str(secret))
    assert program.wait() == 1


def test_a_dotenv_file_beats_the_environment(site: Site) -> None:
    (site.directory / ".env").write_text("FLASK_SECRET_KEY=from-dotenv\n", encoding="utf-8")
    result = site.command("-c", "from config import Config; print(Config().webapp.secret_key)")
    assert result.stdout == "from-dotenv\n"


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize(
    ("arguments", "env", "workers"),
    [((), {"GUNICORN_WORKERS": "1"}, 2), (("--workers", "1"), {}, 1)],
    ids=["setting-ignored", "command-line-wins"],
)
def test_number_of_workers(
    site: Site, arguments: tuple[str, ...], env: dict[str, str], workers: int
) -> None:
    program = site.gunicorn(*arguments, **env)
    try:
        wait_for(lambda: site.get("/health/live").ok, what="web")
        time.sleep(1)
        assert len(_children(program.process.pid)) == workers
    finally:
        assert program.stop() == 0


def test_hup_does_not_read_the_secrets_again(site: Site) -> None:
    program = site.serve()
    try:
        site.create_user("anna")
        cookie = site.login("anna").cookies["session"]
        (site.directory / ".env").write_text("FLASK_SECRET_KEY=another\n", encoding="utf-8")
        (old,) = _children(program.process.pid)
        os.kill(program.process.pid, signal.SIGHUP)
        wait_for(
            lambda: len(new := _children(program.process.pid)) == 1 and old not in new,
            what="a new worker in the old one's place",
        )
        answer = site.get("/api/session/state", cookies={"session": cookie})
        assert answer.status_code == 200
    finally:
        assert program.stop() == 0
    assert "Final RQ cleanup failed" in program.output()


def test_writes_its_logs_and_creates_its_directories(running: Site) -> None:
    for path in ("logs/webapp.log", "logs/app/vedfolnir.log", "logs/app/error.log"):
        assert (running.directory / path).is_file()
    assert (running.directory / "storage" / "images").is_dir()


@pytest.mark.parametrize("name", ["logs", "logs/app", "storage"])
def test_a_log_or_storage_that_cannot_be_written_stops_the_start(site: Site, name: str) -> None:
    # A file in the way of the directory fails for root as a wrong owner fails for the app's user.
    path = site.directory / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("in the way", encoding="utf-8")
    program = site.gunicorn("--workers", "1")
    assert program.wait() == 1
    assert "Error: [Errno" in program.output()


def test_boots_without_redis_and_is_not_ready(site: Site) -> None:
    program = site.serve(REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    try:
        site.create_user("anna")
        assert site.login("anna").login_answer.status_code == 302
        ready = site.get("/health/ready")
        assert (ready.status_code, ready.json()["checks"]) == (
            503,
            {"database": True, "redis": False},
        )
    finally:
        program.stop()


def test_a_stopped_database_makes_it_unready_and_not_dead(site: Site, database: Database) -> None:
    program = site.serve()
    try:
        database.query(None, f"RENAME TABLE {site.name}.users TO {site.name}.users_away")
        database.query(None, f"DROP DATABASE {site.name}")
        ready = site.get("/health/ready")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        assert site.get("/health/live").status_code == 200
    finally:
        program.stop()


def test_connects_with_tls_when_the_url_names_a_ca(
    site: Site, database: Database, certificates: Path
) -> None:
    database.query(None, "CREATE USER IF NOT EXISTS tls@'127.0.0.1' IDENTIFIED BY 'x' REQUIRE SSL")
    database.query(None, f"GRANT ALL ON {site.name}.* TO tls@'127.0.0.1'")
    plain = f"mysql+pymysql://tls:x@127.0.0.1:{database.port}/{site.name}?charset=utf8mb4"
    code = "from config import Config; from app.core.database.core.database_manager import *; "
    code += "print(DatabaseManager(Config()).test_connection())"
    over_tls = f"{plain}&ssl_ca={certificates / 'ca.pem'}"
    assert "(True," in site.command("-c", code, DATABASE_URL=over_tls).stdout
    foreign = site.directory / "foreign.pem"
    foreign.write_bytes((certificates / "server.pem").read_bytes())
    refused = site.command("-c", code, DATABASE_URL=f"{plain}&ssl_ca={foreign}")
    assert "CERTIFICATE_VERIFY_FAILED" in refused.stderr


def test_json_logging_is_only_the_applications_own(site: Site) -> None:
    program = site.serve(ENABLE_JSON_LOGGING="true")
    program.stop()
    assert "Failed to configure JSON logging" in program.output()
