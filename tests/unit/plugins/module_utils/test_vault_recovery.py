from __future__ import annotations

import shutil
import subprocess
import typing as t
from pathlib import Path

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_recovery as recovery

KEY = "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA="


def test_shares_are_dealt_in_turn() -> None:
    assert recovery.deal(["1", "2", "3"], ["a", "b"]) == {"a": ["1", "3"], "b": ["2"]}
    assert recovery.deal(["1"], ["a", "b"]) == {"a": ["1"], "b": []}


def test_the_keys_of_a_letter_are_found_again() -> None:
    letter = recovery.letter("host", "alice", [KEY, "ab" * 32], 2, "2026-01-01")
    assert recovery.keys_in(letter) == [KEY, "ab" * 32]
    assert recovery.keys_in("no key\n\n# nor here\n") == []


def test_an_operator_has_exactly_one_means() -> None:
    problem = "operator a: needs exactly one of age, pgp, passphrase"
    for means in ({}, {"age": "x", "pgp": "y"}, {"age": ""}):
        with pytest.raises(recovery.RecoveryError, match=problem):
            recovery.encrypt({"name": "a", **means}, "text")


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(recovery.RecoveryError, match="operator a: the program age is not install"):
        recovery.encrypt({"name": "a", "age": "age1x"}, "text")


@pytest.mark.skipif(not shutil.which("gpg"), reason="gpg is not installed")
def test_a_pgp_key_opens_what_is_encrypted_to_it(tmp_path: Path) -> None:
    def gpg(*arguments: str, data: bytes = b"") -> bytes:
        argv = ["gpg", "--homedir", str(tmp_path), "--batch", "--quiet", *arguments]
        return subprocess.run(argv, input=data, capture_output=True, check=True).stdout

    gpg("--passphrase", "", "--quick-gen-key", "alice@example.org", "future-default", "default")
    public = gpg("--armor", "--export", "alice@example.org").decode()
    written = recovery.encrypt({"name": "alice", "pgp": public}, "text")
    assert written.startswith(b"-----BEGIN PGP MESSAGE-----")
    assert gpg("--decrypt", data=written) == b"text"
    with pytest.raises(recovery.RecoveryError, match="operator bob: gpg cannot encrypt"):
        recovery.encrypt({"name": "bob", "pgp": "no key"}, "text")


@pytest.mark.skipif(not shutil.which("age"), reason="age is not installed")
def test_an_age_identity_opens_what_is_encrypted_to_it(tmp_path: Path) -> None:
    identity = tmp_path / "key"
    made = subprocess.run(
        ["age-keygen", "-o", identity], capture_output=True, text=True, check=True
    )
    recipient = made.stderr.rpartition(" ")[2].strip()
    written = recovery.encrypt({"name": "alice", "age": recipient}, "text")
    read: t.Any = subprocess.run(
        ["age", "--decrypt", "--identity", identity], input=written, capture_output=True, check=True
    )
    assert read.stdout == b"text"
    with pytest.raises(recovery.RecoveryError, match="operator bob: age cannot encrypt"):
        recovery.encrypt({"name": "bob", "age": "age1nonsense"}, "text")
