from __future__ import annotations

import base64
import contextlib
import json
import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_credential as credential
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_rekey as rekey
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_root
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_server as vault
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_setup as setup
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_host import Host

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="the files belong to root")

TOKEN = "s.FirstRootTokenOfTheTest1"
OTP = "abcdefghijklmnopqrstuvwxyz"
WISH = rekey.Wish(3, 2, [{"name": "alice", "passphrase": "long enough"}], "lab")
OLD = ["old1", "old2", "old3"]


class Server:
    """Makes root tokens and new keys as OpenBao 2.7.2 was seen to; two keys are a quorum."""

    token: str | None = None

    def __init__(self, base: str = "sys/rotate/root") -> None:
        self.keys, self.new, self.base = list(OLD), list[str](), base
        self.tokens, self.given = set[str](), list[str]()
        self.asked: list[str] = []
        self.rounds = 0
        self.closed = False

    def status(self, _client: t.Any) -> vault.Status:
        return vault.Status(True, False, 2, 3, 0, "shamir", "2.7.2")

    def connect(self, *_arguments: t.Any) -> t.Any:
        return self

    def ask(
        self, _client: t.Any, method: str, path: str, body: t.Any = None, what: str = ""
    ) -> dict[str, t.Any]:
        assert what
        self.asked.append(f"{method} {path}")
        if path.startswith("sys/generate-root"):
            return self._root(method, path, body)
        if self.token not in self.tokens:
            raise vault.VaultError("forbidden", what)
        if path == "auth/token/create":
            self.tokens.add("short")
            return {"auth": {"client_token": "short"}}
        if path == "auth/token/revoke-self":
            self.tokens.discard(str(self.token))
            return {}
        if not path.startswith(f"{self.base}/"):
            raise vault.VaultError("missing", what)
        return {"data": self._rekey(method, path.rpartition("/")[2], body)}

    def _root(self, method: str, path: str, body: t.Any) -> dict[str, t.Any]:
        if self.closed and method == "put":
            raise vault.VaultError("refused", "Vault answers: unsupported operation")
        if path.endswith("attempt"):
            self.given = []
            return {"nonce": "n", "otp": OTP}
        if not self._count(body["key"], self.keys):
            return {"required": 2, "complete": False}
        self.tokens.add(TOKEN)
        veiled = bytes(a ^ b for a, b in zip(TOKEN.encode(), OTP.encode(), strict=True))
        return {"complete": True, "encoded_token": base64.b64encode(veiled).decode().rstrip("=")}

    def _count(self, key: str, right: list[str]) -> bool:
        self.given.append(key)
        if len(self.given) < 2:
            return False
        given, self.given = self.given, []
        if not set(given) <= set(right):
            raise vault.VaultError("refused", "cipher: message authentication failed")
        return True

    def _rekey(self, method: str, what: str, body: t.Any) -> dict[str, t.Any]:
        if what == "init" and method == "get":
            return {"started": bool(self.new), "nonce": "n"}
        if what == "init":
            self.new, self.given = [], []
            return {"nonce": "n"} if method == "put" else {}
        if what == "update":
            if not self._count(body["key"], self.keys):
                return {"complete": False}
            self.rounds += 1
            self.new = [f"new{self.rounds}-{number}" for number in range(3)]
            return {"complete": True, "keys_base64": self.new, "verification_nonce": "v"}
        if not self.new:
            raise vault.VaultError("refused", "no rotation in progress")
        if not self._count(body["key"], self.new):
            return {"complete": False}
        self.keys, self.new = self.new, []
        return {"complete": True}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Server:
    result = Server()
    for name in ("status", "connect", "ask"):
        monkeypatch.setattr(vault, name, getattr(result, name))
    monkeypatch.setattr(vault_root, "_pid", lambda _host: 1)
    monkeypatch.setattr(vault_root, "_inside", lambda _pid: contextlib.nullcontext())
    monkeypatch.setattr(rekey, "RUNTIME", str(tmp_path / "run"))

    def seal(target: str, keys: t.Sequence[str]) -> str:
        Path(target).write_text(json.dumps(list(keys)))
        return "host"

    monkeypatch.setattr(credential, "_seal", seal)
    monkeypatch.setattr(credential, "_read", lambda file: json.loads(Path(file).read_text()))
    monkeypatch.setattr(credential, "kind", lambda: "host")
    return result


@pytest.fixture
def host(tmp_path: Path, server: Server) -> Host:
    directory = tmp_path / "vault"
    directory.mkdir()
    setup.write_state(str(directory), {"phase": "done", "shares": 5})
    credential.seal(str(directory), server.keys[:2])
    return Host("127.0.0.1", str(directory), "/", "sealed", [], 0, 0)


def own(host: Host) -> list[str]:
    return credential.unsealed(host.directory)


def test_a_root_token_is_short_and_gone_afterwards(server: Server, host: Host) -> None:
    with vault_root.root(host, OLD[1:]) as client:
        assert client.token == "short"
        assert server.tokens == {"short"}
    assert server.tokens == set()
    with pytest.raises(KeyError), vault_root.root(host, OLD):
        raise KeyError
    assert (server.tokens, server.token) == (set(), None)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["old1"], "1 different keys were given, but 2 are needed"),
        (["old1", "new1"], "Vault does not accept these keys"),
    ],
)
def test_what_is_no_quorum_makes_no_token(
    server: Server, host: Host, keys: list[str], message: str
) -> None:
    with pytest.raises(vault.VaultError, match=message), vault_root.root(host, keys):
        pass
    assert server.tokens == set()
    # The attempt is given up, so that the next one begins at zero.
    assert server.asked[-1] == "delete sys/generate-root/attempt"
    assert not vault_root.prove(host, keys)


def test_a_server_that_makes_no_root_tokens_is_told_from_wrong_keys(
    server: Server, host: Host
) -> None:
    server.closed = True
    with pytest.raises(vault.VaultError, match=r"not even on its inner listener; run site.yml"):
        vault_root.prove(host, OLD)


@pytest.mark.parametrize("base", ["sys/rotate/root", "sys/rekey"])
def test_the_new_keys_count_when_they_were_shown(server: Server, host: Host, base: str) -> None:
    server.base = base
    made = rekey.begin(host, WISH, OLD)
    assert (made.record["phase"], made.dropped) == ("handed over", "")
    assert [Path(path).name for path in rekey.letters(host.directory)] == ["alice.vault"]
    assert (own(host), server.keys) == (OLD[:2], OLD)
    text = Path(rekey.record_path(host.directory)).read_text()
    assert "new1" not in text
    done = rekey.finish(host, OLD)
    assert done["phase"] == "done"
    assert server.keys == ["new1-0", "new1-1", "new1-2"]
    assert own(host) == server.keys[:2]
    state = setup.read_state(host.directory) or {}
    assert (state["phase"], state["shares"], state["operators"]) == ("done", 3, ["alice"])
    # Called again it says the same, and removes nothing before it is told to.
    assert rekey.finish(host, OLD)["phase"] == "done"
    assert rekey.begin(host, WISH, OLD).record["date"] == done["date"]
    assert rekey.letters(host.directory)
    rekey.clean(host)
    assert rekey.letters(host.directory) == []
    assert rekey.read_record(host.directory) is None
    assert server.tokens == set()


def test_what_never_counted_is_dropped(server: Server, host: Host) -> None:
    first = rekey.begin(host, WISH, OLD).record
    server.new = []  # the server was restarted
    with pytest.raises(vault.VaultError, match="no rotation in progress"):
        rekey.finish(host, OLD)
    with pytest.raises(vault.VaultError, match="this rekey is not done"):
        rekey.clean(host)
    again = rekey.begin(host, WISH, OLD)
    assert again.dropped == first["date"]
    rekey.finish(host, OLD)
    assert server.keys[0] == "new2-0"


@pytest.mark.parametrize("runtime", [True, False])
def test_one_that_was_killed_in_force_is_ended_with_old_keys_or_with_new(
    server: Server, host: Host, runtime: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rekey.begin(host, WISH, OLD)
    with monkeypatch.context() as patch:
        patch.setattr(rekey, "_commit", lambda *_arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            rekey.finish(host, OLD)
    keys = OLD
    if not runtime:  # rebooted, with the keys in operators' hands
        Path(rekey.RUNTIME, "unseal.cred").unlink()
        Path(credential.next_path(host.directory)).unlink()
        with pytest.raises(vault.VaultError, match=r"A rekey of .* was interrupted"):
            rekey.begin(host, WISH, OLD)
        keys = server.keys
    assert rekey.begin(host, WISH, keys).record["phase"] == "done"
    assert not Path(rekey.RUNTIME).exists()


def test_with_keys_in_hand_none_are_sealed_to_the_host(server: Server, tmp_path: Path) -> None:
    manual = Host("127.0.0.1", str(tmp_path), "/", "manual", [], 0, 0)
    rekey.begin(manual, WISH, OLD)
    rekey.finish(manual, OLD)
    assert server.keys[0] == "new1-0"
    assert list(tmp_path.glob("unseal*")) == []


@pytest.mark.parametrize("base", ["sys/rotate/recovery", "sys/rekey-recovery-key"])
def test_where_a_seal_unseals_the_recovery_keys_are_new(
    server: Server, tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.base = base
    status = server.status(None)._replace(kind="transit")
    monkeypatch.setattr(vault, "status", lambda _client: status)
    auto = Host("127.0.0.1", str(tmp_path), "/", "auto", [], 0, 0)
    rekey.begin(auto, WISH, OLD)
    assert rekey.finish(auto, OLD)["phase"] == "done"
    assert server.keys[0] == "new1-0"
    assert list(tmp_path.glob("unseal*")) == []


def test_all_problems_are_told_at_once() -> None:
    wish = rekey.Wish(3, 4, [{"name": "eve", "pgp": "x", "age": "y"}, {"name": "bob"}], "lab")
    status = vault.Status(True, False, 2, 3, 0, "shamir", "2.7.2")
    found = "\n".join(rekey.problems(wish, ["one", "one"], status))
    for problem in ("1 different keys", "vault_key_threshold is 4", "operator eve", "operator bob"):
        assert problem in found
    assert rekey.problems(WISH, None, status) == []
    assert rekey.problems(WISH, OLD, status._replace(sealed=True)) == [
        "Vault is sealed; run playbooks/unseal.yml first"
    ]
    empty = rekey.Wish(1, 1, [], "lab")
    assert rekey.problems(empty, OLD, status._replace(initialized=False)) == [
        "Vault was not set up yet; run site.yml first",
        "vault_operators is empty, so nobody would get the new keys",
    ]


def test_a_server_without_any_of_it_says_so(server: Server, host: Host) -> None:
    server.base = "sys/other"
    with pytest.raises(vault.VaultError, match="does not offer to make new keys"):
        rekey.begin(host, WISH, OLD)
