"""The command line: ``server``, and of ``cli`` what sets the administrator's password."""

from __future__ import annotations

import argparse
import signal
import sys
import typing as t
from pathlib import Path

from grafana_standin import provisioning, server
from grafana_standin.settings import SettingsError, read
from grafana_standin.store import Store


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="grafana", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("server")
    tool = commands.add_parser("cli")
    for one in (run, tool):
        one.add_argument("--homepath", default="/usr/share/grafana")
        one.add_argument("--config", type=Path, default=Path("/etc/grafana/grafana.ini"))
    run.add_argument("--packaging", default="unknown")
    run.add_argument("overrides", nargs="*", metavar="cfg:SECTION.KEY=VALUE")
    admin = tool.add_subparsers(dest="group", required=True).add_parser("admin")
    reset = admin.add_subparsers(dest="action", required=True).add_parser("reset-admin-password")
    reset.add_argument("--password-from-stdin", action="store_true", required=True)
    return parser


def _end(_number: int, _frame: t.Any) -> t.NoReturn:
    raise SystemExit(0)


def main(argv: t.Sequence[str]) -> int:
    """Run a command and return its exit status."""
    options = _parser().parse_args(argv)
    try:
        settings = read(options.config)
        if options.command == "server":
            signal.signal(signal.SIGTERM, _end)
            server.serve(settings)
            return 0
        password = sys.stdin.readline().rstrip("\n")
        if len(password) < 4:
            sys.stderr.write("Error: the new password is too short\n")
            return 1
        store = Store(settings.data)
        if not store.make(settings.text("security", "admin_user", "admin"), password):
            store.set_password(password)
        sys.stdout.write("Admin password changed successfully\n")
    except (SettingsError, provisioning.ProvisioningError, OSError) as exc:
        sys.stderr.write(f"Error: {exc}\n")
        return 1
    return 0
