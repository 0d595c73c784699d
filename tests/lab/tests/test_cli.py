"""The command line as a person sees it: Ctrl-C, a second ./lab beside the first, the last words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from vedfolnir_lab import cli, engine, hosts, paths, usage
from vedfolnir_lab.shell import LabError

PACKAGE = Path(__file__).resolve().parents[1]
# ./lab in a place of its own, whose first step is what the test says.
PROGRAM = """
import pathlib, signal, sys
from vedfolnir_lab import cli, hosts, paths, shell, usage
# A shell lets what it starts in the background ignore the signal, also a test of its own.
signal.signal(signal.SIGINT, signal.default_int_handler)
paths.STATE = pathlib.Path(sys.argv[1])
paths.LOGS = paths.STATE / "log"
def start():
    with shell.step("A step"):
        shell.logged("step", sys.argv[2:])
hosts.start = start
sys.exit(cli.main(usage.parse(["up", "--bare"])))
"""


def lab(state: Path, *step: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    environment.pop(cli.HOLDER, None)
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(state), *step],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def wait_for_a_step(process: subprocess.Popen[str]) -> None:
    assert process.stdout
    assert "A step …" in process.stdout.readline()


def test_ctrl_c_in_a_long_step_ends_it_and_frees_the_lock(tmp_path: Path) -> None:
    first = lab(tmp_path, "sleep", "300")
    wait_for_a_step(first)
    second = lab(tmp_path, "true")
    said, _ = second.communicate(timeout=60)
    assert "Another ./lab command is at work in this checkout; wait for it." in said
    assert second.returncode == 1

    os.killpg(first.pid, signal.SIGINT)  # as a terminal does
    said, _ = first.communicate(timeout=60)
    assert "A step: failed after" in said
    last = said.splitlines()[-1]
    assert last.endswith("Interrupted. The same command continues where this one stopped.")
    assert first.returncode == 130

    third = lab(tmp_path, "true")
    said, _ = third.communicate(timeout=60)
    assert "A step: done" in said
    assert third.returncode == 0


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps of ./lab, which are only written down."""
    done: list[str] = []
    monkeypatch.setattr(paths, "STATE", tmp_path)
    monkeypatch.delenv(cli.HOLDER, raising=False)
    for module, name in ((hosts, "start"), (hosts, "converge"), (hosts, "remove_all")):
        monkeypatch.setattr(module, name, lambda *_args, name=name: done.append(name))
    return done


def run(*arguments: str) -> int:
    return cli.main(usage.parse(arguments))


def test_up_makes_a_host_deploys_and_tells_where_the_page_is(
    steps: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("up") == 0
    assert steps == ["start", "converge"]
    assert capsys.readouterr().out.endswith(f"{cli.UP_TEXT}\n")


def test_up_that_fails_does_not_say_that_the_lab_is_up(
    steps: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise LabError("no")

    monkeypatch.setattr(hosts, "converge", fail)
    assert run("up") == 1
    assert steps == ["start"]
    said = capsys.readouterr().out
    assert said.endswith("ERROR: no\n")
    assert "is up" not in said


def test_a_bare_host_gets_no_stack(steps: list[str]) -> None:
    assert run("up", "--bare") == 0
    assert steps == ["start"]


def test_a_part_of_the_tests_may_call_lab_while_its_parent_holds_the_lock(
    steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "COMMANDS", {"up": cli._up, "test": lambda _options: run("up")})
    assert run("test") == 0
    assert steps == ["start", "converge"]
    assert cli.HOLDER not in os.environ


def test_down_without_an_engine_says_that_nothing_was_removed(
    steps: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engine, "answers", lambda: False)
    assert run("down") == 0
    assert steps == []
    assert "No Docker engine answers" in capsys.readouterr().out
