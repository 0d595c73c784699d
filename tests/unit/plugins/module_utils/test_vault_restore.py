from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tarfile
import typing as t
from pathlib import Path

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_credential as credential
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_restore as restore
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_root
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_server as vault
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_setup as setup
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_host import Host

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="the files belong to root")

KEYS = ["old1", "old2"]
LOGIN = "auth/approle/role/ansible"


def snapshot(path: Path, *, damaged: bool = False, members: bool = True) -> Path:
    """Write an archive as OpenBao's snapshots are."""
    files = {"meta.json": b"{}", "state.bin": b"state"} if members else {}
    sums = "".join(f"{hashlib.sha256(text).hexdigest()}  {name}\n" for name, text in files.items())
    if damaged:
        files["state.bin"] = b"other"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in {**files, "SHA256SUMS": sums.encode()}.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    return path


@pytest.mark.parametrize("how", ["damaged", "empty", "text", "cut", "away"])
def test_what_is_no_whole_snapshot_is_refused(tmp_path: Path, how: str) -> None:
    path = tmp_path / "vault.snap"
    if how != "away":
        snapshot(path, damaged=how == "damaged", members=how != "empty")
    if how == "text":
        path.write_text("no archive")
    if how == "cut":
        path.write_bytes(path.read_bytes()[:60])
    message = "is not there" if how == "away" else "is no snapshot of Vault, or is damaged"
    assert restore.problems(str(path), []) == ["no key was given", f"{path} {message}"]


def test_a_whole_one_is_not(tmp_path: Path) -> None:
    assert restore.problems(str(snapshot(tmp_path / "vault.snap")), KEYS) == []


class Server:
    """A Vault whose data is a file, as far as a restore sees it."""

    token: str | None = None
    sys: t.Any

    def __init__(self, data: Path) -> None:
        self.data, self.sys = data, self
        self.sealed = True
        self.asked: list[str] = []

    @property
    def content(self) -> str:
        return (self.data / "vault.db").read_text() if (self.data / "vault.db").exists() else ""

    def status(self, *_arguments: t.Any) -> vault.Status:
        return vault.Status(bool(self.content), self.sealed, 2, 3, 0, "shamir", "2.7.2")

    def unseal(self, _client: t.Any, keys: t.Sequence[str]) -> vault.Status:
        if (
            list(keys)
            != {"empty": ["temporary"], "snapshot": KEYS, "present": ["p1"]}[self.content]
        ):
            raise vault.VaultError("refused", "wrong")
        self.sealed = False
        return self.status()

    def force_restore_raft_snapshot(self, content: bytes) -> None:
        assert content
        assert self.token == "temporary root"
        (self.data / "vault.db").write_text("snapshot")

    def ask(
        self, _client: t.Any, method: str, path: str, *_body: t.Any, **_what: str
    ) -> dict[str, t.Any]:
        self.asked.append(f"{method} {path}")
        if path == "sys/init":
            (self.data / "vault.db").write_text("empty")
            return {"keys_base64": ["temporary"], "root_token": "temporary root"}
        if path == f"{LOGIN}/secret-id" and method == "list":
            return {"data": {"keys": ["accessor of the host that was"]}}
        answers = {f"{LOGIN}/role-id": {"role_id": "R"}, f"{LOGIN}/secret-id": {"secret_id": "S"}}
        return {"data": answers.get(path, {})}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    data, own = tmp_path / "data", tmp_path / "own"
    data.mkdir()
    own.mkdir()
    (data / "vault.db").write_text("present")
    setup.write_state(str(own), {"phase": "done", "host": "present"})
    (own / "approle.json").write_text("present")
    result = Server(data)

    def start(_self: Host) -> bool:
        result.sealed = True
        return True

    monkeypatch.setattr(Host, "start", start)
    monkeypatch.setattr(Host, "stop", lambda _self: None)
    monkeypatch.setattr(Host, "connect", lambda _self: result)
    for name in ("status", "ask", "unseal"):
        monkeypatch.setattr(vault, name, getattr(result, name))
    monkeypatch.setattr(vault, "wait_for_answer", result.status)
    for name in ("wait_until_active", "login"):
        monkeypatch.setattr(vault, name, lambda *_arguments: None)
    monkeypatch.setattr(vault_root, "root", lambda _host, _keys: contextlib.nullcontext(result))
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    monkeypatch.setattr(credential, "_read", lambda file: json.loads(Path(file).read_text()))

    def seal(target: str, keys: t.Sequence[str]) -> str:
        Path(target).write_text(json.dumps(list(keys)))
        return "host"

    monkeypatch.setattr(credential, "_seal", seal)
    return result


def work(tmp_path: Path, keys: t.Sequence[str] = tuple(KEYS)) -> restore.Restore:
    own = str(tmp_path / "own")
    host = Host("127.0.0.1", own, "/", "sealed", [], 0, 0)
    login = {"name": "ansible", "settings": {}}
    plan = setup.Plan(
        own, str(tmp_path / "data"), "sealed", 0, 0, [{"name": "a"}], {"login": login}, "lab"
    )
    path = str(snapshot(tmp_path / "vault.snap"))
    return restore.Restore(host, plan, path, keys, lambda _text: None)


def present(tmp_path: Path) -> tuple[str, str, str]:
    own = tmp_path / "own"
    state = setup.read_state(str(own)) or {}
    login = (own / "approle.json").read_text()
    return (tmp_path / "data" / "vault.db").read_text(), state["host"], login


def test_a_snapshot_takes_the_place_and_what_was_there_is_kept(
    tmp_path: Path, server: Server
) -> None:
    aside = Path(work(tmp_path).run())
    assert (aside / "vault.db").read_text() == "present"
    content, host, login = present(tmp_path)
    assert (content, host, json.loads(login)["secret_id"]) == ("snapshot", "lab", "S")
    assert credential.unsealed(str(tmp_path / "own")) == KEYS
    assert f"post {LOGIN}/secret-id-accessor/destroy" in server.asked
    (kept,) = (tmp_path / "own").glob("replaced-*")
    assert (kept / "approle.json").read_text() == "present"
    assert not (tmp_path / "own" / "restore.json").exists()


@pytest.mark.parametrize(
    ("keys", "message"),
    [(["old1"], "takes 2 of 3"), (["old1", "else"], "takes the keys of the day")],
)
def test_with_wrong_keys_everything_is_as_before(
    tmp_path: Path, server: Server, keys: list[str], message: str
) -> None:
    before = present(tmp_path)
    with pytest.raises(vault.VaultError, match=message):
        work(tmp_path, keys).run()
    assert present(tmp_path) == before
    assert list(tmp_path.glob("data-replaced*")) == []
    assert server.content == "present"


@pytest.mark.parametrize("where", ["_take_in", "_make_login", "write_file", "chown"])
def test_what_was_killed_is_put_back_before_the_next_begins(
    tmp_path: Path, server: Server, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_arguments: t.Any) -> t.NoReturn:
        raise Killed

    with monkeypatch.context() as patch:
        place = {"write_file": setup, "chown": os}.get(where, restore)
        patch.setattr(place, where, kill)
        patch.setattr(restore.Restore, "_put_back", lambda _self: None)
        with pytest.raises(Killed):
            work(tmp_path).run()
    said: list[str] = []
    again = work(tmp_path)
    aside = Path(restore.Restore(again.host, again.plan, again.snapshot, KEYS, said.append).run())
    # Nothing had been moved yet where the record was not written.
    assert (said[0] == "put back what an interrupted restore has put aside") == (
        where != "write_file"
    )
    assert (aside / "vault.db").read_text() == "present"
    assert server.content == "snapshot"
