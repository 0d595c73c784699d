"""Agents bring the consumers' files; without Vault everything goes on, and a run repairs it."""

from __future__ import annotations

import json

import pytest
from lab import RUNTIME, Lab, secret_files
from vaulted import ask, consumers, deploy, values

STORE = "/etc/vedfolnir/secrets/store.json"


def test_the_host_keeps_names_and_no_values(lab: Lab) -> None:
    assert json.loads(lab.run(f"cat {STORE}")) == {"__vault": sorted(values(lab))}


def test_agents_render_what_was_deleted(healthy: Lab) -> None:
    """All files gone: the agents bring the same contents, owners and modes back.

    The directories stay: they are mounted. No container is made anew, though one that misses its
    files may end and be started again by the engine.
    """
    before, started = secret_files(healthy), _containers(healthy)
    healthy.run(f"find {RUNTIME} -type f -delete")
    deploy(healthy).check()
    assert secret_files(healthy) == before
    assert _containers(healthy) == started
    assert healthy.run("ls /run/vedfolnir/agents").strip() == ""
    wanted = {
        f"./{name}/{file}" for name, spec in consumers(healthy).items() for file in spec["files"]
    }
    assert set(before.split()) & wanted == wanted
    assert " 400\n" in before
    assert healthy.ssh("docker ps --all --format '{{.Names}}' | grep agent").stdout == ""


def _containers(lab: Lab) -> dict[str, str]:
    return {name: start.split()[0] for name, start in lab.started().items()}


@pytest.mark.parametrize(
    "harm",
    ["docker compose stop vault", "docker compose rm --force --stop vault"],
    ids=["stopped", "deleted"],
)
def test_without_vault_all_runs_and_a_run_repairs(healthy: Lab, harm: str) -> None:
    before = {name: start for name, start in healthy.started().items() if name != "vault"}
    healthy.run(f"cd /srv/vedfolnir && {harm}")
    assert healthy.session().get(f"{healthy.https}/health/ready", timeout=60).ok
    deploy(healthy).check()
    after = healthy.started()
    assert "vault" in after
    assert {name: after[name] for name in before} == before


_LOSE_A_ROLE = """
with vault_deliver.session(settings) as api:
    api.call("DELETE", "auth/approle/role/" + vault_access.role_name("redis"))
print("{}")
"""


def test_a_boot_that_could_not_deliver_is_repaired_by_a_run(healthy: Lab) -> None:
    before, started = secret_files(healthy), _containers(healthy)
    ask(healthy, _LOSE_A_ROLE)
    healthy.run(f"rm {RUNTIME}/redis/*")
    assert healthy.ssh("systemctl restart vedfolnir-vault.service").returncode != 0
    journal = healthy.run("journalctl -u vedfolnir-vault.service -n 20 -o cat")
    assert "Vault has no AppRole vedfolnir-agent-redis; run site.yml" in journal
    deploy(healthy).check()
    assert healthy.run("systemctl is-active vedfolnir-vault.service").strip() == "active"
    assert (secret_files(healthy), _containers(healthy)) == (before, started)
