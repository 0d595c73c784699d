"""What goes wrong on the lab host, for real; each ends with its block."""

from __future__ import annotations

import contextlib
import time
import typing as t

from lab import RUNTIME, redis_cli
from visitor import administrator
from watched import Watched

Fault = t.Callable[[Watched], contextlib.AbstractContextManager[None]]
METRICS = "/srv/vedfolnir/metrics"
SMALL = "/run/small"
SITE = f"{RUNTIME}/nginx/site.pem"
ASIDE = "/run/site.pem"
BROKEN = "/gdpr/compliance-report"
"""A page of the application that answers 500, always."""
PIECE = 2**22
"""Bytes of memory; a value that is not a power of two may take a quarter more than its length."""
_ISSUE = """
from cryptography import x509
from ansible_collections.vedfolnir.stack.plugins.module_utils import secrets
secrets.LEAF_DAYS = 10
with open("{site}", "rb") as handle:
    extensions = x509.load_pem_x509_certificate(handle.read()).extensions
names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
with vault_deliver.session(settings) as api:
    issuer = vault_kv.read_documents(api, settings.mount)["nginx_ca"].value
pair = secrets.make_leaf(issuer, [str(name.value) for name in names])
print(json.dumps(pair["certificate"] + pair["private_key"]))
"""


def mysql(watched: Watched, statement: str) -> str:
    """Return what MySQL's root is answered."""
    client = "mysql --defaults-extra-file=/run/secrets/root.cnf -N --raw vedfolnir"
    result = watched.lab.exec("mysql", f'{client} -e "{statement}"')
    assert result.returncode == 0, result.stderr
    return str(result.stdout)


@contextlib.contextmanager
def replica_killed(watched: Watched) -> t.Iterator[None]:
    """Kill a replica; the engine leaves one alone that somebody has killed through it."""
    watched.lab.compose("kill app-1")
    try:
        yield
    finally:
        watched.lab.compose("start app-1")


@contextlib.contextmanager
def backup_old(watched: Watched) -> t.Iterator[None]:
    """Let the last backup be of the day before yesterday."""
    watched.backup_was(time.time() - 2 * 86400)
    try:
        yield
    finally:
        watched.backup_was(time.time())


@contextlib.contextmanager
def queue_stuck(watched: Watched) -> t.Iterator[None]:
    """Stop the worker while a task has waited for an hour."""
    watched.lab.compose("stop worker")
    try:
        mysql(
            watched,
            "SET FOREIGN_KEY_CHECKS = 0; INSERT INTO caption_generation_tasks"
            " (id, user_id, platform_connection_id, status, created_at) VALUES ('stuck', 1, 1,"
            " 'QUEUED', UTC_TIMESTAMP() - INTERVAL 1 HOUR)",
        )
        yield
    finally:
        mysql(watched, "DELETE FROM caption_generation_tasks WHERE id = 'stuck'")
        watched.lab.compose("start worker")


@contextlib.contextmanager
def vault_sealed(watched: Watched) -> t.Iterator[None]:
    """Start Vault anew: it comes back sealed, and nobody unseals it for now."""
    watched.lab.run("systemctl stop vedfolnir-vault-keep.timer; docker stop vedfolnir-vault-1")
    watched.lab.run("docker start vedfolnir-vault-1")
    try:
        yield
    finally:
        units = "systemctl restart vedfolnir-vault; systemctl start vedfolnir-vault-keep.timer"
        watched.lab.run(units)


@contextlib.contextmanager
def disk_filled(watched: Watched) -> t.Iterator[None]:
    """Put the metrics' directory on a small disk of its own, and fill that.

    The machine's own disk belongs to others, too. The exporter sees a mount when it starts.
    """
    small = f"lowerdir={METRICS},upperdir={SMALL}/upper,workdir={SMALL}/work"
    watched.lab.run(
        f"mkdir -p {SMALL} && mount -t tmpfs -o size=64m tmpfs {SMALL} && cd {SMALL}"
        f" && mkdir upper work && mount -t overlay -o {small} overlay {METRICS}"
        f" && head -c 61M /dev/zero >{METRICS}/filled"
    )
    watched.lab.compose("restart node-exporter")
    try:
        yield
    finally:
        # It is seen with room again before it goes.
        watched.lab.run(f"rm {METRICS}/filled")
        time.sleep(15)
        watched.lab.compose("stop node-exporter")
        watched.lab.run(f"umount {METRICS} {SMALL} && rmdir {SMALL}")
        watched.lab.compose("start node-exporter")


@contextlib.contextmanager
def certificate_ends(watched: Watched) -> t.Iterator[None]:
    """Let nginx have a certificate of the stack's authority for ten days more."""
    lab, reload = watched.lab, "exec -T nginx nginx -s reload"
    pem = lab.ask_vault(_ISSUE.format(site=SITE))
    lab.run(f"cp --preserve=all {SITE} {ASIDE} && cat >{SITE}", stdin=pem)
    lab.compose(reload)
    try:
        yield
    finally:
        lab.run(f"cat {ASIDE} >{SITE}; rm {ASIDE}")
        lab.compose(reload)


@contextlib.contextmanager
def errors_burst(watched: Watched) -> t.Iterator[None]:
    """Ask for a page that is broken, again and again."""
    admin = administrator(watched.lab)
    # How much a series grew is known from its second value on.
    for visits in (6, 150):
        statuses = [admin.request("GET", BROKEN).status_code for _visit in range(visits)]
        time.sleep(12)
    assert statuses.count(500) > 100, statuses
    yield


@contextlib.contextmanager
def redis_full(watched: Watched) -> t.Iterator[None]:
    """Fill Redis nearly up; a little later it would refuse to write."""
    free = watched.value("redis_memory_max_bytes - redis_memory_used_bytes")
    pieces = int(free * 0.95 / PIECE)
    _redis_pieces(watched, pieces, f"[[SETRANGE]], key, {PIECE - 64}, [[x]]")
    try:
        yield
    finally:
        _redis_pieces(watched, pieces, "[[DEL]], key")


def _redis_pieces(watched: Watched, count: int, command: str) -> None:
    script = f"for i = 1, {count} do local key = [[test:fill:]] .. i; redis.call({command}) end"
    said = redis_cli(watched.lab, f'EVAL "{script}" 0')
    assert said == "", said


FAULTS: dict[str, Fault] = {
    "CertificateEnds": certificate_ends,
    "ErrorsBurnFast": errors_burst,
    "HostDiskFull": disk_filled,
    "RedisMemoryHigh": redis_full,
    "AppReplicaDown": replica_killed,
    "BackupOld": backup_old,
    "TaskWaitsLong": queue_stuck,
    # Whoever asks Vault for something comes before.
    "VaultSealedOrDown": vault_sealed,
}
"""Faults that do not touch each other, by the alert that tells of each."""
