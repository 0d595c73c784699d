"""Run programs: visible, logged, and with an error that says what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from vedfolnir_lab import paths

_START = time.monotonic()
_PRINTING = threading.Lock()
_HERE = threading.local()
TAIL_LINES = 40


class LabError(Exception):
    """Something the person at the keyboard can act on; the text says how."""


def say(text: str) -> None:
    """Print one line of progress with the seconds since the start."""
    line = f"[{time.monotonic() - _START:6.1f}s] {text}"
    with _PRINTING:
        print(line, file=_kept() or sys.stdout, flush=True)


def _kept() -> TextIO | None:
    """Return the file that takes what this thread says, if one does."""
    return getattr(_HERE, "kept", None)


@contextmanager
def shown_at_the_end() -> Iterator[None]:
    """Keep what this thread and the programs it runs print, and show it in one piece at the end.

    For work that goes on beside other work: lines of two test runs in turn are of no use.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as file:
        _HERE.kept = file
        try:
            yield
        finally:
            _HERE.kept = None
            file.seek(0)
            with _PRINTING:
                shutil.copyfileobj(file, sys.stdout)
                sys.stdout.flush()


@contextmanager
def step(text: str) -> Iterator[None]:
    """Say what begins and how long it took."""
    say(f"{text} …")
    start = time.monotonic()
    try:
        yield
    except BaseException:
        say(f"{text}: failed after {time.monotonic() - start:.1f}s")
        raise
    say(f"{text}: done in {time.monotonic() - start:.1f}s")


@contextmanager
def progress_on_stderr() -> Iterator[None]:
    """Send what this process and its children print to the error stream for a while."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of child processes: the virtual environment's programs come first."""
    return {
        **os.environ,
        "PATH": f"{paths.VENV_BIN}:{os.environ.get('PATH', '')}",
        "DOCKER_BUILDKIT": "0",
        **(extra or {}),
    }


def output(argv: Sequence[str], *, check: bool = True) -> str:
    """Return what a program prints; "" when it fails and `check` is false."""
    done = _captured(argv)
    if done.returncode != 0:
        if check:
            raise LabError(f"{' '.join(argv)} failed: {done.stderr.strip() or done.stdout.strip()}")
        return ""
    return done.stdout.strip()


def succeeds(argv: Sequence[str]) -> bool:
    """Say whether a program is there and ends with 0."""
    return _captured(argv).returncode == 0


def _captured(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(argv, capture_output=True, text=True, env=environment(), check=False)
    except FileNotFoundError as error:  # as a shell would say it
        return subprocess.CompletedProcess(argv, 127, "", str(error))


def logged(name: str, argv: Sequence[str], *, cwd: Path | None = None) -> None:
    """Run a long program with its output in a log file, whose end is shown when it fails."""
    log = paths.LOGS / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as stream:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=environment(),
            check=False,
        )
    if done.returncode != 0:
        tail = "\n".join(
            log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
        )
        raise LabError(f"{' '.join(argv)}\nfailed ({done.returncode}); the end of {log}:\n{tail}")


def visible(argv: Sequence[str], extra: Mapping[str, str] | None = None) -> int:
    """Run a program with its output on the terminal and return its exit code."""
    sys.stdout.flush()
    kept = _kept()
    return subprocess.run(
        argv,
        cwd=paths.ROOT,
        env=environment(extra),
        stdout=kept,
        stderr=subprocess.STDOUT if kept else None,
        check=False,
    ).returncode
