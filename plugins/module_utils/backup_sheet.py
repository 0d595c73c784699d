# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The sheet: all that it takes to restore on a bare host with nothing left, on one page.

It is YAML that ``playbooks/restore_host.yml`` reads, with what a person needs as comments. It opens
every backup, so it goes to a terminal, or on demand into a pipe, and never into a journal or file.
"""

from __future__ import annotations

import json
import os
import re
import stat
import time
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import (
    BackupError,
    Settings,
    output,
)

_ARGUMENT = re.compile(r"-i (\S+)|UserKnownHostsFile=(\S+)")


def refuse_anything_but_a_terminal(descriptor: int, pipe: bool, user: int) -> None:
    """Refuse to print keys where they would stay.

    Args:
        descriptor: Where the output goes.
        pipe: Whether the caller has said that a pipe is meant.
        user: Who asks.

    Raises:
        BackupError: for anybody but root, a file, the journal, and a pipe that was not asked for.
    """
    if user != 0:
        raise BackupError("only root may print the keys")
    if os.isatty(descriptor):
        return
    status = os.fstat(descriptor)
    if f"{status.st_dev}:{status.st_ino}" == os.environ.get("JOURNAL_STREAM"):
        raise BackupError("the keys are printed on a terminal, never into the journal")
    if not pipe:
        raise BackupError(
            "the keys are printed on a terminal (ssh -t); to hand them to a program that encrypts "
            "them, use --pipe"
        )
    if not stat.S_ISFIFO(status.st_mode) and not stat.S_ISSOCK(status.st_mode):
        raise BackupError("the keys are printed on a terminal or into a pipe, never into a file")


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read()
    except FileNotFoundError:
        return ""


def _state(settings: Settings) -> dict[str, t.Any]:
    """Return what is known of the set-up of Vault; there is no key in it."""
    how = json.loads(_read(settings.vault_settings) or "{}")
    directory = os.path.dirname(str(how.get("ca_file", "")))
    text = _read(os.path.join(directory, "state.json"))
    return dict(json.loads(text)) if text else {}


def variables(settings: Settings) -> dict[str, t.Any]:
    """Return what ``restore_host`` must be given.

    Raises:
        BackupError: when the keys have not been delivered.
    """
    found: dict[str, t.Any] = {
        "restore_source": settings.host,
        "restore_repository": settings.repository,
        "restore_repository_key": settings.secret("repository_key"),
        "restore_manifest_key": settings.secret("manifest_key"),
    }
    if settings.repository_user:
        found["restore_repository_user"] = settings.repository_user
        found["restore_repository_password"] = settings.secret("repository_password")
    if settings.repository_ca:
        found["restore_repository_ca"] = _read(settings.repository_ca)
    if settings.repository.startswith("sftp:"):
        key, known_hosts = files_of(settings.sftp_arguments)
        found["restore_ssh_known_hosts"] = _read(known_hosts).splitlines()
        found["restore_ssh_key"] = _read(key)
    return found


def files_of(arguments: str) -> tuple[str, str]:
    """Return the files with the key and the known hosts that the arguments of ssh name."""
    found = [match.groups() for match in _ARGUMENT.finditer(arguments)]
    key = next((one[0] for one in found if one[0]), "")
    return key, next((one[1] for one in found if one[1]), "")


def _versions(settings: Settings) -> list[str]:
    """Return the versions that made the backups, one a line."""
    lines = [_read("/etc/debian_version").strip() or "unknown"]
    restic = output(["/usr/bin/restic", "version"]).split(" compiled", maxsplit=1)[0]
    lines = [f"Debian {lines[0]}, {restic}"]
    argv = ["/usr/bin/env", f"--chdir={settings.project_src}", "/usr/bin/docker", "compose"]
    images = output([*argv, "config", "--images"]).split()
    return lines + [f"  {image}" for image in sorted(set(images))]


def _operators(state: t.Mapping[str, t.Any]) -> list[str]:
    if not state:
        return ["- the keys of Vault's operators"]
    names = ", ".join(state.get("operators") or [])
    return [
        f"- keys of Vault's operators, any {state.get('threshold')} of {state.get('shares')}, set "
        f"up {state.get('date')}:",
        f"  {names} have them, each in an encrypted file of that name",
    ]


def _yaml(found: t.Mapping[str, t.Any]) -> list[str]:
    """Return a mapping of texts and lists of texts as YAML; JSON's quoting is YAML's, too."""
    lines: list[str] = []
    for name, value in found.items():
        if isinstance(value, list):
            lines += [f"{name}:", *(f"  - {json.dumps(one)}" for one in value)]
        elif "\n" in value:
            lines += [f"{name}: |", *(f"  {line}" for line in value.splitlines())]
        else:
            lines.append(f"{name}: {json.dumps(value)}")
    return lines


def sheet(settings: Settings) -> str:
    """Return the page.

    Raises:
        BackupError: when something that belongs on it cannot be read.
    """
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    comments = [
        f"To restore {settings.host} on a bare host with nothing left. Printed {now}.",
        "Who has this page reads every backup: keep it as safe as the data, and not on the host.",
        "",
        "Beside it you need:",
        *_operators(_state(settings)),
        "- the inventory of this host, and this collection",
        "- a bare host with the same Debian, that you reach by ssh as root",
        "",
        "What to do, on any machine with the collection (docs/restore.md tells more):",
        "1. write this page to sheet.yml, from the line --- on, and encrypt it:",
        "   ansible-vault encrypt sheet.yml",
        "2. let each operator decrypt the own file, for example to /media/stick/NAME.txt",
        "3. name the new host in the inventory, in the place of the lost one",
        "4. ansible-playbook -i INVENTORY playbooks/restore_host.yml -e @sheet.yml "
        "--ask-vault-pass \\",
        "     -e unseal_keys_files=/media/stick/A.txt,/media/stick/B.txt "
        "-e restore_confirm=NEWHOST",
        "5. by hand, without the collection: restic -r REPOSITORY snapshots",
        "",
        "Further copies of the backups, opened with the same repository key:"
        if settings.copies
        else "There are no further copies of the backups.",
        *(f"- {copy['repository']}" for copy in settings.copies),
        "",
        "What made the backups:",
        *_versions(settings),
    ]
    text = [f"# {line}".rstrip() for line in comments]
    return "\n".join([*text, "---", *_yaml(variables(settings)), ""])
