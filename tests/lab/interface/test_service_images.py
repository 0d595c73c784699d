"""The lab's service images behave as the official ones that the roles are written for."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from vedfolnir_lab import hosts, images

HARDENED = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
PASSWORD = 'it\'s a \\ "hard" one; $(id)'

Run = Callable[..., str]


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"docker {arguments}: {done.stderr}"
    return done.stdout.strip()


def logs(container: str) -> str:
    done = subprocess.run(
        ["docker", "logs", container], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def wait_for(container: str, text: str, seconds: int = 90) -> str:
    deadline = time.monotonic() + seconds
    while text not in (output := logs(container)):
        assert time.monotonic() < deadline, f"{text!r} not in the log of {container}:\n{output}"
        time.sleep(0.5)
    return output


@pytest.fixture
def run() -> Iterator[Run]:
    """Start a container of a service image; removed with its volumes at the end."""
    started: list[str] = []

    def start(image: str, *options: str, command: tuple[str, ...] = ()) -> str:
        reference = images.catalogue()[image].reference
        container = docker("run", "--detach", "--label", hosts.OWNER, *options, reference, *command)
        started.append(container)
        return container

    yield start
    for container in started:
        docker("rm", "--force", "--volumes", container)


@pytest.fixture
def mysql_secrets(tmp_path: Path) -> Path:
    directory = tmp_path / "secrets"
    directory.mkdir()
    directory.chmod(0o755)
    for name, value in {"root": PASSWORD, "app": "app-password"}.items():
        (directory / name).write_text(value)
        (directory / name).chmod(0o444)
    return directory


def mysql(container: str, user: str, secret: str, statement: str) -> str:
    script = f'MYSQL_PWD=$(cat /run/secrets/{secret}) mysql -u{user} -h127.0.0.1 -NBe "$0"'
    return docker("exec", container, "bash", "-c", script, statement)


def test_mysql_initialises_from_files_as_a_plain_user_on_a_read_only_root(
    run: Run, tmp_path: Path, mysql_secrets: Path
) -> None:
    init = tmp_path / "init"
    init.mkdir()
    init.chmod(0o755)
    (init / "10-table.sql").write_text("CREATE TABLE t (a int); INSERT INTO t VALUES (42);")
    (init / "20-say.sh").write_text("#!/bin/sh\necho script-ran-as-$(id -u)\n")
    (init / "20-say.sh").chmod(0o755)
    container = run(
        "mysql",
        *(*HARDENED, "--user", "999:999", "--tmpfs", "/tmp"),
        *("--tmpfs", "/var/run/mysqld:uid=999,gid=999"),
        *("--volume", "/var/lib/mysql", "--volume", f"{mysql_secrets}:/run/secrets:ro"),
        *("--volume", f"{init}:/docker-entrypoint-initdb.d:ro"),
        *("--env", "MYSQL_ROOT_PASSWORD_FILE=/run/secrets/root"),
        *("--env", "MYSQL_DATABASE=a_database", "--env", "MYSQL_USER=app"),
        *("--env", "MYSQL_PASSWORD_FILE=/run/secrets/app"),
    )
    output = wait_for(container, "port: 3306")
    assert "script-ran-as-999" in output
    assert PASSWORD not in output
    assert mysql(container, "app", "app", "SELECT a FROM a_database.t") == "42"
    assert mysql(container, "root", "root", "SELECT @@version").startswith("9.7.")
    # Not in the official image either, and it would refuse passwords that the roles may be given.
    assert mysql(container, "root", "root", "SELECT COUNT(*) FROM mysql.component") == "0"
    for program in ("mysqldump", "mysqladmin", "mysqlbinlog"):
        docker("exec", container, program, "--version")
    docker("stop", container)
    assert "Shutdown complete" in logs(container)
    docker("start", container)
    time.sleep(1)
    assert wait_for(container, "port: 3306").count("Initializing database files") == 1


def test_mysql_without_a_password_option_says_so(run: Run) -> None:
    container = run("mysql")
    wait_for(container, "Database is uninitialized and password option is not specified")
    assert docker("wait", container) == "1"


def test_mysql_reads_conf_d_and_drops_root(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.cnf").write_text("[mysqld]\nmax_connections=17\n")
    container = run(
        "mysql",
        *("--env", "MYSQL_ALLOW_EMPTY_PASSWORD=1"),
        *("--volume", f"{tmp_path / 'x.cnf'}:/etc/mysql/conf.d/x.cnf:ro"),
    )
    wait_for(container, "port: 3306")
    assert docker("exec", container, "mysql", "-NBe", "SELECT @@max_connections") == "17"
    assert "\t999\t" in docker("exec", container, "grep", "Uid", "/proc/1/status")


@pytest.mark.parametrize("user", [[], ["--user", "999:999"]])
def test_redis_runs_as_its_user_and_keeps_its_data_in_data(run: Run, user: list[str]) -> None:
    container = run(
        "redis",
        *user,
        *HARDENED,
        *([] if user else ["--cap-add=SETUID"]),
        *([] if user else ["--cap-add=SETGID", "--cap-add=CHOWN"]),
        command=("redis-server", "--appendonly", "yes"),
    )
    wait_for(container, "Ready to accept connections")
    assert docker("exec", container, "redis-cli", "SET", "a", "1") == "OK"
    assert "redis_version:8.0" in docker("exec", container, "redis-cli", "INFO", "server")
    assert "\t999\t" in docker("exec", container, "grep", "Uid", "/proc/1/status")
    assert "appendonlydir" in docker("exec", container, "ls", "/data")
    assert docker("exec", container, "redis-cli", "CONFIG", "GET", "protected-mode").endswith("no")


def test_redis_takes_a_configuration_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "r.conf").write_text("maxmemory 7mb\nprotected-mode yes\n")
    container = run(
        *("redis", "--volume", f"{tmp_path / 'r.conf'}:/etc/r.conf:ro"), command=("/etc/r.conf",)
    )
    wait_for(container, "Ready to accept connections")
    assert docker("exec", container, "redis-cli", "CONFIG", "GET", "maxmemory").endswith("7340032")
    assert docker("exec", container, "redis-cli", "CONFIG", "GET", "protected-mode").endswith("yes")


def test_nginx_serves_as_a_plain_user_on_a_read_only_root(run: Run) -> None:
    container = run(
        "nginx",
        *(*HARDENED, "--user", "101:101", "--sysctl", "net.ipv4.ip_unprivileged_port_start=0"),
        *("--tmpfs", "/var/cache/nginx:uid=101,gid=101", "--tmpfs", "/run:uid=101,gid=101"),
        *("--publish", "127.0.0.1::80"),
    )
    address = docker("port", container, "80/tcp")
    time.sleep(2)
    page = subprocess.run(
        ["curl", "-sS", "--retry", "5", "--retry-connrefused", f"http://{address}/"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "<h1>" in page.stdout
    assert "GET / HTTP/1.1" in wait_for(container, "GET / HTTP/1.1", 5)
    assert docker("exec", container, "nginx", "-v") == ""
    docker("exec", container, "nginx", "-s", "reload")
    docker("stop", container)
    assert docker("inspect", "--format", "{{.State.ExitCode}}", container) == "0"


def test_nginx_fills_templates_and_runs_its_scripts(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.conf.template").write_text("server { listen 81; return 200 '$uri ${WHO}'; }\n")
    container = run(
        *("nginx", "--env", "WHO=me", "--volume", f"{tmp_path}:/etc/nginx/templates:ro")
    )
    wait_for(container, "20-envsubst-on-templates.sh")
    time.sleep(1)
    content = docker("exec", container, "cat", "/etc/nginx/conf.d/a.conf")
    assert content == "server { listen 81; return 200 '$uri me'; }"


def test_python_has_pip_and_venv_and_no_compiler() -> None:
    reference = images.catalogue()["python"].reference
    script = "pip --version && python -m venv /tmp/v && ! command -v gcc && command -v python3"
    assert docker("run", "--rm", reference, "sh", "-c", script).endswith("/usr/local/bin/python3")


def test_ollama_serves_and_answers_its_own_client_as_any_user(run: Run) -> None:
    container = run(
        "ollama",
        *HARDENED,
        "--user",
        "1990:1990",
        "--env",
        "HOME=/models",
        "--env",
        "OLLAMA_MODELS=/models",
        "--tmpfs",
        "/models:mode=1777",
    )
    time.sleep(2)
    assert "NAME" in docker("exec", container, "ollama", "list"), logs(container)


@pytest.mark.parametrize(
    ("image", "field", "expected"),
    [
        ("mysql", "{{.Config.Entrypoint}} {{.Config.Cmd}}", "[docker-entrypoint.sh] [mysqld]"),
        ("redis", "{{.Config.Entrypoint}} {{.Config.WorkingDir}}", "[docker-entrypoint.sh] /data"),
        ("nginx", "{{.Config.StopSignal}}", "SIGQUIT"),
        ("nginx", "{{.Config.Cmd}}", "[nginx -g daemon off;]"),
        ("ollama", "{{.Config.Entrypoint}} {{.Config.Cmd}}", "[/bin/ollama] [serve]"),
        ("prometheus", "{{.Config.Entrypoint}} {{.Config.User}}", "[/bin/prometheus] 65534"),
        ("alertmanager", "{{.Config.Entrypoint}} {{.Config.User}}", "[/bin/alertmanager] 65534"),
        ("loki", "{{.Config.Entrypoint}} {{.Config.User}}", "[/usr/bin/loki] 10001"),
        ("alloy", "{{.Config.Entrypoint}}", "[/bin/alloy]"),
    ],
)
def test_the_image_is_configured_as_the_official_one(image: str, field: str, expected: str) -> None:
    reference = images.catalogue()[image].reference
    assert docker("image", "inspect", "--format", field, reference) == expected


@pytest.mark.parametrize(
    ("image", "program"),
    [
        ("prometheus", "/bin/prometheus"),
        ("prometheus", "/bin/promtool"),
        ("alertmanager", "/bin/alertmanager"),
        ("alertmanager", "/bin/amtool"),
        ("node_exporter", "/bin/node_exporter"),
        ("mysqld_exporter", "/bin/mysqld_exporter"),
        ("redis_exporter", "/redis_exporter"),
        ("nginx_exporter", "/usr/bin/nginx-prometheus-exporter"),
        ("blackbox_exporter", "/bin/blackbox_exporter"),
    ],
)
def test_what_watches_is_where_the_official_images_have_it(image: str, program: str) -> None:
    reference = images.catalogue()[image].reference
    hardened = ["run", "--rm", "--network=none", *HARDENED, "--entrypoint", program]
    docker(*hardened, reference, "--version")
    if program.endswith("exporter"):
        entrypoint = docker("image", "inspect", "--format", "{{.Config.Entrypoint}}", reference)
        assert entrypoint == f"[{program}]"
        assert docker("image", "inspect", "--format", "{{.Config.User}}", reference) not in (
            "",
            "0",
        )
    # What the health checks call; the official image of the nginx exporter has nothing of the kind.
    if image != "nginx_exporter":
        docker("run", "--rm", "--network=none", "--entrypoint", "/bin/wget", reference, "--help")


@pytest.mark.parametrize(
    ("image", "arguments", "said"),
    [
        ("loki", ["-config.file=/etc/hostname"], "failed parsing config"),
        ("loki", ["-unknown=1"], "knows -config.file"),
        ("alloy", ["run", "/etc/hostname"], "could not perform the initial load"),
        ("alloy", ["run", "--unknown", "/etc/hostname"], "unknown flag"),
    ],
)
def test_the_stand_ins_for_logs_refuse_what_they_do_not_know(
    image: str, arguments: list[str], said: str
) -> None:
    reference = images.catalogue()[image].reference
    command = ["docker", "run", "--rm", "--network=none", *HARDENED, reference, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert said in done.stderr
