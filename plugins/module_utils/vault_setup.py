# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Set a new Vault up once, so that its keys cannot be lost however the set-up ends.

All happens on the host in one process, which holds shares and root token in memory only. What it
has come to is in ``state.json``. Until that says ``done`` Vault holds nothing that anybody needs:
a set-up that was killed is thrown away with its data and begun anew by the next run. A Vault that
holds something although no state was recorded here is never touched.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import shutil
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_credential as credential
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_recovery as recovery
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_server as vault
from ansible_collections.vedfolnir.stack.plugins.module_utils.files import write_atomic

if t.TYPE_CHECKING:
    import hvac

DONE = "done"
START_SECONDS = 120
ACTIVE_SECONDS = 60

Unseal = t.Literal["sealed", "manual", "auto"]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a set-up is to bring about."""

    directory: str
    """Root's own directory: state, credentials and, until they are fetched, the operators' keys."""
    data_directory: str
    unseal: Unseal
    shares: int
    threshold: int
    operators: t.Sequence[t.Mapping[str, t.Any]]
    bootstrap: t.Mapping[str, t.Any]
    """``audit``, ``auth``, ``mounts`` (path to settings), ``policies`` (name to text) and ``login``
    (the AppRole of Ansible: ``name`` and ``settings``)."""
    host: str


class Server(t.Protocol):
    """How the server is stopped and started."""

    def stop(self) -> None:
        """Stop it; its data is at rest when this returns."""

    def start(self) -> bool:
        """Start it; it may need a while to answer."""


def state_path(directory: str) -> str:
    """Return where the state of the set-up is recorded."""
    return os.path.join(directory, "state.json")


def recovery_directory(directory: str) -> str:
    """Return where the operators' encrypted keys lie until they are fetched."""
    return os.path.join(directory, "recovery")


def read_state(directory: str) -> dict[str, t.Any] | None:
    """Return the recorded state, nothing when there is none.

    Raises:
        VaultError: when there is one that cannot be read: what to do with the data is unknown then.
    """
    path = state_path(directory)
    try:
        with open(path, encoding="utf-8") as handle:
            state = json.load(handle)
        return {**state, "phase": str(state["phase"])}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise vault.VaultError(
            "refused", f"{path} cannot be read ({type(exc).__name__}); restore it from a backup"
        ) from exc


def write_state(directory: str, state: t.Mapping[str, t.Any]) -> None:
    """Record how far a set-up has come; on the disk when this returns."""
    text = json.dumps(state, indent=2, sort_keys=True) + "\n"
    write_file(state_path(directory), text.encode())


def fetchable(directory: str) -> list[str]:
    """Return the files with operators' keys that have not been fetched yet."""
    path = recovery_directory(directory)
    try:
        return sorted(os.path.join(path, name) for name in os.listdir(path))
    except FileNotFoundError:
        return []


def needed(status: vault.Status, state: t.Mapping[str, t.Any] | None) -> bool:
    """Tell whether Vault must be set up (again).

    Raises:
        VaultError: when the record and the server contradict each other; nothing is touched then.
    """
    done = state is not None and state["phase"] == DONE
    if status.initialized and state is None:
        raise vault.VaultError(
            "refused",
            "Vault holds data, but this host has no record of its set-up, so it is left alone. "
            "Restore /etc/vedfolnir/vault from a backup, see docs/vault.md",
        )
    if done and not status.initialized:
        raise vault.VaultError(
            "refused",
            "Vault is empty, but was set up here before, so its data is gone. Restore a snapshot; "
            "or, to begin anew, remove /etc/vedfolnir/vault/state.json, see docs/vault.md",
        )
    return not done


def moves(unseal: Unseal, state: t.Mapping[str, t.Any] | None) -> bool:
    """Tell whether Vault is to get another kind of seal: keys instead of one outside, or back."""
    if state is None or state["phase"] != DONE:
        return False
    return (str(state.get("unseal")) == "auto") != (unseal == "auto")


def require_seal(unseal: Unseal, seal: str, state: t.Mapping[str, t.Any] | None) -> None:
    """Refuse to take away the seal that the data is still sealed with.

    Raises:
        VaultError: before anything is restarted.
    """
    if unseal != "auto" and not seal and moves(unseal, state):
        raise vault.VaultError(
            "refused",
            "Vault is sealed by the seal of vault_unseal=auto, which is needed to move it to "
            f"vault_unseal={unseal}: put vault_seal (and vault_seal_files) back until that is "
            "done, see docs/vault.md",
        )


def note_unseal(directory: str, unseal: Unseal, status: vault.Status) -> bool:
    """Record how a Vault that works is unsealed from now on; return whether it was moved."""
    state = read_state(directory)
    if state is None or state["phase"] != DONE or state.get("unseal") == unseal:
        return False
    if status.sealed or (status.kind == "shamir") != (unseal != "auto"):
        return False
    gone = "sealed_with" if unseal != "sealed" else ""
    kept = {name: value for name, value in state.items() if name != gone}
    write_state(directory, {**kept, "unseal": unseal})
    return moves(unseal, state)


def set_up(client: hvac.Client, server: Server, plan: Plan) -> dict[str, t.Any]:
    """Initialise Vault, hand its keys over, prepare it, give the root token up; return the state.

    Raises:
        VaultError, RecoveryError, CredentialError: naming what failed. The next call begins anew.
    """
    for operator in plan.operators:  # before there is something to lose
        recovery.encrypt(operator, "A test of this key.\n")
    state: dict[str, t.Any] = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ"),
        "host": plan.host,
        "operators": [str(operator["name"]) for operator in plan.operators],
        "phase": "started",
        "shares": plan.shares,
        "threshold": plan.threshold,
        "unseal": plan.unseal,
    }
    os.makedirs(plan.directory, mode=0o700, exist_ok=True)
    status = vault.wait_for_answer(client, START_SECONDS)
    if read_state(plan.directory) is not None or status.initialized:
        _throw_away(client, server, plan)
    write_state(plan.directory, state)

    def reached(phase: str) -> None:
        state["phase"] = phase
        write_state(plan.directory, state)

    keys, root = _initialise(client, plan)
    reached("initialised")
    _hand_over(plan, keys, state["date"])
    reached("handed over")
    if plan.unseal == "sealed":
        state["sealed_with"] = credential.seal(plan.directory, keys[: plan.threshold])
        reached("key sealed")
    if plan.unseal != "auto":
        vault.unseal(client, keys)
    del keys
    vault.wait_until_active(client, ACTIVE_SECONDS)
    reached("unsealed")
    client.token = root
    _prepare(client, plan)
    reached("prepared")
    vault.ask(client, "post", "auth/token/revoke-self", what="revoke the root token")
    client.token = None
    reached(DONE)
    return state


def _throw_away(client: hvac.Client, server: Server, plan: Plan) -> None:
    """Remove what a set-up that was not finished has left: the data, the keys, the credentials."""
    server.stop()
    for name in os.listdir(plan.data_directory):
        path = os.path.join(plan.data_directory, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    for path in (*fetchable(plan.directory), credential.path(plan.directory)):
        if os.path.exists(path):
            os.unlink(path)
    server.start()
    vault.wait_for_answer(client, START_SECONDS)


def _initialise(client: hvac.Client, plan: Plan) -> tuple[list[str], str]:
    prefix = "recovery" if plan.unseal == "auto" else "secret"
    body = {f"{prefix}_shares": plan.shares, f"{prefix}_threshold": plan.threshold}
    answer = vault.ask(client, "put", "sys/init", body, what="initialise")
    keys = answer.get("recovery_keys_base64") if prefix == "recovery" else answer["keys_base64"]
    return list(keys or []), str(answer["root_token"])


def _hand_over(plan: Plan, keys: t.Sequence[str], date: str) -> None:
    directory = recovery_directory(plan.directory)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    dealt = recovery.files(keys, plan.operators, plan.host, plan.threshold, date)
    for name, content in dealt:
        write_file(os.path.join(directory, name), content)


def _prepare(client: hvac.Client, plan: Plan) -> None:
    """Make what belongs to the stack, with the root token."""
    for kind in ("audit", "auth", "mounts"):
        for path, settings in (plan.bootstrap.get(kind) or {}).items():
            vault.ask(client, "post", f"sys/{kind}/{path}", settings, what=f"make {kind} {path}")
    make_login(client, plan)


def make_login(client: hvac.Client, plan: Plan) -> None:
    """Write the policies and the AppRole of Ansible, and keep a new secret id of it."""
    wanted = plan.bootstrap
    for name, text in (wanted.get("policies") or {}).items():
        path = f"sys/policies/acl/{name}"
        vault.ask(client, "put", path, {"policy": text}, what=f"write the policy {name}")
    login = wanted["login"]
    path = f"auth/approle/role/{login['name']}"
    vault.ask(client, "post", path, login["settings"], what="make the AppRole of Ansible")
    role = vault.ask(client, "get", f"{path}/role-id", what="read the id of the AppRole")
    secret = vault.ask(client, "post", f"{path}/secret-id", {}, what="make its secret id")
    credentials = {
        "role_id": role["data"]["role_id"],
        "secret_id": secret["data"]["secret_id"],
    }
    write_file(credentials_path(plan.directory), json.dumps(credentials).encode())


def credentials_path(directory: str) -> str:
    """Return where the host's own AppRole is."""
    return os.path.join(directory, "approle.json")


def write_file(path: str, content: bytes) -> None:
    """Write a file of root's so that it is on the disk, with its name, when this returns."""
    write_atomic(path, content, uid=0, gid=0, mode=0o400)
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
