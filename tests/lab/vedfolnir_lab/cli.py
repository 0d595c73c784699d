"""The commands of ./lab."""

from __future__ import annotations

import argparse
import fcntl
from collections.abc import Iterator, Sequence
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


def main(arguments: Sequence[str]) -> int:
    """Run one command and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "ssh":
            hosts.ssh(options.argv)
        with _only_one():
            return int(options.run(options) or 0)
    except LabError as error:
        say(f"ERROR: {error}")
        return 1
    except KeyboardInterrupt:
        say("Interrupted. The same command continues where this one stopped.")
        return 130


def _up(options: argparse.Namespace) -> None:
    hosts.prepare()
    hosts.create()
    if not options.bare:
        hosts.converge()
        say(UP_TEXT)


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
        hosts.prepare()
        hosts.create()
        wanted = {"--json": options.json, "--fresh": options.fresh}
        argv = ["python", str(paths.SOURCES / "bench.py"), "--output", str(figures)]
        argv += [option for option, on in wanted.items() if on]
        code = visible(argv, hosts.ansible_environment())
    if figures.exists():
        print(figures.read_text(encoding="utf-8"), end="", flush=True)
    return code


def _down(options: argparse.Namespace) -> None:
    if engine.answers():
        hosts.remove_all()
        if options.images:
            images.remove_all()
    if options.engine:
        engine.stop()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./lab", description="A real Debian host to deploy to.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="make the lab host and deploy the stack on it")
    up.add_argument("--bare", action="store_true", help="make the host, deploy nothing")
    up.set_defaults(run=_up)

    test = commands.add_parser("test", help="run what CI runs, or the parts named")
    test.add_argument("parts", nargs="*", metavar="PART")
    test.add_argument("--list", action="store_true", help="list the parts")
    test.set_defaults(run=_test)

    bench = commands.add_parser("bench", help="measure deploy and service speed")
    bench.add_argument("--json", action="store_true")
    bench.add_argument("--fresh", action="store_true", help="measure a first deployment, too")
    bench.set_defaults(run=_bench)

    ssh = commands.add_parser("ssh", help="a shell or one command on the lab host")
    ssh.add_argument("argv", nargs=argparse.REMAINDER, metavar="CMD")

    down = commands.add_parser("down", help="remove hosts, volumes and networks of the lab")
    down.add_argument("--images", action="store_true", help="remove the lab's images too")
    down.add_argument("--engine", action="store_true", help="stop the engine if ./lab started it")
    down.set_defaults(run=_down)
    return parser


@contextmanager
def _only_one() -> Iterator[None]:
    """Refuse to work beside another ./lab of this checkout."""
    paths.STATE.mkdir(parents=True, exist_ok=True)
    with (paths.STATE / "lock").open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LabError(
                "Another ./lab command is at work in this checkout; wait for it."
            ) from error
        yield
