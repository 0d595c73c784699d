"""A new Vault is set up once and its keys are never lost, however often that is killed."""

from __future__ import annotations

import json
import pathlib
import shlex
import typing as t

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_recovery as recovery
from lab import Lab

PYTHON = "PYTHONPATH=/usr/local/lib/vedfolnir/python python3"
PASSPHRASE = "of-the-test-only-1"
PHASES = ("started", "initialised", "handed over", "key sealed", "unsealed", "prepared")
SCRATCH = "/var/tmp/vault-scratch/scratch.py"
BOOTSTRAP: dict[str, t.Any] = {
    "auth": {"approle": {"type": "approle"}},
    "mounts": {"transit": {"type": "transit"}},
    "policies": {
        "ansible": json.dumps({"path": {"transit/*": {"capabilities": ["create", "update"]}}})
    },
    "login": {"name": "ansible", "settings": {"token_policies": ["ansible"], "token_ttl": "1h"}},
}


class Scratch:
    """A Vault of its own on the lab host."""

    def __init__(self, lab: Lab, name: str, address: str, **options: t.Any) -> None:
        self.lab, self.name = lab, name
        self.options = {
            "name": name,
            "address": address,
            "image": lab.inspect()["vault"]["Config"]["Image"],
            "unseal": "sealed",
            "seal": None,
            "operators": [{"name": "tester", "passphrase": PASSPHRASE}],
            "bootstrap": BOOTSTRAP,
            **options,
        }
        source = (pathlib.Path(__file__).parent / "scratch.py").read_text(encoding="utf-8")
        lab.run(f"mkdir -p {SCRATCH.rpartition('/')[0]} && cat > {SCRATCH}", stdin=source)
        self("make")

    def __call__(self, command: str, **options: t.Any) -> dict[str, t.Any]:
        """Run a command on the host and return its result; one that was killed says so."""
        stdin = json.dumps(self.options | options)
        done = self.lab.ssh(f"{PYTHON} {SCRATCH} {command}; exit $?", stdin=stdin)
        if done.returncode == 137:
            return {"killed": True}
        assert done.returncode == 0, done.stdout + done.stderr
        result: dict[str, t.Any] = json.loads(done.stdout.rpartition("RESULT ")[2])
        return result

    def letter(self, path: str) -> str:
        """Return an operator's file, decrypted."""
        content = self.lab.run(f"cat {shlex.quote(path)}")
        vault = VaultLib([("default", VaultSecret(PASSPHRASE.encode()))])
        return str(vault.decrypt(content).decode())


@pytest.fixture(scope="module")
def killed(lab: Lab) -> t.Iterator[Scratch]:
    """A Vault whose set-up was killed in each of its phases in turn."""
    scratch = Scratch(lab, "killed", "172.29.9.11")
    for phase in PHASES:
        assert scratch("set_up", kill=phase) == {"killed": True}, phase
        state = json.loads(lab.run("cat /var/tmp/vault-scratch/killed/private/state.json"))
        assert state["phase"] == phase
    yield scratch
    scratch("remove")


def test_a_set_up_that_was_killed_in_each_phase_is_begun_anew(killed: Scratch) -> None:
    done = killed("set_up")
    assert (done["phase"], done["sealed_with"], len(done["files"])) == ("done", "host", 1)
    letter = killed.letter(done["files"][0])
    assert killed("unseal", letter=letter) == {"before": True, "after": False}
    assert killed("boot")["said"] == ["Vault is unsealed and works"]
    # A second run finds nothing to do.
    assert killed("set_up")["date"] == done["date"]


def test_the_keys_are_in_no_file_and_not_in_the_journal(killed: Scratch) -> None:
    state = killed("set_up")
    keys = recovery.keys_in(killed.letter(state["files"][0]))
    assert len(keys) == 3
    lines = "\n".join(keys)
    places = "/etc /srv/vedfolnir /var/log /var/lib/systemd /root /run /tmp /var/tmp/vault-scratch"
    found = killed.lab.ssh(f"grep -rlaF -f - {places} 2>/dev/null", stdin=lines)
    assert found.stdout == ""
    count = "journalctl --no-pager -o cat | grep -cF -f /run/keys.txt"
    journal = killed.lab.ssh(f"cat > /run/keys.txt; {count}; rm /run/keys.txt", stdin=lines)
    assert journal.stdout.strip() == "0"


def test_a_vault_without_its_record_is_left_alone(killed: Scratch) -> None:
    killed("set_up")
    record = "/var/tmp/vault-scratch/killed/private/state.json"
    killed.lab.run(f"mv {record} {record}.away")
    assert "so it is left alone" in killed("set_up")["error"]
    killed.lab.run(f"mv {record}.away {record}")
    assert killed("set_up")["phase"] == "done"


def test_a_vault_that_lost_its_data_is_not_set_up_again_silently(killed: Scratch) -> None:
    killed("set_up")
    root = "/var/tmp/vault-scratch/killed"
    killed.lab.run(
        f"docker stop scratch-killed-vault-1 && mv {root}/data {root}/away && "
        f"install -d -o 100 -g 1000 {root}/data"
    )
    assert "its data is gone" in killed("set_up")["error"]
    killed.lab.run(
        f"docker stop scratch-killed-vault-1 && rm -rf {root}/data && mv {root}/away {root}/data"
    )
    assert killed("boot")["sealed"] is False


def test_an_operator_without_a_usable_key_stops_the_set_up_before_it_begins(lab: Lab) -> None:
    scratch = Scratch(
        lab, "operator", "172.29.9.12", operators=[{"name": "eve", "pgp": "nonsense"}]
    )
    try:
        assert scratch("set_up")["error"].startswith("operator eve: ")
        listing = lab.run("ls -A /var/tmp/vault-scratch/operator/private")
        assert "state.json" not in listing
    finally:
        scratch("remove")


def test_another_vaults_transit_engine_unseals(killed: Scratch) -> None:
    """vault_unseal=auto: no keys on the host, none asked for."""
    killed("set_up")
    made = killed("ask", requests=[["post", "transit/keys/unseal", {}]])
    seal = {
        "transit": {
            "address": "https://172.29.9.11:8200",
            "token": made["token"],
            "key_name": "unseal",
            "mount_path": "transit/",
            "tls_ca_cert": "/scratch/killed/ca.pem",
        }
    }
    killed.lab.run("cp /var/tmp/vault-scratch/killed/private/ca.pem /var/tmp/vault-scratch/killed/")
    scratch = Scratch(killed.lab, "auto", "172.29.9.13", unseal="auto", seal=seal)
    try:
        done = scratch("set_up")
        assert done["phase"] == "done"
        assert "sealed_with" not in done
        assert len(scratch.letter(done["files"][0]).splitlines()) == 5
        assert scratch("boot") == {"sealed": False, "said": ["Vault is unsealed and works"]}
        missing = killed.lab.ssh("test -e /var/tmp/vault-scratch/auto/private/unseal.cred")
        assert missing.returncode == 1
    finally:
        scratch("remove")
