"""Vault gets new keys, and whenever that is killed one set of keys opens it."""

from __future__ import annotations

import json
import pathlib
import shlex
import typing as t

import pytest
import vaulted
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_recovery as recovery
from lab import ROOT, Lab

CODE = "/var/tmp/rekey-test"
UTILS = "ansible_collections/vedfolnir/stack/plugins/module_utils"
CREDENTIAL = "/etc/vedfolnir/vault/unseal.cred"
SETTINGS = "/etc/vedfolnir/vault/settings.json"
BEFORE = (
    "root token made",
    "begun",
    "new keys made",
    "made",
    "encrypted to the operators",
    "sealed in /run",
    "sealed to the host",
    "handed over",
)
"""Moments of ``begin``; the old keys are in force after each."""
AFTER = ("in force", "shown", "host's keys replaced", "state written", "done")
"""Moments of ``finish``; the new keys are."""
Status = t.Callable[[], str]


class Keys:
    """The keys in force, and how a step of a rekey is taken on the host."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        lab.run(f"mkdir -p {CODE}/{UTILS}")
        for name in ("vault_root", "vault_rekey"):
            source = ROOT / "plugins" / "module_utils" / f"{name}.py"
            lab.run(f"cat > {CODE}/{UTILS}/{name}.py", stdin=source.read_text(encoding="utf-8"))
        hook = pathlib.Path(__file__).with_name("rekeyed.py")
        lab.run(f"cat > {CODE}/rekeyed.py", stdin=hook.read_text(encoding="utf-8"))

    @property
    def now(self) -> list[str]:
        return recovery.keys_in(vaulted.letter(self.lab).decode())

    def step(self, step: str, keys: t.Sequence[str] = (), **more: t.Any) -> dict[str, t.Any]:
        """Take a step; one that was killed says so."""
        operators = self.lab.variables["vault_operators"]
        stdin = json.dumps({"step": step, "keys": keys, "operators": operators, **more})
        path = f"PYTHONPATH={CODE}:/usr/local/lib/vedfolnir/python"
        done = self.lab.ssh(f"{path} python3 {CODE}/rekeyed.py; exit $?", stdin=stdin)
        if done.returncode == 137:
            return {"killed": True}
        assert done.returncode == 0, done.stdout + done.stderr
        return dict(json.loads(done.stdout.rpartition("RESULT ")[2]))

    def accepted(self, *sets: t.Sequence[str]) -> list[bool]:
        return list(self.step("prove", sets=sets)["accepted"])

    def restart(self) -> bool:
        """Restart Vault as a crash does; return whether the host opens it by itself."""
        result = self.step("restart")
        assert result["before"], "it did not come back sealed"
        return bool(result["open"])

    def fetch(self, made: t.Mapping[str, t.Any]) -> list[str]:
        """Fetch the operator's file as the playbook does; return its keys."""
        (path,) = made["files"]
        directory = self.directory / made["date"]
        directory.mkdir(exist_ok=True)
        (directory / pathlib.Path(path).name).write_text(self.lab.run(f"cat {shlex.quote(path)}"))
        return self.now

    @property
    def directory(self) -> pathlib.Path:
        return pathlib.Path(self.lab.variables["lab_keys"]) / self.lab.name


@pytest.fixture(scope="module")
def keys(lab: Lab) -> t.Iterator[Keys]:
    # It comes every five minutes, and might do what a test wants to see done.
    lab.run("systemctl stop vedfolnir-vault-keep.timer")
    yield Keys(lab)
    lab.run(f"systemctl start vedfolnir-vault-keep.timer; rm -rf {CODE}")


@pytest.fixture
def quorum(keys: Keys, tmp_path: pathlib.Path) -> pathlib.Path:
    """The keys in force as operators have them."""
    path = tmp_path / "quorum.txt"
    path.write_bytes(vaulted.letter(keys.lab))
    return path


def rekey(lab: Lab, *files: pathlib.Path, **variables: t.Any) -> t.Any:
    names = ",".join(map(str, files))
    return lab.playbook(
        "playbooks/rekey.yml",
        *variables.pop("arguments", ("-vvv",)),
        variables={"rekey_keys_files": names, **variables},
    )


def kept(lab: Lab) -> dict[str, str]:
    """Return what the host keeps of Vault, but for locks, which are empty."""
    files = lab.files("/etc/vedfolnir", "/run/vedfolnir")
    return {path: what for path, what in files.items() if not path.endswith(".lock")}


def leaks(lab: Lab, values: list[str], output: str) -> list[str]:
    """Return where one of the keys is to be seen: output, journal, files."""
    found = ["output"] if any(value in output for value in values) else []
    lines = "\n".join(values)
    count = "journalctl --no-pager -o cat | grep -cF -f /run/keys.txt"
    journal = lab.ssh(f"cat > /run/keys.txt; {count}; rm /run/keys.txt", stdin=lines)
    found += ["journal"] if journal.stdout.strip() != "0" else []
    places = "/etc /srv/vedfolnir /var/log /var/lib/systemd /root /run /tmp"
    return found + lab.ssh(f"grep -rlaF -f - {places} 2>/dev/null", stdin=lines).stdout.split()


def test_a_check_shows_the_plan_and_changes_nothing(
    lab: Lab, keys: Keys, quorum: pathlib.Path
) -> None:
    before = kept(lab)
    run = rekey(lab, quorum, arguments=["--check"]).check()
    assert "are needed now, 2 of 3 afterwards" in run.output
    assert "this host's own keys are replaced by new ones" in run.output
    assert kept(lab) == before
    assert keys.accepted(keys.now) == [True]


def test_all_that_stands_against_it_is_said_at_once_and_nothing_changes(
    lab: Lab, keys: Keys, tmp_path: pathlib.Path
) -> None:
    one = tmp_path / "one.txt"
    one.write_text(f"Not a key\n{keys.now[0]}\n{keys.now[0]}\n")
    before = kept(lab)
    operators = [{"name": "eve", "pgp": "nonsense"}, {"name": "lab", "passphrase": "x" * 20}]
    run = rekey(lab, one, tmp_path / "away.txt", vault_key_threshold=4, vault_operators=operators)
    assert run.status != 0
    for problem in (
        "away.txt is not there",
        "1 different keys were given, but 2 of ",
        "vault_key_threshold is 4 of vault_key_shares 3",
        "operator eve: ",
    ):
        assert problem in run.output, run.output[-3000:]
    # Well-formed keys of another Vault: only the server can tell.
    one.write_text("\n".join(key[:10] + key[9::-1] + key[20:] for key in keys.now))
    run = rekey(lab, one)
    assert run.status != 0
    assert "Vault does not accept these keys" in run.output, run.output[-3000:]
    assert kept(lab) == before
    assert keys.accepted(keys.now) == [True]


def test_new_keys_replace_the_old_and_are_nowhere_to_be_seen(
    healthy: Lab, keys: Keys, quorum: pathlib.Path
) -> None:
    lab, old = healthy, keys.now
    start = int(lab.run("date +%s"))
    run = rekey(lab, quorum, vault_key_shares=4).check()
    new = keys.now
    assert len(new) == 4
    assert not set(old) & set(new)
    assert not list(keys.directory.glob("*/NOT-IN-FORCE"))
    assert keys.accepted(old, new[1:3]) == [False, True]
    assert leaks(lab, old + new, run.output) == []
    assert lab.ssh("ls /etc/vedfolnir/vault/rekey* /run/vedfolnir/rekey").stdout == ""
    # The host opens it with its own new keys.
    assert keys.restart()
    log = lab.run("tail -n 2 /srv/vedfolnir/logs/rotation.log").splitlines()
    assert [json.loads(line)["secret"] for line in log] == ["keys of Vault"] * 2
    assert "are in force" in json.loads(log[1])["step"]
    # No root token of this run is left.
    tokens = keys.step("tokens", new)["tokens"]
    roots = [token for token in tokens if "root" in token["policies"]]
    assert [token for token in roots if token["creation_time"] >= start] == []


def test_killed_before_the_new_keys_count_the_old_ones_do(keys: Keys) -> None:
    old = keys.now
    for point in BEFORE:
        assert keys.step("begin", old, kill=point) == {"killed": True}, point
        assert keys.restart(), point
    # The old keys still make new ones, and what was left behind does not count.
    made = keys.step("begin", old)
    assert made["phase"] == "handed over"
    new = keys.fetch(made)
    assert keys.accepted(old, new) == [True, False]
    assert keys.step("finish", old)["phase"] == "done"
    assert keys.accepted(old, new) == [False, True]
    keys.step("clean")
    assert keys.restart()


def test_killed_when_the_new_keys_count_the_next_run_ends_it(healthy: Lab, keys: Keys) -> None:
    for point in AFTER:
        old = keys.now
        made = keys.step("begin", old)
        new = keys.fetch(made)
        assert keys.step("finish", old, kill=point) == {"killed": True}, point
        assert keys.restart(), point
        # With the old keys still in hand, as somebody who does not know how far it came.
        again = keys.step("begin", old)
        found = (again["phase"], again["date"], again["dropped"], len(again["files"]))
        assert found == ("done", made["date"], "", 1), point
        keys.step("clean")
        assert keys.accepted(old, new) == [False, True], point
    assert healthy.ssh(f"test -e {CREDENTIAL}.next").returncode == 1
    assert keys.restart()


def test_a_server_that_restarts_in_the_middle_keeps_the_old_keys(
    healthy: Lab, keys: Keys, quorum: pathlib.Path
) -> None:
    lab, old = healthy, keys.now
    made = keys.step("begin", old)
    keys.fetch(made)
    assert keys.restart()
    assert "error" in keys.step("finish", old)
    assert keys.accepted(old) == [True]
    run = rekey(lab, quorum).check()
    # The keys that never counted are removed, so that nobody keeps them.
    assert not (keys.directory / made["date"]).exists()
    assert [key for key in keys.now if key in run.output] == []
    assert keys.accepted(old, keys.now) == [False, True]


def test_with_keys_in_hand_the_host_gets_none(
    lab: Lab, vault: Status, keys: Keys, quorum: pathlib.Path
) -> None:
    old = quorum.read_text()
    settings = lab.run(f"cat {SETTINGS}")
    manual = json.dumps({**json.loads(settings), "unseal": "manual"})
    lab.run(f"cat > {SETTINGS}", stdin=manual)
    lab.run(f"rm {CREDENTIAL}")
    try:
        rekey(lab, quorum).check()
        assert lab.ssh(f"ls {CREDENTIAL}*").stdout == ""
        assert not keys.restart()
        unseal = {"unseal_keys_files": str(quorum)}
        assert lab.playbook("playbooks/unseal.yml", variables=unseal).status != 0
        assert vault() == "sealed"
        quorum.write_bytes(vaulted.letter(lab))
        assert quorum.read_text() != old
        lab.run(f"cat > {SETTINGS}", stdin=settings)
        lab.playbook("playbooks/unseal.yml", variables=unseal).check()
        assert vault() == "open"
    finally:
        lab.run(f"cat > {SETTINGS}", stdin=settings)
    assert keys.restart()
