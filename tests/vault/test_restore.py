"""A snapshot of Vault is put in place, on a host that lost its Vault with all that opens it."""

from __future__ import annotations

import base64
import pathlib
import typing as t

import pytest
import vaulted
from lab import Lab

TAKE = """
client = vault_server.connect(settings.address, settings.ca_file)
vault_server.login(client, settings.credentials_file)
answer = client.adapter.request("get", "/v1/sys/storage/raft/snapshot", stream=True)
open("/root/test.snap", "wb").write(answer.content)
print(json.dumps(len(answer.content)))
"""
OWN = "/etc/vedfolnir/vault"
DATA = "/srv/vedfolnir/data/vault"
AWAY = "/srv/vedfolnir/data/vault-of-the-test"


@pytest.fixture(scope="module")
def snapshot(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[pathlib.Path]:
    """A snapshot as a backup holds it."""
    lab.wait_healthy()
    assert lab.ask_vault(TAKE) > 1000
    path = tmp_path_factory.mktemp("snapshot") / "vault.snap"
    encoded = lab.run("base64 /root/test.snap; rm /root/test.snap")
    path.write_bytes(base64.b64decode(encoded))
    yield path
    lab.run(f"rm -rf {DATA}-replaced-* {OWN}/replaced-* {AWAY}")


def restore(lab: Lab, *arguments: str, **variables: t.Any) -> t.Any:
    return lab.playbook("playbooks/vault_restore.yml", *arguments, variables=variables)


def own_files(lab: Lab) -> dict[str, str]:
    """Return what the host keeps of its Vault; its settings are the inventory's."""
    return {path: file for path, file in lab.files(OWN).items() if "settings.json" not in path}


def test_what_stands_against_it_is_said_at_once(
    lab: Lab, tmp_path: pathlib.Path, keys_file: pathlib.Path
) -> None:
    before = own_files(lab)
    run = restore(lab, vault_restore_snapshot="/away.snap", vault_keys_files="/away.txt")
    assert run.status != 0
    for problem in (
        f"confirm with -e vault_restore_confirm={lab.name}",
        "/away.snap is not there",
        "/away.txt is not there",
    ):
        assert problem in " ".join(run.output.split()), run.output[-2000:]
    broken = tmp_path / "broken.snap"
    broken.write_text("no snapshot")
    run = restore(
        lab,
        vault_restore_snapshot=str(broken),
        vault_keys_files=str(keys_file),
        vault_restore_confirm=lab.name,
    )
    assert run.status != 0
    assert "is no snapshot of Vault, or is damaged" in run.output
    assert own_files(lab) == before


def test_with_the_keys_of_another_vault_everything_is_as_before(
    lab: Lab, snapshot: pathlib.Path, keys_file: pathlib.Path
) -> None:
    before = lab.values()
    keys = keys_file.read_text()
    keys_file.write_text("\n".join(line[:10] + line[9::-1] + line[20:] for line in keys.split()))
    run = restore(
        lab,
        vault_restore_snapshot=str(snapshot),
        vault_keys_files=str(keys_file),
        vault_restore_confirm=lab.name,
    )
    assert run.status != 0
    assert "these keys do not open the Vault of the snapshot" in run.output, run.output[-3000:]
    assert lab.values() == before
    lab.wait_healthy()


def test_a_host_without_its_vault_gets_it_back_from_a_snapshot(
    lab: Lab, snapshot: pathlib.Path, keys_file: pathlib.Path
) -> None:
    """As on a new host: neither data nor login nor keys nor the authority are left."""
    before, marked = lab.values(), lab.services()
    lab.run(f"docker rm -f vedfolnir-vault-1 && mv {DATA} {AWAY} && rm -rf {OWN}")
    lab.run(f"install -d -o 100 -g 1000 -m 700 {DATA}")
    run = restore(
        lab,
        "-vvv",
        vault_restore_snapshot=str(snapshot),
        vault_keys_files=str(keys_file),
        vault_restore_confirm=lab.name,
    ).check()
    assert [
        key for key in keys_file.read_text().split() if len(key) > 40 and key in run.output
    ] == []
    assert lab.values() == before
    vaulted.deploy(lab).check()
    lab.wait_healthy()
    assert lab.services() == marked
    assert vaulted.deploy(lab).check().recap["changed"] == 0
    # The host opens it with keys of its own.
    lab.run("docker restart vedfolnir-vault-1")
    lab.wait_healthy(180)
