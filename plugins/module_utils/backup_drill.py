# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The drill: a backup counts when it was restored, compared and found ready. Nothing stays."""

from __future__ import annotations

import datetime
import time
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_manifest as manifests
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_report as report
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import (
    PARTS,
    Say,
    Settings,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_restic import Restic
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_scratch import Scratch


def run(settings: Settings, restic: Restic, say: Say, who: str, wanted: str) -> dict[str, t.Any]:
    """Prove a backup; return its figures.

    Raises:
        DamagedError: when it is not what its manifest says.
    """
    begun = time.monotonic()
    scratch = Scratch(settings, restic, say, wanted)
    age = datetime.datetime.now(datetime.UTC) - manifests.time_of(scratch.id)
    say(f"drill with the backup {scratch.id}")
    try:
        scratch.prepare()
        for part in PARTS:
            scratch.bring(part)
        scratch.ready()
        rto = round(time.monotonic() - begun, 1)
    finally:
        scratch.remove()
    say("check the repository")
    restic.check(settings.read_data_percent)
    figures = {"id": scratch.id, "rto": rto, "age": round(age.total_seconds())}
    report.remember(settings, "drill", **figures, succeeded=time.time())
    report.tell(settings, who, "drill", **figures)
    say(f"the backup {scratch.id} is proven: ready after {rto} s, it is {figures['age']} s old")
    return figures
