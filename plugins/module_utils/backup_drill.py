# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The drill: a backup counts when it was restored, compared and found ready. Nothing stays.

With ``latest`` it goes on with the logs, to all that was written since, as a restore would. With
the id of a backup it proves that one alone.
"""

from __future__ import annotations

import contextlib
import time
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_manifest as manifests
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_report as report
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_ship as ship
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import (
    PARTS,
    BusyError,
    DamagedError,
    Say,
    Settings,
    alone,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_recovery import Recovery
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_restic import Restic


def run(settings: Settings, restic: Restic, say: Say, who: str, wanted: str) -> dict[str, t.Any]:
    """Prove a backup; return its figures.

    Raises:
        DamagedError: when it is not what its manifest says, or the logs do not lead to the point.
    """
    begun, now = time.monotonic(), time.time()
    logs = wanted == "latest" and bool(settings.binlogs_image)
    shipped = ship.until(settings)
    if logs:
        # A shipment that goes on now is looking at them itself.
        with contextlib.suppress(BusyError), alone(ship.LOCK):
            ship.look(settings, say)
    with Recovery(settings, restic, say, wanted, PARTS) as recovery:
        scratch = recovery.scratch
        say(f"drill with the backup {scratch.id}" + (" and the logs since" if logs else ""))
        try:
            recovery.bring(prove=True)
            scratch.ready()
            rto = round(time.monotonic() - begun, 1)
        finally:
            scratch.remove()
    say("check the repository")
    restic.check(settings.read_data_percent)
    if damage := ship.damage(settings) if logs else []:
        raise DamagedError(
            f"{', '.join(damage)}; this time what was shipped to the repository did instead. Take "
            "a backup, from which on this host's own logs are whole again"
        )
    taken = manifests.time_of(scratch.id).timestamp()
    rpo = now - max(taken, shipped if logs else 0)
    figures = {"id": scratch.id, "rto": rto, "age": round(now - taken), "rpo": round(rpo)}
    report.remember(settings, "drill", **figures, succeeded=time.time())
    report.tell(settings, who, "drill", **figures)
    say(
        f"the backup {scratch.id} is proven: ready after {rto} s, it is {figures['age']} s old"
        + (f"; a host lost then had lost {figures['rpo']} s" if logs else "")
    )
    return figures
