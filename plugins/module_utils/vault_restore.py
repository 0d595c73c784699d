# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Put a snapshot of Vault in place, with the operators' keys of its day.

The present data are put aside and stay. A new, empty Vault takes the snapshot in, is unsealed with
the operators' keys and gives this host a new login and sealed keys; when that login has been seen
to work it is done. Whatever fails before puts the present data back. ``restore.json`` tells the
next call of one that was killed, which is put back first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import shutil
import tarfile
import time
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_credential as credential
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_root
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_server as vault
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_setup as setup
from ansible_collections.vedfolnir.stack.plugins.module_utils.files import remove_tree
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_host import Host

OWN = ("state.json", "approle.json", "unseal.cred", "unseal.cred.next", "rekey.json")
"""What this host keeps of the Vault that is replaced."""
SEAL_SECONDS = 60
_SUMS = "SHA256SUMS"


@dataclasses.dataclass(frozen=True)
class Restore:
    """One restore."""

    host: Host
    plan: setup.Plan
    snapshot: str
    keys: t.Sequence[str]
    say: t.Callable[[str], None]

    @property
    def record_path(self) -> str:
        """Where is recorded what was put aside."""
        return os.path.join(self.host.directory, "restore.json")

    def record(self) -> dict[str, str] | None:
        """Return what an earlier call that was killed has put aside."""
        with contextlib.suppress(FileNotFoundError), open(self.record_path, "rb") as handle:
            return dict(json.load(handle))
        return None

    def run(self) -> str:
        """Do it; return where the data lie that were replaced.

        Raises:
            VaultError, CredentialError, OSError: what was there before is in place again.
        """
        with self.host.alone():
            return self._run()

    def _run(self) -> str:
        if self.record() is not None:
            self.say("put back what an interrupted restore has put aside")
            self._put_back()
        aside = self._put_aside()
        try:
            restore(self.host, self.plan, self.keys, self.snapshot, self.say)
        except BaseException:
            self._put_back()
            raise
        os.unlink(self.record_path)
        return aside

    def _put_aside(self) -> str:
        date = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
        record = {
            "data": f"{self.plan.data_directory}-replaced-{date}",
            "own": os.path.join(self.host.directory, f"replaced-{date}"),
        }
        os.makedirs(record["own"], mode=0o700, exist_ok=True)
        for name in OWN:
            path = os.path.join(self.host.directory, name)
            if os.path.exists(path):
                shutil.copy2(path, record["own"])
        self.say("stop Vault")
        self.host.stop()
        setup.write_file(self.record_path, json.dumps(record).encode())
        old = os.stat(self.plan.data_directory)
        os.rename(self.plan.data_directory, record["data"])
        os.mkdir(self.plan.data_directory, mode=0o700)
        os.chown(self.plan.data_directory, old.st_uid, old.st_gid)
        self._forget()
        return record["data"]

    def _forget(self) -> None:
        """Remove what this host keeps; copies are put aside."""
        for name in OWN:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self.host.directory, name))

    def _put_back(self) -> None:
        record = self.record()
        if record is None:
            return
        self.host.stop()
        if os.path.isdir(record["data"]):
            # What is there now was made of the snapshot.
            remove_tree(self.plan.data_directory)
            os.rename(record["data"], self.plan.data_directory)
        self._forget()
        for name in os.listdir(record["own"]):
            shutil.copy2(os.path.join(record["own"], name), self.host.directory)
        os.unlink(self.record_path)
        shutil.rmtree(record["own"])
        self.host.start()
        client = self.host.connect()
        status = vault.wait_for_answer(client, setup.START_SECONDS)
        if status.initialized and status.sealed and self.host.has_keys:
            self.host.unseal_with_credential(client)


def restore(
    host: Host,
    plan: setup.Plan,
    keys: t.Sequence[str],
    snapshot: str,
    say: t.Callable[[str], None],
) -> dict[str, t.Any]:
    """Fill an empty Vault, give this host its own login and keys, and return the recorded state.

    Raises:
        VaultError, CredentialError, OSError: naming what failed.
    """
    _take_in(host, snapshot, say)
    client = host.connect()
    say("unseal it")
    status = _open(host, client, keys)
    state: dict[str, t.Any] = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ"),
        "host": plan.host,
        "operators": [str(operator["name"]) for operator in plan.operators],
        "phase": setup.DONE,
        "restored": True,
        "shares": status.shares,
        "threshold": status.threshold,
        "unseal": host.unseal,
    }
    say("make a login for this host")
    with vault_root.root(host, keys) as root:
        _make_login(root, plan)
    if host.unseal == "sealed":
        state["sealed_with"] = credential.seal(host.directory, list(keys)[: status.threshold])
    vault.login(client, setup.credentials_path(host.directory))
    vault.ask(client, "post", "auth/token/revoke-self", what="log out")
    setup.write_state(host.directory, state)
    return state


def _take_in(host: Host, snapshot: str, say: t.Callable[[str], None]) -> None:
    """Let an empty Vault, whose own keys are in the memory of this process, take the snapshot."""
    say("start an empty Vault")
    host.start()
    client = host.connect()
    if vault.wait_for_answer(client, setup.START_SECONDS).initialized:
        raise vault.VaultError("refused", "the Vault that should be empty is not")
    prefix = "recovery" if host.unseal == "auto" else "secret"
    body = {f"{prefix}_shares": 1, f"{prefix}_threshold": 1}
    made = vault.ask(client, "put", "sys/init", body, what="initialise")
    if host.unseal != "auto":
        vault.unseal(client, made["keys_base64"])
    vault.wait_until_active(client, setup.ACTIVE_SECONDS)
    say("take the snapshot in")
    client.token = str(made["root_token"])
    with open(snapshot, "rb") as handle, vault.asking("take the snapshot in"):
        client.sys.force_restore_raft_snapshot(handle.read())
    # So that nothing in its memory is of the empty Vault; what it does after its answer is short.
    time.sleep(2)
    host.stop()
    host.start()
    vault.wait_for_answer(host.connect(), setup.START_SECONDS)


def _make_login(root: t.Any, plan: setup.Plan) -> None:
    """Make a secret id, and destroy those of the host that was."""
    role = f"auth/approle/role/{plan.bootstrap['login']['name']}"
    earlier: list[str] = []
    with contextlib.suppress(vault.VaultError):
        listed = vault.ask(root, "list", f"{role}/secret-id", what="list the secret ids")
        earlier = [str(key) for key in listed["data"]["keys"]]
    setup.make_login(root, plan)
    for accessor in earlier:
        body = {"secret_id_accessor": accessor}
        path = f"{role}/secret-id-accessor/destroy"
        vault.ask(root, "post", path, body, what="destroy a secret id")


def _open(host: Host, client: t.Any, keys: t.Sequence[str]) -> vault.Status:
    """Unseal with the operators' keys, or wait for the seal; return the state."""
    if host.unseal == "auto":
        vault.wait_until_unsealed(client, SEAL_SECONDS)
    else:
        before = vault.status(client)
        if len(keys) < before.threshold:
            raise vault.VaultError(
                "refused",
                f"{len(keys)} different keys were given, but the Vault of the snapshot takes "
                f"{before.threshold} of {before.shares}",
            )
        with contextlib.suppress(vault.VaultError):
            vault.unseal(client, keys)
        if vault.status(client).sealed:
            raise vault.VaultError(
                "refused",
                "these keys do not open the Vault of the snapshot; it takes the keys of the day "
                "on which it was taken",
            )
    vault.wait_until_active(client, setup.ACTIVE_SECONDS)
    return vault.status(client)


def problems(snapshot: str, keys: t.Sequence[str]) -> list[str]:
    """Return what stands against a restore, as far as it can be seen without doing anything."""
    found = [] if keys else ["no key was given"]
    return [*found, *_damage(snapshot)]


def _damage(path: str) -> list[str]:
    """Return what is wrong with a snapshot: it is an archive with the sums of its members."""
    try:
        with tarfile.open(path, "r:gz") as archive:
            sums: dict[str, str] = {}
            listed = ""
            for member in archive:
                content = archive.extractfile(member)
                if content is None:
                    continue
                if member.name == _SUMS:
                    listed = content.read().decode()
                elif "." in member.name and not member.name.startswith(_SUMS):
                    sums[member.name] = _sum(content)
    except FileNotFoundError:
        return [f"{path} is not there"]
    except (OSError, tarfile.TarError, EOFError, UnicodeDecodeError):
        return [f"{path} is no snapshot of Vault, or is damaged"]
    said = {line[-1]: line[0] for line in map(str.split, listed.splitlines()) if line}
    if "state.bin" not in sums or any(said.get(name) != value for name, value in sums.items()):
        return [f"{path} is no snapshot of Vault, or is damaged"]
    return []


def _sum(content: t.IO[bytes]) -> str:
    found = hashlib.sha256()
    while block := content.read(1 << 20):
        found.update(block)
    return found.hexdigest()
