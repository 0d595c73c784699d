# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The manifest of a backup: what it is made of, signed, saved last.

Without a manifest the parts in the repository are what a broken run has left, and no backup.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import json
import secrets
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import (
    BackupError,
    DamagedError,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_restic import Snapshot

FORMAT = 1
PART = "manifest"
FILE = "/manifest.json"
_ID = "%Y%m%dT%H%M%SZ"

Manifest = dict[str, t.Any]


def new_id(now: datetime.datetime) -> str:
    """Return an id for a backup: its time, and four digits against two in one second."""
    return f"{now.astimezone(datetime.UTC).strftime(_ID)}-{secrets.token_hex(2)}"


def time_of(backup: str) -> datetime.datetime:
    """Return the time in a backup's id.

    Raises:
        BackupError: when it is no such id.
    """
    try:
        moment = datetime.datetime.strptime(backup.partition("-")[0], _ID)
    except ValueError as exc:
        raise BackupError(
            f"{backup!r} is not the id of a backup, which looks like 20261125T021500Z-1a2b"
        ) from exc
    return moment.replace(tzinfo=datetime.UTC)


def sign(manifest: Manifest, key: str) -> str:
    """Return the text that is saved: the manifest and its signature (HMAC with SHA-256)."""
    text = json.dumps(manifest, sort_keys=True)
    return json.dumps({"manifest": text, "signature": _signature(text, key)}, indent=1) + "\n"


def _signature(text: str, key: str) -> str:
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


def verify(text: str, key: str, backup: str) -> Manifest:
    """Return the manifest in a text that :func:`sign` made.

    Raises:
        DamagedError: when it was altered, signed with another key, or is that of another backup.
    """
    try:
        signed = json.loads(text)
        content, signature = str(signed["manifest"]), str(signed["signature"])
    except (ValueError, KeyError, TypeError) as exc:
        raise DamagedError(f"the manifest of {backup} is not one") from exc
    if not hmac.compare_digest(_signature(content, key), signature):
        raise DamagedError(
            f"the manifest of {backup} was altered, or signed with another key than "
            "backup_manifest_key of this host"
        )
    manifest: Manifest = json.loads(content)
    if manifest.get("format") != FORMAT:
        raise BackupError(
            f"the manifest of {backup} has the format {manifest.get('format')}, this release reads "
            f"{FORMAT}; use the release that made it ({manifest.get('release', 'unknown')})"
        )
    if manifest["id"] != backup:
        raise DamagedError(f"the manifest of {backup} is that of {manifest['id']}")
    return manifest


def complete(snapshots: t.Iterable[Snapshot]) -> dict[str, dict[str, Snapshot]]:
    """Return the parts of each backup that has a manifest, by id, oldest first."""
    parts = by_backup(snapshots)
    return {backup: found for backup, found in sorted(parts.items()) if PART in found}


def require(snapshots: t.Iterable[Snapshot]) -> dict[str, dict[str, Snapshot]]:
    """Return what :func:`complete` returns, and refuse a repository that has none.

    Raises:
        BackupError: when there is no complete backup.
    """
    if found := complete(snapshots):
        return found
    raise BackupError("the repository has no complete backup of this host")


def by_backup(snapshots: t.Iterable[Snapshot]) -> dict[str, dict[str, Snapshot]]:
    """Return the parts of every backup, complete or not."""
    found: dict[str, dict[str, Snapshot]] = {}
    for snapshot in snapshots:
        if snapshot.backup:
            found.setdefault(snapshot.backup, {})[snapshot.part] = snapshot
    return found


def choose(snapshots: t.Sequence[Snapshot], wanted: str) -> tuple[str, dict[str, Snapshot]]:
    """Return id and parts of a backup: the named one, or with ``latest`` the newest.

    Raises:
        BackupError: when there is no such backup.
    """
    found = require(snapshots)
    if wanted == "latest":
        backup = max(found, key=time_of)
        return backup, found[backup]
    if wanted not in found:
        partial = wanted in by_backup(snapshots)
        why = "was broken off and has no manifest" if partial else "is not in the repository"
        raise BackupError(f"the backup {wanted} {why}; there are {', '.join(list(found)[-5:])}")
    return wanted, found[wanted]


def check_parts(manifest: Manifest, parts: t.Mapping[str, Snapshot]) -> None:
    """Compare what a manifest names with what the repository has.

    Raises:
        DamagedError: naming the first part that is missing or another one.
    """
    for name, part in manifest["parts"].items():
        if name not in parts:
            raise DamagedError(f"the part {name} of {manifest['id']} is missing in the repository")
        if part["snapshot"] not in (parts[name].id, parts[name].original):
            raise DamagedError(f"the part {name} of {manifest['id']} was exchanged for another")


def kept(backups: t.Iterable[str], policy: t.Mapping[str, int]) -> set[str]:
    """Return the backups to keep.

    Args:
        backups: Ids.
        policy: How many to keep: the ``last`` ones, and of as many days, weeks and months
            (``daily``, ``weekly``, ``monthly``) that have one the newest of each.
    """
    newest = sorted(backups, key=time_of, reverse=True)
    keep = set(newest[: policy.get("last", 0)])
    for name, pattern in (("daily", "%Y-%m-%d"), ("weekly", "%G-%V"), ("monthly", "%Y-%m")):
        periods: dict[str, str] = {}
        for backup in newest:
            periods.setdefault(time_of(backup).strftime(pattern), backup)
        keep |= set(list(periods.values())[: policy.get(name, 0)])
    # The newest complete one is never given up, whatever the policy says.
    return keep | set(newest[:1])
