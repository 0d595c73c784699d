# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring a lost host back on a bare one: what is there, which backup, how far it has come.

The playbook ``restore_host`` goes from phase to phase; the record of it lies where the program for
backups finds it, so that a host that is half there is never saved as a backup. The keys of the
sheet are on a tmpfs until the end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import subprocess
import time
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_manifest as manifests
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_point as points
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_streams as streams
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import (
    BackupError,
    DamagedError,
    Say,
    Settings,
    output,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_restic import (
    Restic,
    Snapshot,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_since import Since
from ansible_collections.vedfolnir.stack.plugins.module_utils.files import remove_tree, write_atomic

DIRECTORY = "/run/vedfolnir/restore-host"
"""On a tmpfs: settings and keys from the sheet, the snapshot of Vault."""
PHASES = ("begun", "vault", "data")
"""The backup is chosen, Vault is in place, the data are in place."""
_FROM_SHEET = (
    *("source", "repository", "repository_user", "repository_ca"),
    *("secrets_directory", "sftp_arguments"),
)
Record = dict[str, t.Any]


def path(state_directory: str) -> str:
    """Return the file with the record."""
    return os.path.join(state_directory, "restore-host.json")


def read(state_directory: str) -> Record:
    """Return the record of a restore that is not finished, empty without one.

    Raises:
        BackupError: when there is one that cannot be read.
    """
    try:
        with open(path(state_directory), encoding="utf-8") as handle:
            return dict(json.load(handle))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        raise BackupError(f"{path(state_directory)} cannot be read; remove it") from exc


def reach(state_directory: str, phase: str, **more: t.Any) -> Record:
    """Note that a phase was reached, never an earlier one than before; return the record."""
    record = read(state_directory)
    if PHASES.index(phase) >= PHASES.index(record.get("phase", "begun")):
        record["phase"] = phase
    record |= more
    os.makedirs(state_directory, mode=0o750, exist_ok=True)
    text = json.dumps(record, indent=2, sort_keys=True) + "\n"
    write_atomic(path(state_directory), text.encode(), uid=0, gid=0, mode=0o640)
    return record


def refuse_unfinished(settings: Settings) -> None:
    """Refuse to go on while a restore onto this bare host is not finished.

    Raises:
        BackupError: so that a host that is half there is never saved as a backup.
    """
    record = read(settings.state_directory)
    if record:
        raise BackupError(
            f"the restore of {record.get('source')} onto this bare host is not finished (it has "
            f"come to {record.get('phase')}); run restore_host again"
        )


def found_on(root: str, project: str, vault_directory: str) -> list[str]:
    """Return what shows that a host is not bare: data of a stack, its Vault, its containers."""
    places = [os.path.join(root, name) for name in ("data/mysql", "data/redis", "data/vault")]
    places += [os.path.join(root, "storage"), os.path.join(vault_directory, "state.json")]
    found = [place for place in places if os.path.isfile(place) or _has_entries(place)]
    with contextlib.suppress(BackupError):
        label = f"label=com.docker.compose.project={project}"
        argv = ["/usr/bin/docker", "ps", "--all", "--filter", label, "--format", "{{.Names}}"]
        found += [f"container {name}" for name in output(argv).split()]
    return found


def _has_entries(place: str) -> bool:
    with contextlib.suppress(OSError):
        return bool(os.listdir(place))
    return False


@dataclasses.dataclass(frozen=True)
class Sheet:
    """What the operator brings along."""

    secrets: t.Mapping[str, str] = dataclasses.field(repr=False)
    """``repository_key``, ``manifest_key`` and, for a rest-server, ``repository_password``."""
    known_hosts: str
    ssh_key: str = dataclasses.field(repr=False)


def lay_down(settings: t.Mapping[str, t.Any], sheet: Sheet) -> Settings:
    """Write settings and keys to the tmpfs; return the settings."""
    os.makedirs(settings["secrets_directory"], mode=0o700, exist_ok=True)
    os.chmod(DIRECTORY, 0o700)
    for name, value in sheet.secrets.items():
        _private(os.path.join(settings["secrets_directory"], name), f"{value.strip()}\n")
    _private(os.path.join(DIRECTORY, "known_hosts"), f"{sheet.known_hosts.strip()}\n")
    _private(os.path.join(DIRECTORY, "settings.json"), json.dumps(settings))
    return Settings.read(os.path.join(DIRECTORY, "settings.json"))


def of_sheet(settings: Settings) -> Settings:
    """Return the settings of this host, with the repository and the keys of the sheet.

    Raises:
        BackupError: when the tmpfs has lost them.
    """
    place = os.path.join(DIRECTORY, "settings.json")
    if not os.path.exists(place):
        raise BackupError(f"{place} is not there, the host was restarted; run restore_host again")
    sheet = Settings.read(place)
    changed = {name: getattr(sheet, name) for name in _FROM_SHEET}
    # What this host has streamed meanwhile is of another database.
    nothing = _elsewhere(settings).streams_directory
    return dataclasses.replace(settings, copies=(), streams_directory=nothing, **changed)


def _private(place: str, text: str) -> None:
    write_atomic(place, text.encode(), uid=0, gid=0, mode=0o400)


def log_in_with(place: str, key: str) -> str:
    """Have a key for the target at a path, the given one or a new one; return the public part."""
    os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
    if key.strip():
        _private(place, f"{key.strip()}\n")
    elif not os.path.exists(place):
        argv = ["/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "vedfolnir-backup"]
        output([*argv, "-f", place])
    public = output(["/usr/bin/ssh-keygen", "-y", "-f", place]).strip()
    write_atomic(f"{place}.pub", f"{public}\n".encode(), uid=0, gid=0, mode=0o644)
    return public


class Choice(t.NamedTuple):
    """What is brought back."""

    manifest: manifests.Manifest
    wanted: str
    """Where the data go: ``latest`` where logs were shipped after the backup, else its id."""
    point: float
    """Time of the newest that is off the host, of the backup where another point is wanted."""


def choose(settings: Settings, say: Say, wanted: str) -> Choice:
    """Choose the backup, verify it, and bring its snapshot of Vault to the tmpfs.

    Raises:
        BackupError: when the repository cannot be used, or the backup is damaged.
    """
    restic, point = Restic(settings, say), points.parse(wanted)
    snapshots = restic.snapshots()
    work = Since(_elsewhere(settings), restic, say, point)
    try:
        found = work.choose() if _shipped(snapshots) and point.replays else wanted
    finally:
        work.remove()
    backup, parts = manifests.choose(snapshots, found)
    text = restic.read_text(parts[manifests.PART].id, manifests.FILE)
    manifest = manifests.verify(text, settings.secret("manifest_key"), backup)
    manifests.check_parts(manifest, parts)
    with restic.reading(parts["vault"].id, "/vault.snap") as lines:
        content = b"".join(lines)
    if hashlib.sha256(content).hexdigest() != manifest["parts"]["vault"]["sha256"]:
        raise DamagedError(f"vault: the snapshot of {backup} is not the one in the manifest")
    write_atomic(snapshot_path(), content, uid=0, gid=0, mode=0o400)
    return Choice(manifest, *destination(backup, wanted, _shipped(snapshots)))


def _shipped(snapshots: t.Iterable[Snapshot]) -> list[str]:
    """Return when logs were shipped."""
    return [one.time for one in snapshots if one.part == streams.PART]


def _elsewhere(settings: Settings) -> Settings:
    """Return settings with which logs are taken from the repository, and none of this host's."""
    nothing = os.path.join(DIRECTORY, "streams")
    # What reads them is chosen when the stack is deployed; until then any image will do.
    image = settings.binlogs_image or "none"
    return dataclasses.replace(settings, streams_directory=nothing, binlogs_image=image)


def destination(backup: str, wanted: str, shipped: t.Iterable[str]) -> tuple[str, float]:
    """Return where the data go, and the time of the newest that there is of them."""
    taken = manifests.time_of(backup)
    later = [one for one in map(datetime.datetime.fromisoformat, shipped) if one > taken]
    if wanted != "latest":
        return wanted, taken.timestamp()
    return ("latest", max(later).timestamp()) if later else (backup, taken.timestamp())


def snapshot_path() -> str:
    """Return where the snapshot of Vault lies meanwhile."""
    return os.path.join(DIRECTORY, "vault.snap")


def plan(manifest: manifests.Manifest, host: str, repository: str) -> list[str]:
    """Return in words what is to come."""
    moment = manifests.time_of(manifest["id"])
    parts = manifest["parts"]
    rows = sum(table["rows"] for table in parts["mysql"]["tables"].values())
    return [
        f"bring {manifest['host']} back on {host}, from {repository}",
        f"backup {manifest['id']} of {moment:%Y-%m-%d %H:%M:%S} UTC",
        f"mysql: {len(parts['mysql']['tables'])} tables, {rows} rows; redis: "
        f"{parts['redis']['keys']} keys; storage: {parts['storage']['tree']['files']} files",
        "1. Vault from its snapshot, with the operators' keys",
        "2. site.yml with the secrets in it",
        "3. MySQL, Redis and storage, compared with the manifest",
        "4. prove: login, images, stored credentials",
    ]


def finish(state_directory: str) -> None:
    """Forget the record and the keys: the host is whole."""
    # Keys first: a call that is killed here is ended by the next.
    remove_tree(DIRECTORY)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path(state_directory))


def age(record: t.Mapping[str, t.Any]) -> tuple[float, float]:
    """Return seconds since the restore was begun, and how old the data were at that moment."""
    begun = float(record["started"])
    return time.time() - begun, begun - float(record["point"])


def installed(program: str) -> bool:
    """Tell whether a program is there."""
    return subprocess.run(["/usr/bin/test", "-x", program], check=False).returncode == 0
