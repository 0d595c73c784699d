"""A host of the local provider moves to Vault: no value changes, nothing restarts."""

from __future__ import annotations

import json
import subprocess
import time

import pytest
from lab import Lab
from vaulted import RUNTIME, STORE, Move, consumers, deploy, files, values


@pytest.fixture
def fresh(moved: Move | None) -> Move:
    """The move that this session made."""
    if moved is None:
        pytest.skip("the host had moved before this session")
    return moved


def test_a_check_predicts_the_move_and_makes_nothing(fresh: Move) -> None:
    run = fresh.predicted.check()
    assert run.recap["changed"] > 0
    assert "recreate" not in run.output
    assert json.loads(fresh.after_check.partition("}\n")[0] + "}") == fresh.store
    assert "vault" not in fresh.after_check.partition("}\n")[2]


def test_the_move_changes_no_value(lab: Lab, fresh: Move) -> None:
    fresh.run.check()
    assert values(lab) == fresh.store
    assert files(lab) == fresh.files, "the files were right and had to stay as they were"


def test_the_move_restarts_nothing(lab: Lab, fresh: Move) -> None:
    after = lab.started()
    assert {name: after[name] for name in fresh.started} == fresh.started
    assert set(after) - set(fresh.started) == {"vault"}


def test_the_local_store_is_empty_then(lab: Lab, moved: Move | None) -> None:
    assert moved is None or moved.run.status == 0
    assert json.loads(lab.run(f"cat {STORE}")) == {"__vault": sorted(values(lab))}


def test_a_further_run_changes_nothing(healthy: Lab) -> None:
    before = healthy.started()
    assert deploy(healthy).check().recap["changed"] == 0
    assert healthy.started() == before


def test_agents_render_what_was_deleted(healthy: Lab) -> None:
    """All files gone: the agents bring the same contents, owners and modes back.

    The directories stay: they are mounted. No container is made anew, though one that misses its
    files may end and be started again by the engine.
    """
    before, started = _contents(healthy), _containers(healthy)
    healthy.run(f"find {RUNTIME} -type f -delete")
    deploy(healthy).check()
    assert _contents(healthy) == before
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


def _contents(lab: Lab) -> str:
    return lab.run(
        f"cd {RUNTIME} && find . -type f | sort | xargs stat --format '%n %u:%g %a' && "
        "find . -type f | sort | xargs sha256sum"
    )


def test_after_a_restart_of_the_host_agents_deliver(healthy: Lab) -> None:
    before, services = _contents(healthy), set(healthy.inspect())
    restart = ["docker", "restart", "--time", "90", healthy.name]
    subprocess.run(restart, check=True, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 420
    while time.monotonic() < end:
        probe = healthy.ssh("systemctl is-active vedfolnir.service")
        if probe.stdout.strip() == "active":
            break
        time.sleep(3)
    assert set(healthy.inspect()) == services
    assert healthy.unhealthy() == []
    assert _contents(healthy) == before
    journal = healthy.run("journalctl --boot --unit vedfolnir-vault.service --output cat")
    assert "files delivered from Vault to" in journal


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
