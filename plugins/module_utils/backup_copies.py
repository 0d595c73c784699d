# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Give further repositories a copy of each backup that the first one has.

restic opens what it reads, checks it, and encrypts it for the other repository, whose key is the
same. A copy that fails takes nothing away from the backup; the next run catches up.
"""

from __future__ import annotations

import dataclasses
import time
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_manifest as manifests
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_report as report
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import (
    EXIT_FAILED,
    BackupError,
    CopyError,
    Say,
    Settings,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_restic import Restic

KIND = "copies"


def of(settings: Settings, number: int) -> Settings:
    """Return the settings for one of the further repositories, 1 is the first.

    Raises:
        BackupError: when there is no such copy.
    """
    if not 0 < number <= len(settings.copies):
        raise BackupError(f"there is no copy {number}; backup_copies has {len(settings.copies)}")
    copy = dict(settings.copies[number - 1])
    return dataclasses.replace(settings, copies=(), login_of="copy", **copy)


def missing(
    first: t.Mapping[str, t.Mapping[str, t.Any]],
    other: t.Mapping[str, t.Mapping[str, t.Any]],
    policy: t.Mapping[str, int],
) -> list[str]:
    """Return the backups that a copy lacks, oldest first, without those that nobody would keep.

    Args:
        first: The complete backups of the first repository, with their parts.
        other: Those of the copy.
        policy: How many are kept.
    """
    wanted = manifests.kept(first, policy) if any(policy.values()) else set(first)
    return sorted(wanted - set(other), key=manifests.time_of)


def make(settings: Settings, first: Restic, say: Say) -> None:
    """Bring every copy up to date.

    Raises:
        CopyError: naming those that did not work, after all have been tried.
    """
    problems: list[str] = []
    report.drop_others(settings, KIND)
    for number in range(1, len(settings.copies) + 1):
        target = of(settings, number)
        report.remember_at(settings, KIND, target.repository, started=time.time())
        try:
            count = _one(settings, target, first, say)
        except BackupError as exc:
            report.remember_at(settings, KIND, target.repository, exit=exc.exit_code)
            problems.append(f"copy to {target.repository}: {exc}")
        except OSError as exc:
            report.remember_at(settings, KIND, target.repository, exit=EXIT_FAILED)
            problems.append(f"copy to {target.repository}: {exc.strerror}")
        else:
            report.remember_at(settings, KIND, target.repository, exit=0, succeeded=time.time())
            say(f"copy at {target.repository}: {count} backups new")
    if problems:
        raise CopyError(f"the backup is complete, but: {'; '.join(problems)}")


def _one(settings: Settings, target: Settings, first: Restic, say: Say) -> int:
    """Bring one copy up to date; return how many backups it got."""
    restic = Restic(target, say, first)
    known = report.read(settings).get(KIND, {}).get(target.repository, {})
    found = restic.ensure(str(known.get("id", "")))
    report.remember_at(settings, KIND, target.repository, id=found)
    present = manifests.complete(first.snapshots())
    late = missing(present, manifests.complete(restic.snapshots()), settings.keep)
    for backup in late:
        parts = present[backup]
        # The manifest last: without it what was copied is no backup.
        restic.copy([part.id for name, part in parts.items() if name != manifests.PART])
        restic.copy([parts[manifests.PART].id])
    return len(late)
