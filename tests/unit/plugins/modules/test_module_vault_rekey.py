from __future__ import annotations

import contextlib
import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_rekey as rekey
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_restore as restore
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_rotate
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_server as vault
from ansible_collections.vedfolnir.stack.plugins.modules import vault_rekey, vault_restore

KEYS = [f"{letter * 43}=" for letter in "ABC"]
OPERATOR = {"name": "alice", "passphrase": "long enough"}
Run = t.Callable[..., dict[str, t.Any]]


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "settings.json"
    content = {"address": "10.0.0.9", "directory": str(tmp_path), "project_src": str(tmp_path)}
    path.write_text(
        json.dumps({**content, "unseal": "sealed", "names": [], "uid": 100, "gid": 1000})
    )
    return path


@pytest.fixture
def call(
    tmp_path: Path, settings: Path, run_module: Run, monkeypatch: pytest.MonkeyPatch
) -> t.Callable[..., dict[str, t.Any]]:
    status = vault.Status(True, False, 2, 3, 0, "shamir", "2.7.2")
    monkeypatch.setattr(vault, "status", lambda _client: status)
    monkeypatch.setattr(vault, "connect", lambda *_arguments: None)
    monkeypatch.setattr(vault_rotate, "alone", contextlib.nullcontext)
    (tmp_path / "rotation.json").write_text(
        json.dumps(
            {
                "vault": "",
                "manifest": "",
                "metrics": "",
                "log": str(tmp_path / "rotation.log"),
                "policy": {},
                "project": {
                    "src": "",
                    "name": "",
                    "read_record": "",
                    "jobs_record": "",
                    "wait_seconds": 1,
                    "secrets_root": "",
                },
            }
        )
    )

    def run(step: str, *keys: str, check: bool = False, **more: t.Any) -> dict[str, t.Any]:
        return run_module(
            vault_rekey.main,
            check=check,
            step=step,
            settings=str(settings),
            rotation=str(tmp_path / "rotation.json"),
            keys="\n".join(keys),
            **{"shares": 5, "threshold": 3, "operators": [OPERATOR], "name": "lab", **more},
        )

    return run


def test_a_plan_says_what_would_be_and_judges_only_keys_that_were_given(
    call: Run, tmp_path: Path
) -> None:
    result = call("plan", check=True)
    assert result["required"] == 2
    assert result["lines"] == [
        "unseal keys: 2 of 3 are needed now, 3 of 5 afterwards",
        "the new ones go, encrypted, to alice; the old ones are refused afterwards",
        "this host's own keys are replaced by new ones",
    ]
    assert "lines" in call("plan", *KEYS)
    (tmp_path / "rekey.json").write_text('{"date": "D", "phase": "made"}')
    # Which keys are needed is not known before the server was asked.
    assert call("plan", KEYS[0])["lines"][0].startswith("the rekey of D was interrupted")


def test_problems_are_told_together(call: Run) -> None:
    result = call("plan", KEYS[0], KEYS[0], threshold=9, missing_files=["/away"])
    assert result["failed"]
    message = result["msg"]
    for text in ("Nothing was changed: /away is not there", "1 different keys", "is 9 of"):
        assert text in message


def test_what_was_done_is_written_down(
    call: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[t.Any] = []

    def begin(_host: t.Any, wish: rekey.Wish, keys: list[str]) -> rekey.Answer:
        given.append((wish.shares, keys))
        return rekey.Answer({"date": "NEW", "phase": "done"}, "OLD")

    monkeypatch.setattr(rekey, "begin", begin)
    result = call("begin", *KEYS[:2], KEYS[0], "A letter")
    assert given == [(5, KEYS[:2])]
    assert (result["date"], result["dropped"], result["files"]) == ("NEW", "OLD", [])
    steps = [
        json.loads(line)["step"] for line in (tmp_path / "rotation.log").read_text().splitlines()
    ]
    assert steps == [
        "drop the keys of OLD, which never counted",
        "make new keys NEW",
        "the keys of NEW are in force, the ones before are refused",
    ]
    assert call("begin", check=True)["files"] == []
    assert call("clean")["changed"]


def test_a_host_without_vault_says_so(call: Run, settings: Path) -> None:
    settings.unlink()
    assert call("begin", *KEYS)["msg"] == "There is no Vault on this host; run site.yml first."


def test_a_restore_says_what_is_wrong_before_it_begins(
    run_module: Run, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {
        "snapshot": "/away.snap",
        "data_directory": "/data",
        "bootstrap": {},
        "operators": ["alice"],
        "name": "lab",
        "settings": str(settings),
    }

    def run(keys: str, check: bool = False) -> dict[str, t.Any]:
        return run_module(vault_restore.main, check=check, keys=keys, **arguments)

    assert run("nothing")["msg"] == (
        "Nothing was changed: no key was given; /away.snap is not there"
    )
    assert run("nothing", check=True)["changed"]
    monkeypatch.setattr(restore, "problems", lambda *_arguments: [])
    monkeypatch.setattr(
        "ansible_collections.vedfolnir.stack.plugins.module_utils.vault_tls.Certificate.ensure",
        lambda _self: False,
    )
    monkeypatch.setattr(restore.Restore, "run", lambda _self: "/data-replaced")
    assert run(KEYS[0])["aside"] == "/data-replaced"

    def broken(_self: t.Any) -> t.NoReturn:
        raise vault.VaultError("sealed", "these keys do not open it")

    monkeypatch.setattr(restore.Restore, "run", broken)
    assert run(KEYS[0])["msg"] == (
        "What was there before is in place again: these keys do not open it"
    )
