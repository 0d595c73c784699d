from __future__ import annotations

import json
import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_credential as credential
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_server as vault
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_setup as setup

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="the files belong to root")

EMPTY = vault.Status(False, True, 0, 0, 0, "shamir", "2.7.2")
FULL = vault.Status(True, False, 2, 3, 0, "shamir", "2.7.2")


@pytest.mark.parametrize(
    ("status", "state", "needed"),
    [
        (EMPTY, None, True),
        (EMPTY, {"phase": "started"}, True),
        (FULL, {"phase": "unsealed"}, True),
        (FULL, {"phase": "done"}, False),
        (FULL, None, "left alone"),
        (EMPTY, {"phase": "done"}, "its data is gone"),
    ],
)
def test_what_is_set_up_and_what_is_never_touched(
    status: vault.Status, state: dict[str, str] | None, needed: bool | str
) -> None:
    if isinstance(needed, bool):
        assert setup.needed(status, state) is needed
        return
    with pytest.raises(vault.VaultError, match=needed):
        setup.needed(status, state)


def test_a_state_is_read_back_and_a_damaged_one_is_no_state(tmp_path: Path) -> None:
    assert setup.read_state(str(tmp_path)) is None
    setup.write_state(str(tmp_path), {"phase": "done"})
    assert setup.read_state(str(tmp_path)) == {"phase": "done"}
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o400
    (tmp_path / "state.json").write_text("[")
    with pytest.raises(vault.VaultError, match=r"state.json cannot be read"):
        setup.read_state(str(tmp_path))


class Api:
    """Answers as OpenBao 2.7.2 did, and keeps what was asked."""

    token: str | None = None

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None]] = []
        self.answers: dict[str, dict[str, t.Any]] = {
            "sys/init": {"keys_base64": ["K1", "K2", "K3"], "root_token": "ROOT"},
            "sys/seal-status": EMPTY._asdict() | {"t": 2, "n": 3},
            "sys/leader": {"is_self": True},
            "auth/approle/role/ansible/role-id": {"data": {"role_id": "R"}},
            "auth/approle/role/ansible/secret-id": {"data": {"secret_id": "S"}},
        }

    def ask(
        self, _client: t.Any, method: str, path: str, body: t.Any = None, what: str = ""
    ) -> dict[str, t.Any]:
        assert what
        self.asked.append((method, path, self.token))
        if path == "sys/unseal":
            self.answers["sys/seal-status"] = {"initialized": True, "sealed": body["key"] == "K1"}
        if path == "sys/init":
            self.answers["sys/seal-status"] = {"initialized": True, "sealed": True}
        return self.answers.get(path, {})


class Server:
    """Counts starts and stops."""

    calls: list[str]

    def __init__(self) -> None:
        self.calls = []

    def stop(self) -> None:
        self.calls.append("stop")

    def start(self) -> bool:
        self.calls.append("start")
        return True


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    result = Api()
    monkeypatch.setattr(vault, "ask", result.ask)
    monkeypatch.setattr(credential, "seal", lambda _directory, keys: "/".join(keys))
    return result


def plan(tmp_path: Path, unseal: setup.Unseal = "sealed") -> setup.Plan:
    (tmp_path / "data").mkdir(exist_ok=True)
    return setup.Plan(
        directory=str(tmp_path / "private"),
        data_directory=str(tmp_path / "data"),
        unseal=unseal,
        shares=3,
        threshold=2,
        operators=[{"name": name, "passphrase": "long enough"} for name in ("a", "b")],
        bootstrap={"mounts": {"kv": {}}, "login": {"name": "ansible", "settings": {}}},
        host="host",
    )


def test_a_set_up_hands_over_before_it_prepares_and_gives_the_root_token_up(
    tmp_path: Path, api: Api
) -> None:
    state = setup.set_up(t.cast("t.Any", api), Server(), plan(tmp_path))
    assert (state["phase"], state["sealed_with"]) == ("done", "K1/K2")
    names = [Path(path).name for path in setup.fetchable(str(tmp_path / "private"))]
    assert names == ["a.vault", "b.vault"]
    asked = [path for _method, path, _token in api.asked if path != "sys/seal-status"]
    assert asked[:4] == ["sys/init", "sys/unseal", "sys/unseal", "sys/leader"]
    assert api.asked[-1] == ("post", "auth/token/revoke-self", "ROOT")
    assert api.token is None
    credentials = json.loads((tmp_path / "private" / "approle.json").read_text())
    assert credentials == {"role_id": "R", "secret_id": "S"}
    texts = "".join(path.read_text() for path in (tmp_path / "private").rglob("*.*"))
    assert "ROOT" not in texts
    assert "K3" not in texts


def test_what_a_killed_one_has_left_is_thrown_away_first(tmp_path: Path, api: Api) -> None:
    wanted, server = plan(tmp_path), Server()
    (tmp_path / "private" / "recovery").mkdir(parents=True)
    (tmp_path / "private" / "recovery" / "old.age").write_text("old")
    (tmp_path / "data" / "raft").mkdir()
    (tmp_path / "data" / "vault.db").write_text("old")
    setup.write_state(str(tmp_path / "private"), {"phase": "initialised"})
    setup.set_up(t.cast("t.Any", api), server, wanted)
    assert server.calls == ["stop", "start"]
    assert list((tmp_path / "data").iterdir()) == []
    assert not (tmp_path / "private" / "recovery" / "old.age").exists()


def test_a_seal_from_outside_gives_recovery_keys(tmp_path: Path, api: Api) -> None:
    api.answers["sys/init"] = {"recovery_keys_base64": ["R1", "R2"], "root_token": "ROOT"}
    state = setup.set_up(t.cast("t.Any", api), Server(), plan(tmp_path, "auto"))
    assert state["phase"] == "done"
    assert "sealed_with" not in state
    assert "sys/unseal" not in [path for _method, path, _token in api.asked]
    assert len(setup.fetchable(str(tmp_path / "private"))) == 2


@pytest.mark.parametrize(
    ("recorded", "wanted", "moves"),
    [
        ("sealed", "auto", True),
        ("manual", "auto", True),
        ("auto", "sealed", True),
        ("auto", "auto", False),
        ("sealed", "manual", False),
    ],
)
def test_a_move_to_another_seal_needs_both_and_is_recorded(
    tmp_path: Path, recorded: str, wanted: t.Any, moves: bool
) -> None:
    state = {"phase": setup.DONE, "unseal": recorded, "sealed_with": "host"}
    setup.write_state(str(tmp_path), state)
    assert setup.moves(wanted, state) is moves
    setup.require_seal(wanted, "transit", state)
    if moves and wanted != "auto":
        with pytest.raises(vault.VaultError, match=r"put vault_seal .* back until that is"):
            setup.require_seal(wanted, "", state)
    kinds = ("shamir", "transit")
    works = FULL._replace(kind=kinds[wanted == "auto"])
    for not_yet in (works._replace(sealed=True), FULL._replace(kind=kinds[wanted != "auto"])):
        assert not setup.note_unseal(str(tmp_path), wanted, not_yet)
        assert setup.read_state(str(tmp_path)) == state
    assert setup.note_unseal(str(tmp_path), wanted, works) is moves
    assert not setup.note_unseal(str(tmp_path), wanted, works)
    kept = {"sealed_with": "host"} if wanted == "sealed" or recorded == wanted else {}
    assert setup.read_state(str(tmp_path)) == {"phase": setup.DONE, "unseal": wanted, **kept}


@pytest.mark.parametrize("state", [None, {"phase": "started", "unseal": "auto"}])
def test_what_is_not_set_up_does_not_move(tmp_path: Path, state: t.Any) -> None:
    if state:
        setup.write_state(str(tmp_path), state)
    setup.require_seal("sealed", "", state)
    assert not setup.note_unseal(str(tmp_path), "sealed", FULL)
    assert setup.read_state(str(tmp_path)) == state
