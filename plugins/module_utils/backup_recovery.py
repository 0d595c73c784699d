# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A backup and the way from it to a point, brought to life in a scratch instance.

What becomes of it then is a matter of those who use it: :mod:`backup_restore` puts it in the place
of production's data, :mod:`backup_beside` leaves it running beside production.
"""

from __future__ import annotations

import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_manifest as manifests
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_point as points
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import (
    PARTS,
    Say,
    Settings,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_place import Place
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_restic import Restic
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_scratch import DATA, Scratch
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_since import Since

_STREAMED = ("mysql", "redis")
"""Parts whose servers write down what happens between two backups."""


class Recovery:
    """What is restored, and up to where; what was fetched to find the way ends with its block.

    Attributes:
        point: Where to go.
        scratch: The instance in which it comes to life.
        parts: What of the backup.
    """

    def __init__(
        self,
        settings: Settings,
        restic: Restic,
        say: Say,
        wanted: str,
        parts: t.Sequence[str] | None,
        place: Place | None = None,
    ) -> None:
        """Choose the backup.

        Args:
            settings: See :class:`Settings`.
            restic: The repository.
            say: Is told of every step.
            wanted: Where to go, see :func:`backup_point.parse`.
            parts: What of it; without any all that can be put in place.
            place: Where it comes to life, see :class:`Scratch`.

        Raises:
            BackupError: when there is no backup from which the point is reached.
        """
        self.point = points.parse(wanted)
        self._since = Since(settings, restic, say, self.point)
        try:
            self.scratch = Scratch(settings, restic, say, self._since.choose(), place)
        except BaseException:
            self._since.remove()
            raise
        self.parts = [part for part in PARTS if part in (parts or DATA)]

    def __enter__(self) -> Recovery:
        return self

    def __exit__(self, *_error: object) -> None:
        self._since.remove()

    def bring(self, prove: bool = False) -> None:
        """Bring the parts to life as they were at the point.

        Args:
            prove: Whether to bring the backup of Redis to life, too, where what it has appended
                since is all that is needed.

        Raises:
            DamagedError: when one is not what the manifest says, or the way does not lead there.
        """
        self.scratch.prepare()
        for part in self.parts:
            goes_on = part in _STREAMED and self._since.counts
            if prove or part != "redis" or not goes_on:
                self.scratch.bring(part)
            if goes_on:
                self._go_on(part)

    def _go_on(self, part: str) -> None:
        if part == "mysql":
            self._since.mysql(self.scratch)
        else:
            self.scratch.empty(part)
            self._since.redis(self.scratch)

    def size(self, part: str) -> int:
        """Return how many bytes of a part there are in the backup."""
        return int(self.scratch.manifest["parts"][part]["bytes"])

    def title(self, onto: str) -> str:
        """Return in words what is restored.

        Args:
            onto: Where it goes.
        """
        moment = manifests.time_of(self.scratch.id)
        return f"restore the backup {self.scratch.id} of {moment:%Y-%m-%d %H:%M:%S} UTC {onto}"

    def way(self) -> list[str]:
        """Return in words how it goes on from the backup to the point, if it does."""
        replayed = [part for part in self.parts if part in _STREAMED]
        if not replayed or not self._since.counts:
            return []
        plan = self._since.plan()
        return [
            f"then go on to {self.point.title}: {plan.count} transactions, the last of "
            f"{points.utc(plan.last)}; {' and '.join(replayed)} only, the rest is as in the backup"
        ]
