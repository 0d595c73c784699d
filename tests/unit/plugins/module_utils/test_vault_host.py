from __future__ import annotations

import dataclasses
import json
import os
import re
import typing as t
from pathlib import Path

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_credential as credential
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_diagnosis as diagnosis
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_host
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_server as vault
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_host import Host

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="the files belong to other users")


def state(
    sealed: bool, *, initialized: bool = True, kind: str = "shamir", migration: bool = False
) -> vault.Status:
    return vault.Status(initialized, sealed, 2, 3, 1 if sealed else 0, kind, "2.7.2", migration)


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[vault.Status]:
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
    monkeypatch.setattr(Host, "start", lambda _self, recreate=True: recreate)
    monkeypatch.setattr(diagnosis, "container_state", lambda _source: "Up 2 hours")
    monkeypatch.setattr(diagnosis, "full_disks", lambda _source: [])
    monkeypatch.setattr(vault_host, "DELIVERY", __file__)
    monkeypatch.setattr(vault_host, "LOCK", str(tmp_path / "run" / "vault.lock"))
    monkeypatch.setattr(vault, "login", lambda *_arguments: None)
    monkeypatch.setattr(vault, "ask", lambda *_arguments, **_more: {})
    return found


@pytest.fixture
def host(tmp_path: Path) -> t.Callable[[str], Host]:
    def make(unseal: str) -> Host:
        content = {"address": "127.0.0.1", "directory": str(tmp_path), "project_src": "/"}
        settings = tmp_path / "settings.json"
        settings.write_text(
            json.dumps(
                {**content, "unseal": unseal, "names": ["vault"], "uid": 100, "gid": 1000}
                | {"seal": "transit"}
            )
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


def test_keys_of_a_rekey_that_was_killed_in_force_take_over(
    host: Make, states: list[vault.Status], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys(monkeypatch, "old")
    monkeypatch.setattr(credential, "_read", lambda file: json.loads(Path(file).read_text()))
    monkeypatch.setattr(credential, "kind", lambda: "host")
    for path, content in ((credential.path, ["old"]), (credential.next_path, ["K1", "K2"])):
        Path(path(str(tmp_path))).write_text(json.dumps(content))
    states.append(state(sealed=True))
    vault_host.boot(host("sealed"), print)
    assert credential.candidates(str(tmp_path)) == [["K1", "K2"]]
    assert credential.promote(str(tmp_path)) is None


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
        ("auto", "transit", r"waits for its seal \(transit\) to answer; the stack starts after it"),
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


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("Exited (137) 2 minutes ago", "was in the state Exited (137) 2 minutes ago"),
        ("", "was gone"),
    ],
)
def test_a_server_that_was_stopped_or_deleted_is_started_and_unsealed(
    host: Make,
    states: list[vault.Status],
    monkeypatch: pytest.MonkeyPatch,
    before: str,
    said: str,
) -> None:
    keys(monkeypatch, "K1", "K2")
    started: list[bool] = []

    def start(_self: Host, recreate: bool = True) -> bool:
        started.append(recreate)
        return True

    monkeypatch.setattr(Host, "start", start)
    monkeypatch.setattr(diagnosis, "container_state", lambda _source: before)
    states.append(state(sealed=True))
    lines: list[str] = []
    vault_host.keep(host("sealed"), lines.append)
    assert started == [False]  # as it is: a new definition is for a run to bring in
    assert lines == [
        f"the container of Vault {said} and was started",
        "Vault had come back sealed and was unsealed",
    ]


def test_keys_in_hand_are_asked_for_as_long_as_vault_is_sealed(
    host: Make, states: list[vault.Status]
) -> None:
    states.append(state(sealed=True))
    lines: list[str] = []
    vault_host.keep(host("manual"), lines.append)
    assert lines[-1] == (
        "Vault is sealed and waits for 1 of 2 keys; what runs keeps running. Operators: run "
        "playbooks/unseal.yml"
    )


def test_the_host_does_not_move_vault_back_from_a_seal_by_itself(
    host: Make, states: list[vault.Status]
) -> None:
    states.append(state(sealed=True, migration=True))
    lines: list[str] = []
    vault_host.keep(host("sealed"), lines.append)
    assert "waits for 1 of 2 keys to be moved to another seal" in lines[-1]


@pytest.mark.usefixtures("states")
def test_a_server_whose_seal_is_away_is_waited_for(
    host: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_arguments: t.Any) -> vault.Status:
        if tries:
            raise vault.VaultError(tries.pop(), "it does not answer")
        return state(sealed=False)

    tries: list[vault.Reason] = ["down", "down"]
    monkeypatch.setattr(vault, "wait_for_answer", down)
    said: list[str] = []
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    vault_host.boot(host("auto"), said.append)
    assert said == [
        "Vault does not start and waits for its seal (transit) to answer; the stack starts after "
        "it. `docker compose logs vault` says what is wrong with the seal",
        "Vault is unsealed and works",
    ]
    tries.append("down")
    with pytest.raises(vault.VaultError, match=r"waits for its seal \(transit\).* keeps running"):
        vault_host.keep(host("auto"), said.append)


@pytest.mark.parametrize(
    ("refuses", "said"),
    [(True, "log in: Vault answers: internal error"), (False, "Vault works as yet")],
)
def test_a_full_disk_is_told_whether_the_server_refuses_everything_or_not_yet(
    host: Make,
    states: list[vault.Status],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    refuses: bool,
    said: str,
) -> None:
    def login(*_arguments: t.Any) -> None:
        if refuses:
            raise vault.VaultError("refused", said)

    made = host("sealed")
    states.append(state(sealed=False))
    monkeypatch.setattr(Host, "read", lambda: made)
    monkeypatch.setattr(vault, "login", login)
    monkeypatch.setattr(diagnosis, "full_disks", lambda _source: ["/srv/x/logs/vault"])
    assert vault_host.main(["keep"]) == 1
    assert f"{said}. The disk of /srv/x/logs/vault is full" in capsys.readouterr().out


@pytest.mark.usefixtures("states")
def test_only_one_at_a_time_starts_the_server(host: Make) -> None:
    said: list[str] = []
    with host("sealed").alone() as free:
        assert free
        vault_host.keep(host("sealed"), said.append)
    assert said == ["a run is setting up or restarting Vault, nothing was looked at"]


def test_what_a_seal_needed_is_removed_with_it(host: Make, tmp_path: Path) -> None:
    (tmp_path / "seal").mkdir()
    made = host("sealed")
    assert not made.forget_seal()
    without = dataclasses.replace(made, seal="")
    assert without.forget_seal(check=True)
    assert without.forget_seal()
    assert not without.forget_seal()


def test_a_seal_that_was_written_anew_restarts_the_server(
    host: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[tuple[str, ...]] = []

    def compose(_self: Host, *arguments: str) -> str:
        calls.append(arguments)
        return ""

    monkeypatch.setattr(Host, "compose", compose)
    (tmp_path / "seal").mkdir()
    (tmp_path / "seal" / "token").touch()
    written = (tmp_path / "seal" / "token").stat().st_mtime
    for started, option in ((0, ""), (written - 1, "--force-recreate"), (written + 1, "")):
        monkeypatch.setattr(diagnosis, "started_at", lambda _source, at=started: at)
        host("auto").start()
        host("auto").start(recreate=False)
        assert ("--force-recreate" in calls[-2]) is bool(option)
        assert "--force-recreate" not in calls[-1]
