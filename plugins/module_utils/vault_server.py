# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Talk to the Vault server of this host: connect, log in, ask for its state.

Every failure becomes a :class:`VaultError` whose message a person can act on and that carries no
secret. Needs ``python3-hvac`` on the host.
"""

from __future__ import annotations

import contextlib
import json
import time
import typing as t

try:
    import hvac
    import requests
except ImportError:  # asking() says so; a check on a fresh host must go on
    hvac = requests = None  # type: ignore[assignment,unused-ignore]

URL_PORT = 8200
TIMEOUT_SECONDS = 20
MOVE_SECONDS = 30

Reason = t.Literal["down", "sealed", "forbidden", "missing", "refused"]


class VaultError(Exception):
    """Vault cannot be used; ``reason`` is for programs, the message for people.

    ``down``: nobody answers. ``sealed``: the server runs and cannot read its data. ``forbidden``:
    it does not accept the credentials. ``missing``: what was asked for, or what it takes to ask, is
    not there. ``refused``: everything else that it answers with an error.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        """Keep the reason beside the message."""
        super().__init__(message)
        self.reason: Reason = reason


def _require_library() -> None:
    if hvac is None:
        raise VaultError("missing", "the Python library hvac is missing; install python3-hvac")


@contextlib.contextmanager
def asking(what: str) -> t.Iterator[None]:
    """Turn whatever goes wrong inside into a VaultError that names ``what`` was asked.

    Raises:
        VaultError: for each failure of the connection and each error that Vault answers.
    """
    _require_library()
    try:
        yield
    except requests.exceptions.SSLError as exc:
        raise VaultError(
            "down", f"{what}: the certificate of Vault is not that of this host's authority"
        ) from exc
    except requests.exceptions.RequestException as exc:
        raise VaultError(
            "down",
            f"{what}: Vault does not answer; `docker compose logs vault` may say why",
        ) from exc
    except hvac.exceptions.VaultDown as exc:
        raise VaultError(
            "sealed", f"{what}: Vault is sealed; run playbooks/unseal.yml, see docs/vault.md"
        ) from exc
    except (hvac.exceptions.Forbidden, hvac.exceptions.Unauthorized) as exc:
        raise VaultError("forbidden", f"{what}: Vault does not allow it to this login") from exc
    except hvac.exceptions.InvalidPath as exc:
        raise VaultError("missing", f"{what}: Vault knows nothing of this name") from exc
    except hvac.exceptions.VaultError as exc:
        raise VaultError("refused", f"{what}: Vault answers: {_said(exc)}") from exc


def _said(error: Exception) -> str:
    """Return what the server said; it names parameters and never repeats a secret's value."""
    errors = getattr(error, "errors", None) or [type(error).__name__]
    return "; ".join(str(item).strip() for item in errors)


def connect(url: str, ca: str) -> hvac.Client:
    """Return a client that trusts the authority in the file ``ca`` and nothing else.

    Nothing is asked yet; the first request tells whether the server is there.
    """
    _require_library()
    session = requests.Session()
    session.trust_env = False  # a proxy or a .netrc of root's must not come between
    session.verify = ca
    return hvac.Client(url=url, verify=ca, timeout=TIMEOUT_SECONDS, session=session)


def login(client: hvac.Client, credentials_path: str) -> None:
    """Log in with the AppRole in a file (``role_id`` and ``secret_id``); the client has the token.

    Raises:
        VaultError: when the file is not usable, or Vault is down, sealed or refuses the login.
    """
    try:
        with open(credentials_path, encoding="utf-8") as handle:
            credentials = json.load(handle)
        role_id, secret_id = credentials["role_id"], credentials["secret_id"]
    except FileNotFoundError as exc:
        raise VaultError(
            "missing", f"{credentials_path} is not there; site.yml makes it when it sets Vault up"
        ) from exc
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise VaultError(
            "missing", f"{credentials_path} cannot be read ({type(exc).__name__})"
        ) from exc
    try:
        with asking("log in"):
            client.auth.approle.login(role_id=role_id, secret_id=secret_id)
    except VaultError as exc:
        if not isinstance(exc.__cause__, hvac.exceptions.InvalidRequest):
            raise
        # "invalid role or secret ID" comes as a bad request.
        raise VaultError(
            "forbidden", f"{exc}; the credentials in {credentials_path} are not valid (any more)"
        ) from exc


class Status(t.NamedTuple):
    """What a server says of itself to everybody."""

    initialized: bool
    sealed: bool
    threshold: int
    shares: int
    progress: int
    kind: str
    """How it is unsealed: ``shamir``, or the name of another seal."""
    version: str
    migration: bool = False
    """Whether its keys are needed to move it to another seal."""


def ask(
    client: hvac.Client,
    method: t.Literal["get", "post", "put", "delete", "list"],
    path: str,
    body: t.Mapping[str, t.Any] | None = None,
    what: str = "",
) -> dict[str, t.Any]:
    """Send one request below ``/v1/`` and return the answer, empty when there is none.

    Raises:
        VaultError: naming ``what`` (by default the path) was asked.
    """
    with asking(what or path):
        arguments: dict[str, t.Any] = {} if body is None else {"json": dict(body)}
        answer = client.adapter.request(method, f"/v1/{path}", **arguments)
    return answer if isinstance(answer, dict) else {}


def status(client: hvac.Client) -> Status:
    """Return the state of the server; a sealed or empty one answers, too.

    Raises:
        VaultError: when it is down.
    """
    answer = ask(client, "get", "sys/seal-status", what="ask for the state")
    return Status(
        initialized=bool(answer.get("initialized")),
        sealed=bool(answer.get("sealed", True)),
        threshold=int(answer.get("t") or 0),
        shares=int(answer.get("n") or 0),
        progress=int(answer.get("progress") or 0),
        kind=str(answer.get("type") or ""),
        version=str(answer.get("version") or ""),
        migration=bool(answer.get("migration")),
    )


def wait_for_answer(client: hvac.Client, seconds: float) -> Status:
    """Return the state of a server that may just be starting.

    Raises:
        VaultError: when it has not answered in time.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            return status(client)
        except VaultError as exc:
            if exc.reason != "down" or time.monotonic() > end:
                raise
        time.sleep(0.5)


def wait_until_active(client: hvac.Client, seconds: float) -> None:
    """Return when an unsealed server has become the one that works (the leader, even alone).

    Raises:
        VaultError: when it has not in time.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            if ask(client, "get", "sys/leader", what="wait for the leader").get("is_self"):
                return
        except VaultError as exc:
            if time.monotonic() > end or exc.reason in ("down", "missing"):
                raise
        if time.monotonic() > end:
            raise VaultError(
                "refused", f"Vault is unsealed, but did not begin to work within {seconds:.0f} s"
            )
        time.sleep(0.3)


def wait_until_unsealed(client: hvac.Client, seconds: float) -> Status:
    """Return the state of a server that unseals itself.

    Raises:
        VaultError: when it has not in time.
    """
    end = time.monotonic() + seconds
    while (now := status(client)).sealed:
        if time.monotonic() > end:
            raise VaultError(
                "sealed",
                f"Vault has not been unsealed by its seal ({now.kind}) within {seconds:.0f} s; its "
                "journal says why",
            )
        time.sleep(0.5)
    return now


def unseal(client: hvac.Client, keys: t.Iterable[str]) -> Status:
    """Hand keys over until the server is unsealed or there are no more; return its state.

    Raises:
        VaultError: for a key that cannot be one. Whether a key is the right one shows only with
            the last of a quorum; the server then forgets all that it was given.
    """
    now = status(client)
    if not now.initialized:
        raise VaultError("missing", "Vault is not initialised; run site.yml")
    for key in keys:
        if not now.sealed:
            break
        move = {"migrate": True} if now.migration else {}
        ask(client, "put", "sys/unseal", {"key": key, **move}, what="unseal")
        now = _settled(client) if move else status(client)
    return now


def _settled(client: hvac.Client) -> Status:
    """Return the state of a server that may be moving its data to another seal at the moment.

    It answers questions about its state with an error meanwhile.
    """
    end = time.monotonic() + MOVE_SECONDS
    while True:
        try:
            return status(client)
        except VaultError as exc:
            if exc.reason != "refused" or time.monotonic() > end:
                raise
        time.sleep(0.3)
