"""The command line of ./lab, which explains itself before anything is installed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read a command line; without a word on it, explain."""
    return _parser().parse_args(arguments or ["--help"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./lab", description="A real Debian host to deploy to.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="make the lab host and deploy the stack on it")
    up.add_argument("--bare", action="store_true", help="make the host, deploy nothing")

    test = commands.add_parser("test", help="run what CI runs, or the parts named")
    test.add_argument("parts", nargs="*", metavar="PART")
    test.add_argument("--list", action="store_true", help="list the parts")

    bench = commands.add_parser("bench", help="measure deploy and service speed")
    bench.add_argument("--json", action="store_true", help="print one JSON object and no more")
    bench.add_argument(
        "--keep-host",
        action="store_true",
        help="do not begin with a new host, whose first deployment is measured",
    )
    bench.add_argument("--only", metavar="WHAT", help="measure this alone, such as backups")

    ssh = commands.add_parser("ssh", help="a shell or one command on the lab host")
    ssh.add_argument("argv", nargs=argparse.REMAINDER, metavar="CMD")

    down = commands.add_parser("down", help="remove hosts, volumes and networks of the lab")
    down.add_argument("--images", action="store_true", help="remove the lab's images too")
    down.add_argument("--engine", action="store_true", help="stop the engine if ./lab started it")
    return parser
