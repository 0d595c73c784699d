"""The commands of ./lab."""

from __future__ import annotations

import argparse
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vedfolnir_lab import engine, hosts, images, parts, paths
from vedfolnir_lab.shell import LabError, progress_on_stderr, say, visible

UP_TEXT = """\
The lab is up.
  page         https://127.0.0.1:8443 (the lab's own certificate authority)
  a shell      ./lab ssh
  containers   ./lab ssh 'cd /srv/vedfolnir && docker compose ps'
  logs         ./lab ssh journalctl -f
  all gone     ./lab down"""


HOLDER = "VEDFOLNIR_LAB_HOLDER"
"""Tells a ./lab that a part of the tests runs that its parent holds the lock already."""


def main(options: argparse.Namespace) -> int:
    """Run one command and return the exit code."""
    try:
        if options.command == "ssh":
            hosts.ssh(options.argv)
        with _only_one():
            return COMMANDS[options.command](options)
    except LabError as error:
        say(f"ERROR: {error}")
        return 1
    except KeyboardInterrupt:
        say("Interrupted. The same command continues where this one stopped.")
        return 130


def _up(options: argparse.Namespace) -> int:
    hosts.start()
    if not options.bare:
        hosts.converge()
        say(UP_TEXT)
    return 0


def _test(options: argparse.Namespace) -> int:
    if options.list:
        print(parts.table())
        return 0
    return parts.run(options.parts)


def _bench(options: argparse.Namespace) -> int:
    figures = paths.STATE / "bench.txt"
    figures.unlink(missing_ok=True)
    # Progress goes to the error stream: --json leaves one object and nothing else on the output.
    with progress_on_stderr():
        hosts.start(fresh=not options.keep_host)
        wanted = {"--json": options.json, "--keep-host": options.keep_host}
        argv = ["python", str(paths.SOURCES / "bench.py"), "--output", str(figures)]
        argv += [option for option, on in wanted.items() if on]
        argv += ["--only", options.only] if options.only else []
        code = visible(argv, hosts.ansible_environment())
    if figures.exists():
        print(figures.read_text(encoding="utf-8"), end="", flush=True)
    return code


def _down(options: argparse.Namespace) -> int:
    if engine.answers():
        hosts.remove_all()
        if options.images:
            images.remove_all()
    else:
        say("No Docker engine answers: hosts and images, if there are any, stay")
    if options.engine:
        engine.stop()
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "up": _up,
    "test": _test,
    "bench": _bench,
    "down": _down,
}
"""What runs under the lock, by name."""


@contextmanager
def _only_one() -> Iterator[None]:
    """Refuse to work beside another ./lab of this checkout."""
    if os.environ.get(HOLDER) == str(paths.STATE):
        yield
        return
    paths.STATE.mkdir(parents=True, exist_ok=True)
    with (paths.STATE / "lock").open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LabError(
                "Another ./lab command is at work in this checkout; wait for it."
            ) from error
        os.environ[HOLDER] = str(paths.STATE)
        try:
            yield
        finally:
            del os.environ[HOLDER]
