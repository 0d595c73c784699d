# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The host's program for backups: ``backup``, ``list``, ``drill``, ``restore`` and more.

Playbooks, timer and people call it by ``/usr/local/lib/vedfolnir/backup``. It ends with 0 when all
is well, 1 when something did not work, 3 when another one is going on, 4 when the time is over,
5 when a backup is damaged, 6 when the repository cannot be used, 7 when a backup is good and a
copy of it was not made.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_beside as beside
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_bring_back as bring_back
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_copies as copies
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_drill as drill
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_host as host
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_manifest as manifests
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_report as report
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_restore as restore
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_sheet as sheet
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_ship as ship
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_status as status
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_take as take
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import (
    EXIT_FAILED,
    LOCK,
    PARTS,
    SETTINGS,
    BackupError,
    BusyError,
    Say,
    Settings,
    alone,
    deadline,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_place import Place
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_recovery import Recovery
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_restic import Restic


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vedfolnir-backup")
    parser.add_argument("--settings", default=SETTINGS, help="file of the role backup")
    parser.add_argument("--copy", type=int, default=0, help="use this copy, 1 is the first")
    parser.add_argument("--who", default="console", help="whom the log names")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("backup", help="take a backup")
    commands.add_parser("list", help="list the backups in the repository")
    keys = commands.add_parser("keys", help="print the sheet with which a bare host is restored")
    keys.add_argument("--pipe", action="store_true", help="into a program that encrypts it")
    told = commands.add_parser("status", help="tell how backups stand; 1 when something is wrong")
    told.add_argument("--json", action="store_true", help="for programs")
    commands.add_parser("bring-back", help="the last step of the playbook restore_host")
    drilled = commands.add_parser("drill", help="restore into scratch containers and compare")
    restored = commands.add_parser("restore", help="put the data of a backup in place")
    commands.add_parser("ship", help="ship what was written since to the repository")
    drilled.add_argument("--id", default="latest", help="which backup")
    restored.add_argument(
        "--to", "--id", default="latest", help="latest, a time, transactions, or a backup's id"
    )
    restored.add_argument("--part", action="append", choices=PARTS, help="only this; repeatable")
    restored.add_argument("--plan", action="store_true", help="say what would be done, and end")
    restored.add_argument("--confirm", default="", help="name of the host whose data are replaced")
    restored.add_argument(
        "--onto",
        default="host",
        choices=("host", "scratch"),
        help="scratch: into containers that stay beside production, which is left alone",
    )
    restored.add_argument("--remove", action="store_true", help="with --onto scratch: remove them")
    return parser


def _list(settings: Settings, say: Say) -> None:
    snapshots = Restic(settings, say).snapshots()
    whole = manifests.complete(snapshots)
    for backup, parts in manifests.by_backup(snapshots).items():
        state = "complete" if backup in whole else "broken off, no backup"
        say(f"{backup}  {state}  {' '.join(sorted(parts))}")
    if not whole:
        say("there is no complete backup")


def _restore(settings: Settings, options: argparse.Namespace, say: Say) -> None:
    if options.remove:
        raise BackupError(
            "nothing was changed; --remove goes with --onto scratch only, and restore_state=absent "
            "with restore_onto=scratch"
        )
    if options.plan:
        with Recovery(settings, Restic(settings, say), say, options.to, options.part) as recovery:
            for line in restore.Restore(settings, say, recovery).plan():
                say(line)
        return
    if options.confirm != settings.host:
        raise BackupError(
            f"nothing was changed; to replace the data of {settings.host}, name it: "
            f"-e restore_confirm={settings.host}"
        )
    # Even if the repository cannot be reached now.
    restore.undo(settings, say)
    with Recovery(settings, Restic(settings, say), say, options.to, options.part) as recovery:
        restore.Restore(settings, say, recovery).run(options.who)


def _restore_beside(settings: Settings, options: argparse.Namespace, say: Say) -> None:
    if options.remove:
        beside.remove(settings, say, options.who, only_tell=options.plan)
        return
    beside.refuse_another(settings)
    place = Place.staying(settings)
    restic = Restic(settings, say)
    with Recovery(settings, restic, say, options.to, options.part, place) as recovery:
        if options.plan:
            for line in beside.plan(settings, recovery):
                say(line)
        else:
            beside.run(settings, recovery, say, options.who)


def _run(settings: Settings, options: argparse.Namespace, say: Say) -> None:
    match options.command:
        case "backup":
            host.refuse_unfinished(settings)
            restore.refuse_unfinished(settings)
            take.run(settings, Restic(settings, say), say, options.who)
        case "drill":
            drill.run(settings, Restic(settings, say), say, options.who, options.id)
        case "ship":
            ship.run(settings, Restic(settings, say), say)
        case "bring-back":
            bring_back.run(settings, Restic(settings, say), say, options.who)
        case _ if options.onto == "scratch":
            _restore_beside(settings, options, say)
        case _:
            _restore(settings, options, say)


def _recorded(settings: Settings, options: argparse.Namespace, say: Say) -> None:
    """Run a command alone, within its time, and remember how it ended."""
    planned = getattr(options, "plan", False)
    lock = ship.LOCK if options.command == "ship" else LOCK
    with alone(lock), deadline(settings.deadline_seconds):
        if planned:
            _run(settings, options, say)
            return
        report.remember(settings, options.command, started=time.time())
        try:
            _run(settings, options, say)
        except BaseException as exc:
            code = exc.exit_code if isinstance(exc, BackupError) else EXIT_FAILED
            report.remember(settings, options.command, exit=code)
            report.tell(settings, options.who, options.command, exit=code, error=str(exc))
            raise
        report.remember(settings, options.command, exit=0)


def _print_sheet(settings: Settings, pipe: bool) -> int:
    """Print the keys, where they do not stay."""
    sheet.refuse_anything_but_a_terminal(sys.stdout.fileno(), pipe, os.getuid())
    sys.stdout.write(sheet.sheet(settings))
    return 0


def _tell_status(settings: Settings, as_json: bool, say: Say) -> int:
    """Tell how backups stand; return 1 when something is wrong."""
    found = status.status(settings)
    if as_json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        for line in found["lines"]:
            say(line)
        for line in found["findings"]:
            say(f"WRONG: {line}")
    return EXIT_FAILED if found["findings"] else 0


def _quick(settings: Settings, options: argparse.Namespace, say: Say) -> int:
    """Run a command that needs no lock and leaves no trace; return the exit code."""
    match options.command:
        case "keys":
            return _print_sheet(settings, options.pipe)
        case "status":
            return _tell_status(settings, options.json, say)
        case _:
            _list(settings, say)
    return 0


def main(argv: t.Sequence[str]) -> int:
    """Run one command."""
    options = _parser().parse_args(argv)

    def say(text: str) -> None:
        sys.stdout.write(f"vedfolnir backup: {text}\n")
        sys.stdout.flush()

    try:
        settings = Settings.read(options.settings)
        if options.copy:
            settings = copies.of(settings, options.copy)
        if options.command in ("keys", "list", "status"):
            return _quick(settings, options, say)
        if options.command == "bring-back":
            settings = host.of_sheet(settings)
        _recorded(settings, options, say)
    except BusyError as exc:
        sys.stderr.write(f"vedfolnir backup: {exc}\n")
        return exc.exit_code
    except (BackupError, OSError) as exc:
        sys.stderr.write(f"vedfolnir backup: {options.command} did not succeed: {exc}\n")
        return exc.exit_code if isinstance(exc, BackupError) else EXIT_FAILED
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
