from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_credential as credential
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_server as vault
from ansible_collections.vedfolnir.stack.plugins.modules import vault_unseal

KEYS = [f"{letter * 43}=" for letter in "ABC"]
Run = t.Callable[..., dict[str, t.Any]]


class Server:
    """Counts keys as Vault does: two of three open it, a wrong quorum starts anew."""

    def __init__(self) -> None:
        self.sealed, self.given = True, list[str]()

    def status(self, _client: t.Any) -> vault.Status:
        return vault.Status(True, self.sealed, 2, 3, len(self.given), "shamir", "2.7.2")

    def ask(
        self, _client: t.Any, _method: str, _path: str, body: dict[str, str], what: str
    ) -> dict[str, t.Any]:
        assert what == "unseal"
        self.given.append(body["key"])
        if len(self.given) == 2:
            self.sealed, self.given = not set(self.given) <= set(KEYS), []
        return {}


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    result = Server()
    monkeypatch.setattr(vault, "status", result.status)
    monkeypatch.setattr(vault, "ask", result.ask)
    monkeypatch.setattr(vault, "connect", lambda *_arguments: None)
    monkeypatch.setattr(vault, "wait_until_active", lambda *_arguments: None)
    return result


@pytest.fixture
def sealed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What was sealed to the host, the last one at the end."""
    found: list[list[str]] = []

    def unsealed(_directory: str) -> list[str]:
        if not found:
            raise credential.CredentialError("none")
        return found[-1]

    monkeypatch.setattr(credential, "unsealed", unsealed)
    monkeypatch.setattr(credential, "seal", lambda _directory, keys: found.append(list(keys)))
    return found


@pytest.fixture
def call(tmp_path: pathlib.Path, run_module: Run) -> Run:
    def run(*keys: str, mode: str = "sealed", check: bool = False) -> dict[str, t.Any]:
        settings = tmp_path / "settings.json"
        content = {"address": "10.0.0.9", "directory": str(tmp_path), "project_src": str(tmp_path)}
        settings.write_text(
            json.dumps({**content, "unseal": mode, "names": [], "uid": 100, "gid": 1000})
        )
        return run_module(
            vault_unseal.main, check=check, settings=str(settings), keys="\n".join(("Hi", *keys))
        )

    return run


def told(result: dict[str, t.Any]) -> tuple[t.Any, ...]:
    return tuple(result[name] for name in ("changed", "sealed", "missing", "resealed"))


def test_check_do_check_do(call: Run, sealed: list[list[str]]) -> None:
    results = [told(call(*KEYS[:2], check=check)) for check in (True, False, True, False)]
    assert results == [
        (True, False, 0, False),
        (True, False, 0, True),
        (False, False, 0, False),
        (False, False, 0, False),
    ]
    assert sealed == [KEYS[:2]]


def test_operators_come_one_after_the_other(call: Run, sealed: list[list[str]]) -> None:
    assert told(call(KEYS[0])) == (True, True, 1, False)
    assert told(call(KEYS[2])) == (True, False, 0, False)
    assert sealed == []


def test_a_wrong_quorum_is_named(call: Run) -> None:
    result = call(KEYS[0], "D" * 44)
    assert result["msg"] == (
        "this quorum of keys does not unseal Vault; all have to be given again"
    )


def test_only_a_host_that_should_have_keys_gets_them(call: Run, sealed: list[list[str]]) -> None:
    assert told(call(*KEYS, mode="manual")) == (True, False, 0, False)
    assert sealed == []
    # Vault is open already, the host has been told since to unseal it by itself.
    assert told(call(*KEYS)) == (True, False, 0, True)
    assert sealed == [KEYS[:2]]


def test_keys_that_did_not_open_are_replaced(call: Run, sealed: list[list[str]]) -> None:
    sealed.append(["old", "older"])
    assert told(call(*KEYS[1:])) == (True, False, 0, True)
    assert sealed[-1] == KEYS[1:]


def test_no_key_and_no_vault_are_said(call: Run, run_module: Run) -> None:
    assert call()["msg"] == "no key was given"
    nothing = run_module(vault_unseal.main, settings="/nonexistent", keys=KEYS[0])
    assert nothing["msg"] == "There is no Vault on this host; run site.yml first."
