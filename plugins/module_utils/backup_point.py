# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What ``restore_to`` can say: ``latest``, the id of a backup, a time, or transactions by GTID."""

from __future__ import annotations

import dataclasses
import datetime
import re
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import BackupError
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_gtid import UUID, GtidSet

_BACKUP = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4}")
_EXAMPLE = (
    "it can be latest, the id of a backup (20261125T021500Z-1a2b), a time (2026-11-23 14:05:00, "
    "2026-11-23 14:05:00+02:00) or transactions (UUID:1-50)"
)


@dataclasses.dataclass(frozen=True)
class Point:
    """A point to restore to.

    Attributes:
        kind: Which of the four it is.
        text: What was asked for.
        moment: With a time, microseconds of Unix time.
        gtids: With transactions, these.
    """

    kind: t.Literal["latest", "backup", "time", "gtids"]
    text: str
    moment: int = 0
    gtids: GtidSet = dataclasses.field(default_factory=GtidSet)

    @property
    def replays(self) -> bool:
        """Whether what happened after the backup counts."""
        return self.kind != "backup"

    @property
    def title(self) -> str:
        """The point in words."""
        if self.kind == "time":
            return f"{utc(self.moment)} (asked for: {self.text})"
        return self.text


def parse(text: str) -> Point:
    """Return the point that a text names.

    A time without an offset is meant in the time zone of the host.

    Raises:
        BackupError: when it names none.
    """
    text = text.strip()
    if text == "latest":
        return Point("latest", text)
    if _BACKUP.fullmatch(text):
        return Point("backup", text)
    if re.match(UUID, text.lower()):
        return Point("gtids", text, gtids=GtidSet.parse(text))
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError as exc:
        raise BackupError(f"{text!r} is no point to restore to; {_EXAMPLE}") from exc
    if moment.tzinfo is None:
        moment = _local(moment, text)
    return Point("time", text, moment=microseconds(moment))


def _local(moment: datetime.datetime, text: str) -> datetime.datetime:
    """Return a time of the host's clock, which shows some times twice and others never."""
    found = moment.astimezone()
    other = moment.replace(fold=1).astimezone()
    if found.utcoffset() != other.utcoffset():
        raise BackupError(
            f"{text!r} is when the clocks of this host are put forward or back; say which is meant "
            f"by an offset, as in {text}{found:%z}"
        )
    return found


def microseconds(moment: datetime.datetime) -> int:
    """Return the microseconds of Unix time."""
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return (moment - epoch) // datetime.timedelta(microseconds=1)


def utc(moment: int) -> str:
    """Return microseconds of Unix time as ``restore_to`` takes them, never rounded up."""
    found = datetime.datetime.fromtimestamp(moment // 1000000, datetime.UTC)
    return f"{found:%Y-%m-%d %H:%M:%S}.{moment % 1000000:06d}+00:00"
