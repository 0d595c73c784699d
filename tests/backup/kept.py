"""What the tests know of backups: how to call the program, and data that can be told apart."""

from __future__ import annotations

import dataclasses
import json
import shlex
import subprocess
import typing as t

from lab import Lab, Run

PROGRAM = "/usr/local/lib/vedfolnir/backup"
STREAMS = "/srv/vedfolnir/backups/streams"
SETTINGS = "/etc/vedfolnir/backup/settings.json"
SECRETS = "/run/vedfolnir/secrets"
JOURNAL = "/srv/vedfolnir/.state/restore.json"
_ROOT = (
    "docker compose exec -T mysql mysql --defaults-extra-file=/run/secrets/root.cnf -N vedfolnir"
)


def program(lab: Lab, arguments: str) -> subprocess.CompletedProcess[str]:
    """Call the program on the host."""
    return lab.ssh(f"{PROGRAM} {arguments}", timeout=900)


def newest(lab: Lab) -> str:
    """Return the id of the newest complete backup."""
    lines = [line.split() for line in program(lab, "list").stdout.splitlines()]
    return str([words[2] for words in lines if "complete" in words][-1])


def sql(lab: Lab, statement: str) -> str:
    """Run a statement as MySQL's administrator."""
    return lab.run(f"cd /srv/vedfolnir && {_ROOT}", stdin=statement).strip()


def redis(lab: Lab, command: str) -> str:
    """Run a command as the application's user of Redis."""
    inside = f"REDISCLI_AUTH=$(cat) redis-cli --no-auth-warning --user vedfolnir {command}"
    shell = f"docker compose exec -T redis sh -c {shlex.quote(inside)}"
    return lab.run(f"cd /srv/vedfolnir && {shell} <{SECRETS}/app/redis_password").strip()


class Deploy(t.NamedTuple):
    """How the host is deployed, and what the first such run said."""

    variables: dict[str, t.Any]
    run: Run


@dataclasses.dataclass(frozen=True)
class Data:
    """What is in each part at one moment."""

    rows: list[str]
    keys: list[str]
    files: dict[str, str]


def data(lab: Lab) -> Data:
    """Look at all that the tests have written."""
    rows = sql(lab, "SELECT CONCAT_WS('|', id, text, HEX(raw)) FROM backup_probe ORDER BY id")
    listing = lab.run("cd /srv/vedfolnir/storage && find . -type f -exec sha256sum {} +")
    pairs = [line.split("  ", 1) for line in listing.splitlines()]
    files = {path: digest for digest, path in pairs}
    return Data(rows.splitlines(), sorted(redis(lab, "KEYS 'probe:*'").split()), files)


def write(lab: Lab, name: str, count: int = 50) -> None:
    """Write rows, keys and files that carry a name."""
    statements = [
        "CREATE TABLE IF NOT EXISTS backup_probe (id INT AUTO_INCREMENT PRIMARY KEY, "
        "text VARCHAR(200) NOT NULL, raw VARBINARY(200))"
    ]
    texts = ["it''s \\\\ a, (\"quote\"),(''", "Zeile\\nzwei", "ünï ☃", "plain"]
    statements += [
        f"INSERT INTO backup_probe (text, raw) VALUES ('{name}-{number} {texts[number % 4]}', "
        "UNHEX('00275c0a29'))"
        for number in range(count)
    ]
    sql(lab, ";\n".join(statements) + ";")
    redis(lab, f"MSET {' '.join(f'probe:{name}:{number} x' for number in range(count))}")
    lab.run(
        "cd /srv/vedfolnir/storage/images && for n in $(seq 5); do "
        f"head -c 20000 /dev/urandom >{name}-$n.bin; chown 1990:1990 {name}-$n.bin; done"
    )


def clear(lab: Lab) -> None:
    """Remove what the tests have written."""
    sql(lab, "DROP TABLE IF EXISTS backup_probe")
    lab.run("rm -f /srv/vedfolnir/storage/images/*.bin")
    keys = redis(lab, "KEYS 'probe:*'").split()
    if keys:
        redis(lab, f"DEL {' '.join(keys)}")


def metric(lab: Lab, name: str) -> float:
    """Return one figure of the metrics."""
    text = lab.run("cat /srv/vedfolnir/metrics/backup.prom")
    lines = dict(line.split() for line in text.splitlines() if not line.startswith("#"))
    return float(lines[f"vedfolnir_backup_{name}"])


def left_behind(lab: Lab) -> list[str]:
    """Return what a drill or restore must have removed."""
    label = "--filter label=com.docker.compose.project=vedfolnir-scratch"
    return lab.run(
        f"docker ps --all --quiet {label}; docker network ls --quiet {label}; "
        "ls /srv/vedfolnir/backups/scratch; ls /srv/vedfolnir/.state/restore.json 2>/dev/null || :"
    ).split()


def other_settings(lab: Lab, **changed: t.Any) -> str:
    """Write settings that differ, and return their path."""
    content = json.loads(lab.run(f"cat {SETTINGS}")) | changed
    lab.run("umask 077; cat >/root/other.json", stdin=json.dumps(content))
    return "/root/other.json"


def restic(lab: Lab, arguments: str, stdin: str | None = None) -> str:
    """Call restic as the program does, with the keys of the host."""
    script = (
        "import json,os,sys;s=json.load(open('/etc/vedfolnir/backup/settings.json'));"
        "os.execv('/usr/bin/restic',['restic','-r',s['repository'],'-p',"
        "s['secrets_directory']+'/repository_key','-o','sftp.args='+s['sftp_arguments']]"
        "+sys.argv[1:])"
    )
    return lab.run(f'python3 -c "{script}" {arguments}', stdin=stdin)


def kill(lab: Lab, arguments: str, moment: str) -> None:
    """Start the program and kill it and all that it has started, when it says something."""
    lab.run(
        f"rm -f /run/said; setsid sh -c 'echo $$ >/run/pid; exec {PROGRAM} {arguments} "
        ">/run/said 2>&1' </dev/null >/dev/null 2>&1 & "
        f"until grep -q '{moment}' /run/said 2>/dev/null; do sleep 0.05; done; "
        "kill -9 -$(cat /run/pid)",
        timeout=300,
    )
