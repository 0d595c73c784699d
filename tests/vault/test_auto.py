"""Vault is moved to a seal outside of the host and back; with it a host comes back by itself.

One after the other, on the same host: each test goes on from the one before.
"""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
from lab import Lab, wait_until
from second_vault import SecondVault
from test_unseal import CREDENTIAL, restart_host, unseal
from vaulted import deploy, values

DIRECTORY = "/etc/vedfolnir/vault"
WAITS = "waits for its seal (transit) to answer"
JOURNAL = "journalctl -b -u vedfolnir-vault.service -o cat"


@pytest.fixture(scope="module")
def second(lab: Lab) -> t.Iterator[SecondVault]:
    """The second Vault; at the end the stack's own is as it was, whatever failed."""
    lab.wait_healthy()
    with SecondVault(lab) as server:
        yield server


def others(lab: Lab) -> dict[str, str]:
    return {name: start for name, start in lab.started().items() if name != "vault"}


def state(lab: Lab) -> dict[str, t.Any]:
    return dict(json.loads(lab.run(f"cat {DIRECTORY}/state.json")))


def test_a_run_moves_vault_to_a_seal_outside(lab: Lab, second: SecondVault) -> None:
    """With the host's own keys; no value changes, nothing else is restarted, the keys go."""
    before, known = others(lab), values(lab)
    lab.playbook("site.yml", variables=second.options).check()
    assert (others(lab), values(lab)) == (before, known)
    lab.wait_healthy()
    assert state(lab)["unseal"] == "auto"
    assert "sealed_with" not in state(lab)
    assert lab.ssh(f"test -e {CREDENTIAL}").returncode == 1
    modes = lab.run(f"stat -c '%n %a %u' {DIRECTORY}/seal {DIRECTORY}/seal/*").split("\n")
    assert modes[:-1] == [
        f"{DIRECTORY}/seal 500 100",
        *(f"{DIRECTORY}/seal/{name} 400 100" for name in ("ca.pem", "seal.json", "token")),
    ]
    again = lab.playbook("site.yml", variables=second.options).check()
    assert again.recap["changed"] == 0
    assert second.token not in again.output


def test_the_host_comes_back_by_itself(lab: Lab, second: SecondVault) -> None:
    before = set(lab.inspect())
    assert second.token
    restart_host(lab)
    wait_until(
        lambda: set(lab.inspect()) == before and not lab.unhealthy(), 300, "not all is healthy"
    )
    assert "Vault is unsealed and works" in lab.run(JOURNAL)


def test_without_the_second_vault_a_boot_waits(lab: Lab, second: SecondVault) -> None:
    before = set(lab.inspect())
    second.go_away()
    restart_host(lab)
    wait_until(
        lambda: (
            "waits for its seal (transit) to answer; the stack starts after it" in lab.run(JOURNAL)
        ),
        180,
        "the journal does not say what is missing",
    )
    assert set(lab.inspect()) <= {"vault"}
    second.come_back()
    wait_until(
        lambda: set(lab.inspect()) == before and not lab.unhealthy(), 400, "not all is healthy"
    )


def test_services_go_on_without_both(lab: Lab, second: SecondVault) -> None:
    """Vault restarts while its seal is away: the host says so, and services do not notice."""
    before = others(lab)
    second.go_away()
    lab.compose("restart vault")
    assert lab.ssh("systemctl start vedfolnir-vault-keep.service").returncode != 0
    journal = lab.run("journalctl -u vedfolnir-vault-keep.service -n 5 -o cat")
    assert f"{WAITS}; what runs keeps running" in journal
    assert lab.session().get(f"{lab.https}/health/ready", timeout=60).ok
    second.come_back()
    lab.wait_healthy(180)
    lab.run("systemctl start vedfolnir-vault-keep.service")
    assert others(lab) == before


def test_the_seal_is_not_given_up_while_it_is_needed(lab: Lab, second: SecondVault) -> None:
    assert second.token
    run = deploy(lab, "--check")
    assert run.status != 0
    assert "put vault_seal (and vault_seal_files) back until that is done" in run.output


def test_operators_move_vault_back(lab: Lab, second: SecondVault, keys_file: pathlib.Path) -> None:
    """With a quorum of the keys they have had all the time; then the seal can go."""
    before, known = others(lab), values(lab)
    options = {**second.options, "vault_unseal": "sealed"}
    run = lab.playbook("site.yml", variables=options)
    assert run.status != 0
    assert "is sealed and waits for keys (vault_unseal is sealed)" in run.output
    unseal(lab, keys_file)
    lab.playbook("site.yml", variables=options).check()
    assert state(lab)["unseal"] == "sealed"
    assert lab.run(f"stat -c %a:%u {CREDENTIAL}").strip() == "400:0"
    deploy(lab).check()
    assert deploy(lab).check().recap["changed"] == 0
    assert lab.ssh(f"test -e {DIRECTORY}/seal").returncode == 1
    second.go_away()
    lab.compose("restart vault")
    lab.run("systemctl start vedfolnir-vault-keep.service")
    lab.wait_healthy()
    assert (others(lab), values(lab)) == (before, known)
