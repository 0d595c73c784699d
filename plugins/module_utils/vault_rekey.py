# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""New unseal keys (recovery keys where a seal unseals), made with a quorum of the old ones.

The server makes the new keys and goes on with the old ones until it is shown a quorum of the new
(``require_verification``); that is one step, in which the one set stops to work and the other
begins to. ``begin`` comes as far as the operators' encrypted files; when these have been fetched,
``finish`` shows the keys and makes the host's own ``unseal.cred`` of them. Between the two calls a
quorum is sealed in ``/run``: it is gone after a reboot, as is what the server has begun.

What has come of it is in ``rekey.json``: with digests of the new keys, never with a key. After
whatever interruption ``begin`` asks the server which set is in force, and ends the earlier rekey or
drops it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_credential as credential
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_recovery as recovery
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_root
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_server as vault
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_setup as setup
from ansible_collections.vedfolnir.stack.plugins.module_utils.files import remove_tree

if t.TYPE_CHECKING:
    from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_host import Host

RUNTIME = "/run/vedfolnir/rekey"
"""Where a quorum of the new keys is sealed between the two calls."""
DONE = "done"
_PATHS = {
    False: ("sys/rotate/root", "sys/rekey"),
    True: ("sys/rotate/recovery", "sys/rekey-recovery-key"),
}
"""OpenBao's and HashiCorp's, for unseal keys and for recovery keys."""


@dataclasses.dataclass(frozen=True)
class Wish:
    """The keys that shall be."""

    shares: int
    threshold: int
    operators: t.Sequence[t.Mapping[str, t.Any]]
    host: str


class Answer(t.NamedTuple):
    """What ``begin`` has come to."""

    record: dict[str, t.Any]
    dropped: str
    """Date of an earlier rekey whose keys never counted."""


def record_path(directory: str) -> str:
    """Return where is recorded what has come of a rekey."""
    return os.path.join(directory, "rekey.json")


def letters_directory(directory: str) -> str:
    """Return where the operators' encrypted keys lie until they are fetched."""
    return os.path.join(directory, "rekey")


def letters(directory: str) -> list[str]:
    """Return the files with operators' new keys."""
    path = letters_directory(directory)
    with contextlib.suppress(FileNotFoundError):
        return sorted(os.path.join(path, name) for name in os.listdir(path))
    return []


def read_record(directory: str) -> dict[str, t.Any] | None:
    """Return the record, nothing where there is none that can be read (it was never finished)."""
    with contextlib.suppress(OSError, ValueError), open(record_path(directory), "rb") as handle:
        return dict(json.load(handle))
    return None


def write_record(directory: str, record: t.Mapping[str, t.Any], phase: str) -> None:
    """Record a phase; on the disk when this returns."""
    content = json.dumps({**record, "phase": phase}, indent=2, sort_keys=True)
    setup.write_file(record_path(directory), f"{content}\n".encode())


def digest(key: str) -> str:
    """Return what a key is recognised by; a key is random, so that it tells nothing of it."""
    return hashlib.sha256(f"vedfolnir {key}".encode()).hexdigest()[:24]


def problems(wish: Wish, keys: t.Sequence[str] | None, status: vault.Status) -> list[str]:
    """Return all that stands against a rekey, as far as it can be seen without doing anything.

    Args:
        wish: What shall be.
        keys: The keys that were given, nothing where that is not to be judged.
        status: State of the server.
    """
    found: list[str] = []
    if status.sealed:
        found.append("Vault is sealed; run playbooks/unseal.yml first")
    elif not status.initialized:
        found.append("Vault was not set up yet; run site.yml first")
    elif keys is not None and len(set(keys)) < status.threshold:
        found.append(
            f"{len(set(keys))} different keys were given, but {status.threshold} of "
            f"{status.shares} are needed; lines that cannot be a key do not count"
        )
    least = 1 if wish.shares == 1 else 2
    if not least <= wish.threshold <= wish.shares <= 255:
        found.append(
            f"vault_key_threshold is {wish.threshold} of vault_key_shares {wish.shares}, but must "
            "be at least 2 (1 with a single key) and at most all"
        )
    if not wish.operators:
        found.append("vault_operators is empty, so nobody would get the new keys")
    for operator in wish.operators:
        try:
            recovery.encrypt(operator, "A test of this key.\n")
        except recovery.RecoveryError as exc:
            found.append(str(exc))
    return found


class Rekey:
    """The server's side of it, with a root token."""

    def __init__(self, client: t.Any, status: vault.Status) -> None:
        """Find out how this server calls it."""
        self._client = client
        self._base = self._find(status.kind != "shamir")

    def _find(self, recovery_keys: bool) -> str:
        for base in _PATHS[recovery_keys]:
            with contextlib.suppress(vault.VaultError):
                self._ask("get", f"{base}/init")
                return base
        raise vault.VaultError("missing", "this server does not offer to make new keys")

    def _ask(self, method: t.Any, path: str, body: t.Any = None) -> dict[str, t.Any]:
        answer = vault.ask(self._client, method, path, body, what="make new keys")
        return dict(answer.get("data") or answer)

    def cancel(self) -> bool:
        """Give up what was begun; return whether there was anything."""
        now = self._ask("get", f"{self._base}/init")
        if not now.get("started"):
            return False
        self._ask("delete", f"{self._base}/init", {"nonce": now.get("nonce")})
        return True

    def make(self, wish: Wish, keys: t.Sequence[str]) -> tuple[list[str], str]:
        """Return the new keys, which are not in force yet, and the nonce to show them with."""
        body = {
            "secret_shares": wish.shares,
            "secret_threshold": wish.threshold,
            "require_verification": True,
        }
        nonce = self._ask("put", f"{self._base}/init", body)["nonce"]
        for key in keys:
            answer = self._ask("put", f"{self._base}/update", {"key": key, "nonce": nonce})
            if answer.get("complete"):
                new = answer.get("keys_base64") or answer.get("keys_b64")
                return [str(one) for one in new or []], str(answer["verification_nonce"])
        raise vault.VaultError("refused", "the keys that were given are not enough")

    def show(self, keys: t.Sequence[str], nonce: str) -> None:
        """Show a quorum of the new keys; from then on they are in force and the old are not."""
        for key in keys:
            answer = self._ask("put", f"{self._base}/verify", {"key": key, "nonce": nonce})
            if answer.get("complete"):
                return
        raise vault.VaultError("refused", "the new keys that were shown are not enough")


def begin(host: Host, wish: Wish, keys: t.Sequence[str]) -> Answer:
    """Come as far as the operators' encrypted files, or end what an earlier call has left.

    Raises:
        VaultError, RecoveryError, CredentialError: naming what failed; the old keys are in force.
    """
    earlier = read_record(host.directory)
    if earlier is not None and (earlier["phase"] == DONE or _in_force(host, earlier, keys)):
        return Answer(_commit(host, earlier), "")
    status = vault.status(host.connect())
    record: dict[str, t.Any] = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ"),
        "operators": [str(operator["name"]) for operator in wish.operators],
        "shares": wish.shares,
        "threshold": wish.threshold,
    }
    with _root(host, keys, earlier) as client:
        server = Rekey(client, status)
        server.cancel()
        _drop(host)
        write_record(host.directory, record, "begun")
        new, nonce = server.make(wish, keys)
        record |= {"nonce": nonce, "keys": [digest(key) for key in new]}
        write_record(host.directory, record, "made")
        _hand_over(host, wish, new, record["date"])
        quorum = new[: wish.threshold]
        os.makedirs(RUNTIME, mode=0o700, exist_ok=True)
        credential.seal(RUNTIME, quorum)
        if host.unseal == "sealed":
            credential.seal_next(host.directory, quorum)
        write_record(host.directory, record, "handed over")
    return Answer({**record, "phase": "handed over"}, str((earlier or {}).get("date") or ""))


def finish(host: Host, keys: t.Sequence[str]) -> dict[str, t.Any]:
    """Show the new keys to the server, when the operators' files have been fetched.

    Raises:
        VaultError, CredentialError: the old keys are in force then, but for a connection that
            broke in the very moment; ``begin`` finds out.
    """
    record = read_record(host.directory)
    if record is None:
        raise vault.VaultError("missing", "no new keys were made; begin again")
    if record["phase"] == DONE:
        return record
    quorum = credential.unsealed(RUNTIME)
    with vault_root.root(host, keys) as client:
        Rekey(client, vault.status(client)).show(quorum, record["nonce"])
        write_record(host.directory, record, "shown")
    return _commit(host, record)


def clean(host: Host) -> None:
    """Remove the operators' files and the record, when all has been fetched."""
    record = read_record(host.directory)
    if record is not None and record["phase"] != DONE:
        raise vault.VaultError("refused", "this rekey is not done")
    _drop(host)


@contextlib.contextmanager
def _root(
    host: Host, keys: t.Sequence[str], earlier: t.Mapping[str, t.Any] | None
) -> t.Iterator[t.Any]:
    """As :func:`vault_root.root`; says what may be the matter after an interrupted rekey."""
    with contextlib.ExitStack() as stack:
        try:
            client = stack.enter_context(vault_root.root(host, keys))
        except vault.VaultError as exc:
            if earlier is None or exc.reason != "refused":
                raise
            raise vault.VaultError(
                "refused",
                f"{exc}. A rekey of {earlier['date']} was interrupted; if its keys open Vault, "
                "give a quorum of them, and it is finished",
            ) from exc
        yield client


def _in_force(host: Host, record: t.Mapping[str, t.Any], keys: t.Sequence[str]) -> bool:
    """Tell whether the keys of a rekey that was interrupted are those that the server accepts."""
    known = set(record.get("keys") or [])
    candidates = [list(keys), *credential.candidates(host.directory, RUNTIME)]
    return any(
        set(map(digest, one)) <= known and vault_root.prove(host, one)
        for one in candidates
        if one and known
    )


def _hand_over(host: Host, wish: Wish, keys: t.Sequence[str], date: str) -> None:
    directory = letters_directory(host.directory)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    for operator, content in recovery.files(keys, wish.operators, wish.host, wish.threshold, date):
        setup.write_file(os.path.join(directory, operator), content)


def _commit(host: Host, record: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Let the host use the keys that are in force; as often as it takes."""
    state = setup.read_state(host.directory) or {}
    sealed_with = credential.promote(host.directory) if host.unseal == "sealed" else None
    if sealed_with:
        state["sealed_with"] = sealed_with
    wanted = {name: record[name] for name in ("operators", "shares", "threshold")}
    setup.write_state(host.directory, {**state, **wanted, "rekeyed": record["date"]})
    remove_tree(RUNTIME)
    write_record(host.directory, record, DONE)
    return {**record, "phase": DONE}


def _drop(host: Host) -> None:
    """Remove what belongs to keys that never counted, or whose files have been fetched."""
    remove_tree(RUNTIME)
    remove_tree(letters_directory(host.directory))
    for path in (credential.next_path(host.directory), record_path(host.directory)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
