"""Vault restarted, sealed, stopped, deleted, its disks full: what runs goes on, and it is repaired.

All under one load through nginx, whose visitors must not notice anything. What repairs is the unit
that a timer starts every five minutes (started by hand here, but for one fault) or ``site.yml``.
"""

from __future__ import annotations

import contextlib
import json
import typing as t

import pytest
from lab import Lab, wait_until
from load import Load, Report
from vaulted import ask, deploy, values

RATE = 20
KEEP = "vedfolnir-vault-keep"
DATA, LOGS = "/srv/vedfolnir/data/vault", "/srv/vedfolnir/logs/vault"
ROOM_MB = 24
"""Of a small disk beyond what is there: Vault's database grows in steps of some MiB."""

_SEAL = """
policy = 'path "sys/seal" { capabilities = ["update", "sudo"] }'
role = "auth/approle/role/vedfolnir-agent-sealer"
with vault_deliver.session(settings) as api:
    api.call("PUT", "sys/policies/acl/vedfolnir-agent-sealer", {"policy": policy})
    api.call("POST", role, {"token_policies": ["vedfolnir-agent-sealer"]})
    login = {"role_id": api.call("GET", role + "/role-id")["data"]["role_id"],
             "secret_id": api.call("POST", role + "/secret-id", {})["data"]["secret_id"]}
client = vault_server.connect(settings.address, settings.ca_file)
client.auth.approle.login(**login)
vault_server.ask(client, "put", "sys/seal")
print("{}")
"""
"""As an operator with the right to do it; root on the host can give itself that."""


def check(report: Report) -> None:
    """Fail unless every visitor was content."""
    print(report)
    assert report.problems() == {}, report
    assert report.rate >= RATE * 0.8, report
    assert min(report.sessions, report.sockets, report.captions_posted) > 0, report


@pytest.fixture(scope="module", autouse=True)
def visitors(lab: Lab) -> t.Iterator[None]:
    """A load from the first fault to the last; nobody but Vault is restarted meanwhile."""
    lab.wait_healthy()
    before = others(lab)
    with Load(lab, rate=RATE) as load:
        yield
    lab.run(f"systemctl start {KEEP}.timer")
    check(load.report())
    assert others(lab) == before


@pytest.fixture
def by_hand(lab: Lab) -> t.Iterator[None]:
    """No timer comes between the fault and what the test does."""
    lab.run(f"systemctl stop {KEEP}.timer")
    yield
    lab.run(f"systemctl start {KEEP}.timer")


def others(lab: Lab) -> dict[str, str]:
    return {name: start for name, start in lab.started().items() if name != "vault"}


def keep(lab: Lab) -> str:
    """Let the host look after Vault; return what it says of that."""
    mark = lab.run("date +%s.%N").strip()
    lab.ssh(f"systemctl start {KEEP}.service")
    return lab.run(f"journalctl -u {KEEP}.service --since @{mark} -o cat")


def repaired(lab: Lab) -> None:
    """Vault works, as the health check and everybody with a login see it."""
    lab.wait_healthy()
    assert values(lab)


def health(lab: Lab) -> str:
    """Return what the health check last said, and how Vault is."""
    state = json.loads(lab.run("docker inspect -f '{{json .State.Health}}' vedfolnir-vault-1"))
    return f"{state['Status']}: {state['Log'][-1]['Output']}"


@pytest.mark.usefixtures("by_hand")
def test_restarted(lab: Lab) -> None:
    lab.compose("restart vault")
    assert "Vault had come back sealed and was unsealed" in keep(lab)
    repaired(lab)


@pytest.mark.usefixtures("by_hand")
def test_sealed_by_an_operator(lab: Lab) -> None:
    """A rotation says what is wrong and whom to ask; then the host repairs it."""
    ask(lab, _SEAL)
    run = lab.playbook("rotate_secrets.yml", variables={"rotate_only": "redis_health"})
    assert run.status != 0
    assert "Vault is sealed; run playbooks/unseal.yml" in run.output
    assert "Vault had come back sealed and was unsealed" in keep(lab)
    repaired(lab)


@pytest.mark.usefixtures("by_hand")
def test_stopped(lab: Lab) -> None:
    lab.compose("stop vault")
    run = lab.playbook("rotate_secrets.yml", variables={"rotate_only": "redis_health"})
    assert run.status != 0
    assert "Vault does not answer" in run.output
    assert "Its container is in the state: Exited (" in run.output
    assert "`systemctl start vedfolnir-vault-keep` starts it" in run.output
    said = keep(lab)
    assert "the container of Vault was in the state Exited (" in said
    assert "Vault had come back sealed and was unsealed" in said
    repaired(lab)


def test_deleted_and_brought_back_by_the_timer_alone(lab: Lab) -> None:
    lab.compose("rm --force --stop vault")
    wait_until(lambda: "vault" in lab.inspect(), 400, "the timer did not bring Vault back")
    repaired(lab)
    journal = lab.run(f"journalctl -u {KEEP}.service -n 10 -o cat")
    assert "the container of Vault was gone and was started" in journal


@contextlib.contextmanager
def small_disk(lab: Lab, path: str) -> t.Iterator[None]:
    """Give a directory of Vault's a disk of its own, which is full in the block."""
    swap = "cp -a {source}/. {target}/"
    stop = "(cd /srv/vedfolnir && docker compose stop vault)"
    copy = "/var/tmp/vault-small-disk"
    used = int(lab.run(f"du -sm {path}").split()[0])
    options = f"size={used + ROOM_MB}m,mode=0700,uid=100,gid=1000"
    lab.run(
        f"{stop} && rm -rf {copy} && mkdir {copy} && {swap.format(source=path, target=copy)}"
        f" && mount -t tmpfs -o {options} tmpfs {path}"
        f" && {swap.format(source=copy, target=path)}"
    )
    keep(lab)
    repaired(lab)
    fill = f"head -c 1G /dev/zero > {path}/filler"
    assert "No space left" in lab.ssh(fill).stderr
    try:
        yield
    finally:
        lab.run(f"rm -f {path}/filler")
        keep(lab)
        lab.run(
            f"{stop} && rm -rf {copy} && mkdir {copy} && {swap.format(source=path, target=copy)}"
            f" && umount {path} && find {path} -mindepth 1 -delete"
            f" && {swap.format(source=copy, target=path)} && rm -rf {copy}"
        )
        keep(lab)


@pytest.mark.usefixtures("by_hand")
@pytest.mark.parametrize("path", [LOGS, DATA], ids=["audit log", "data"])
def test_disk_full(lab: Lab, path: str) -> None:
    """The health check and the host's unit name the disk; with room it goes on by itself.

    Without room for the audit log Vault refuses everything at once, and site.yml says why; the
    storage finds room in its own file for a while.
    """
    name = {LOGS: "logs", DATA: "file"}[path]
    with small_disk(lab, path):
        wait_until(
            lambda: f"disk full? {name} cannot be written" in health(lab), 90, "it seems healthy"
        )
        wait_until(lambda: health(lab).startswith("unhealthy"), 90, "it seems healthy")
        assert lab.unhealthy() == ["vault"]
        assert f"The disk of {path} is full: make room there" in keep(lab)
        if path == LOGS:
            run = deploy(lab)
            assert run.status != 0
            assert f"The disk of {path} is full: make room there" in run.output
        lab.run(f"rm {path}/filler")
        assert "is full" not in keep(lab)
        repaired(lab)


def test_a_run_finds_nothing_left_to_do(lab: Lab) -> None:
    deploy(lab).check()
    assert deploy(lab).check().recap["changed"] == 0
