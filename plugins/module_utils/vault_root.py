# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A root token, made by a quorum of the operators' keys for one piece of work.

It is in the memory of one process, ends by itself after half an hour, and is revoked when the work
is done, however that ends. Vault makes one for everybody who has a quorum; OpenBao only on a
listener that says so, which is the one inside the container that nobody else reaches.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import os
import subprocess
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_server as vault

if t.TYPE_CHECKING:
    from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_host import Host

TTL = "30m"
"""Life of a token whose process was killed before it could revoke it."""
LOOPBACK = f"https://127.0.0.1:{vault.URL_PORT}"
_ATTEMPT = "sys/generate-root/attempt"
_NETWORK = 0x40000000  # CLONE_NEWNET


@contextlib.contextmanager
def root(host: Host, keys: t.Sequence[str]) -> t.Iterator[t.Any]:
    """Yield a client with a root token, which is revoked afterwards.

    Raises:
        VaultError: when the keys are not a quorum of Vault's keys; nothing has happened then.
    """
    client = host.connect()
    first = make(host, keys)
    try:
        client.token = first
        body = {"policies": ["root"], "ttl": TTL, "no_parent": True, "renewable": False}
        short = vault.ask(client, "post", "auth/token/create", body, what="make a short token")
    finally:
        _revoke(client, first)
    token = str(short["auth"]["client_token"])
    client.token = token
    try:
        yield client
    finally:
        _revoke(client, token)


def prove(host: Host, keys: t.Sequence[str]) -> bool:
    """Tell whether keys are a quorum of those that are in force.

    Raises:
        VaultError: when Vault cannot be asked.
    """
    try:
        with root(host, keys):
            return True
    except vault.VaultError as exc:
        if exc.reason != "refused":
            raise
        return False


def make(host: Host, keys: t.Sequence[str]) -> str:
    """Return a root token.

    Raises:
        VaultError: ``refused`` when the keys are no quorum, and what else can happen.
    """
    with _inside(_pid(host)):
        client = vault.connect(LOOPBACK, host.ca)
        _cancel(client)
        what = "begin a root token"
        try:
            begun = vault.ask(client, "put", _ATTEMPT, {}, what=what)
        except vault.VaultError as exc:
            if "unsupported operation" not in str(exc):
                raise
            raise vault.VaultError(
                "missing",
                "this Vault makes no root token, not even on its inner listener; run site.yml, and "
                "see what vault_settings says of the listeners",
            ) from exc
        try:
            encoded = _give(client, str(begun["nonce"]), keys)
        finally:
            _cancel(client)
    return decode(encoded, str(begun["otp"]))


def _give(client: t.Any, nonce: str, keys: t.Sequence[str]) -> str:
    path, required = "sys/generate-root/update", 0
    for key in keys:
        body = {"key": key, "nonce": nonce}
        try:
            answer = vault.ask(client, "put", path, body, what="hand a key over")
        except vault.VaultError as exc:
            if exc.reason != "refused":
                raise
            # What the server says is about its arithmetic.
            raise vault.VaultError(
                "refused",
                "Vault does not accept these keys: at least one is not of the set in force, or is "
                "misspelt. Nothing was changed",
            ) from exc
        required = int(answer.get("required") or 0)
        if answer.get("complete"):
            return str(answer.get("encoded_token") or answer.get("encoded_root_token"))
    raise vault.VaultError(
        "refused", f"{len(keys)} different keys were given, but {required} are needed"
    )


def decode(encoded: str, otp: str) -> str:
    """Return the token that the server has veiled with a one-time pad."""
    veiled = base64.b64decode(encoded + "=" * (-len(encoded) % 4))
    return bytes(one ^ two for one, two in zip(veiled, otp.encode(), strict=True)).decode()


def _cancel(client: t.Any) -> None:
    """Give up what an earlier process, or this one, has begun."""
    with contextlib.suppress(vault.VaultError):
        vault.ask(client, "delete", _ATTEMPT, what="give up a root token")


def _revoke(client: t.Any, token: str) -> None:
    client.token = token
    try:
        vault.ask(client, "post", "auth/token/revoke-self", what="revoke the root token")
    finally:
        client.token = None


def _pid(host: Host) -> int:
    """Return a process of the server's container."""
    container = host.compose("ps", "--quiet", "vault").strip()
    if not container:
        raise vault.VaultError("down", "the container of Vault does not run; run site.yml")
    argv = ["/usr/bin/docker", "inspect", "--format", "{{.State.Pid}}", container]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    pid = int(result.stdout.strip() or 0) if result.returncode == 0 else 0
    if pid == 0:
        raise vault.VaultError("down", "the container of Vault does not run; run site.yml")
    return pid


@contextlib.contextmanager
def _inside(pid: int) -> t.Iterator[None]:
    """Let this thread open its connections in the network of a process.

    Raises:
        VaultError: when this process may not.
    """
    library = ctypes.CDLL(None, use_errno=True)  # os.setns is there from Python 3.12 only

    def enter(descriptor: int) -> None:
        if library.setns(descriptor, _NETWORK) != 0:
            reason = os.strerror(ctypes.get_errno())
            raise vault.VaultError("down", f"cannot enter the network of Vault: {reason}")

    with open("/proc/thread-self/ns/net", "rb") as own, open(f"/proc/{pid}/ns/net", "rb") as other:
        enter(other.fileno())
        try:
            yield
        finally:
            enter(own.fileno())
