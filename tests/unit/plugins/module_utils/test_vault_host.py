from __future__ import annotations

import json
import os
import re
import typing as t
from pathlib import Path

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_credential as credential
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_host
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_server as vault
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_host import Host

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="the files belong to other users")


def state(sealed: bool, *, initialized: bool = True, kind: str = "shamir") -> vault.Status:
    return vault.Status(initialized, sealed, 2, 3, 1 if sealed else 0, kind, "2.7.2")


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> list[vault.Status]:
    """What the server answers, one after the other, the last one for ever."""
    found: list[vault.Status] = []

    def status(*_arguments: t.Any) -> vault.Status:
        return found.pop(0) if len(found) > 1 else found[0]

    def unseal(_client: t.Any, keys: list[str]) -> vault.Status:
        found[:] = [state(keys != ["K1", "K2"])]
        return found[0]

    monkeypatch.setattr(vault, "status", status)
    monkeypatch.setattr(vault, "wait_for_answer", status)
    monkeypatch.setattr(vault, "wait_until_active", lambda *_arguments: None)
    monkeypatch.setattr(vault, "connect", lambda *_arguments: None)
    monkeypatch.setattr(vault, "unseal", unseal)
    monkeypatch.setattr(vault_host, "is_served", lambda *_arguments: True)
    monkeypatch.setattr(Host, "start", lambda _self: True)
    monkeypatch.setattr(vault_host, "DELIVERY", __file__)
    return found


@pytest.fixture
def host(tmp_path: Path) -> t.Callable[[str], Host]:
    def make(unseal: str) -> Host:
        content = {"address": "127.0.0.1", "directory": str(tmp_path), "project_src": "/"}
        settings = tmp_path / "settings.json"
        settings.write_text(
            json.dumps({**content, "unseal": unseal, "names": ["vault"], "uid": 100, "gid": 1000})
        )
        return Host.read(str(settings))

    return make


Make = t.Callable[[str], Host]


def keys(monkeypatch: pytest.MonkeyPatch, *present: str) -> None:
    monkeypatch.setattr(credential, "unsealed", lambda _directory: list(present))


def test_a_host_with_keys_unseals_at_boot_and_later(
    host: Make, states: list[vault.Status], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys(monkeypatch, "K1", "K2")
    said: list[str] = []
    states.append(state(sealed=True))
    vault_host.boot(host("sealed"), said.append)
    states[:] = [state(sealed=True)]
    vault_host.keep(host("sealed"), said.append)
    vault_host.keep(host("sealed"), said.append)
    assert said == ["Vault is unsealed and works", "Vault had come back sealed and was unsealed"]


def test_keys_that_do_not_open_are_said(
    host: Make, states: list[vault.Status], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys(monkeypatch, "old")
    states.append(state(sealed=True))
    with pytest.raises(vault.VaultError, match=r"do not unseal Vault \(any more\); run playb"):
        vault_host.boot(host("sealed"), print)


@pytest.mark.parametrize("initialized", [True, False])
def test_a_boot_does_not_wait_for_a_vault_without_the_secrets(
    host: Make,
    states: list[vault.Status],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    initialized: bool,
) -> None:
    """A set-up or a move was killed: the services still start with the local secrets."""
    monkeypatch.setattr(vault_host, "DELIVERY", str(tmp_path / "missing"))
    states.append(state(sealed=True, initialized=initialized))
    said: list[str] = []
    vault_host.boot(host("manual"), said.append)
    assert said == ["Vault does not have the secrets yet, nothing waits for it; run site.yml"]


@pytest.mark.parametrize("delivers", [True, False])
def test_a_boot_fails_only_where_services_need_vault(
    host: Make,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    delivers: bool,
) -> None:
    def broken(_self: Host) -> bool:
        raise vault.VaultError("down", "no engine")

    made = host("manual")
    monkeypatch.setattr(Host, "read", lambda: made)
    monkeypatch.setattr(Host, "start", broken)
    monkeypatch.setattr(vault_host, "DELIVERY", __file__ if delivers else str(tmp_path / "none"))
    assert vault_host.main(["boot"]) == int(delivers)
    assert "no engine" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("mode", "kind", "message"),
    [
        ("manual", "shamir", "waits for 1 of 2 keys; the stack starts after it. Operators: run"),
        ("auto", "transit", r"waits for its seal \(transit\) to answer"),
    ],
)
def test_a_host_without_keys_waits_and_says_once_for_what(
    host: Make, states: list[vault.Status], mode: str, kind: str, message: str
) -> None:
    said: list[str] = []
    states += [state(sealed=True, kind=kind)] * 3 + [state(sealed=False, kind=kind)]
    vault_host.ready(host(mode), said.append, pause=0)
    assert len(said) == 1
    assert re.search(message, said[0])


def test_an_empty_vault_is_not_waited_for(host: Make, states: list[vault.Status]) -> None:
    states.append(state(sealed=True, initialized=False))
    with pytest.raises(vault.VaultError, match="Vault is not initialised; run site"):
        vault_host.ready(host("manual"), print)


def test_keys_are_forgotten_where_operators_keep_them(host: Make, tmp_path: Path) -> None:
    (tmp_path / "unseal.cred").write_text("x")
    assert not host("sealed").forget_keys()
    assert host("manual").forget_keys(check=True)
    assert host("manual").forget_keys()
    assert not host("manual").forget_keys()
    assert not host("manual").has_keys
