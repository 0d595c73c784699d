# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Sets of transactions as MySQL names them: ``UUID:1-5:7,UUID:1-9``.

Reference: MySQL manual, GTID Format and Storage. Tagged GTIDs, which nothing in the stack makes,
are refused.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import BackupError

Interval = tuple[int, int]
"""First and last number of a run, both in it."""

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_PART = re.compile(rf"({UUID})((?::\d+(?:-\d+)?)+)")


class GtidSet:
    """A set that does not change; its runs are in order and do not touch."""

    def __init__(self, runs: t.Mapping[str, t.Iterable[Interval]] | None = None) -> None:
        """Make a set of runs, in whatever order they are."""
        self.runs: dict[str, list[Interval]] = {}
        for server, intervals in sorted((runs or {}).items()):
            if merged := _merged(intervals):
                self.runs[server] = merged

    @classmethod
    def parse(cls, text: str) -> GtidSet:
        """Return the set that a text names; one that is empty is the empty set.

        Raises:
            BackupError: when it is no such text.
        """
        runs: dict[str, list[Interval]] = {}
        for part in filter(None, re.sub(r"\s", "", text.lower()).split(",")):
            match = _PART.fullmatch(part)
            if match is None:
                raise BackupError(f"{part!r} is not a set of GTIDs, which looks like UUID:1-5")
            for run in match[2].strip(":").split(":"):
                first, _separator, last = run.partition("-")
                runs.setdefault(match[1], []).append((int(first), int(last or first)))
        return cls(runs)

    def __str__(self) -> str:
        """Return the set as MySQL writes it."""
        return ",".join(
            server + "".join(f":{a}" if a == b else f":{a}-{b}" for a, b in runs)
            for server, runs in self.runs.items()
        )

    def __repr__(self) -> str:
        """Return the set for a person."""
        return f"GtidSet({self})"

    def __bool__(self) -> bool:
        """Tell whether anything is in it."""
        return bool(self.runs)

    def __eq__(self, other: object) -> bool:
        """Tell whether both have the same transactions."""
        return isinstance(other, GtidSet) and self.runs == other.runs

    def __hash__(self) -> int:
        """Return a number that equal sets share."""
        return hash(str(self))

    def __or__(self, other: GtidSet) -> GtidSet:
        """Return what is in either."""
        servers = {*self.runs, *other.runs}
        return GtidSet(
            {name: self.runs.get(name, []) + other.runs.get(name, []) for name in servers}
        )

    def __sub__(self, other: GtidSet) -> GtidSet:
        """Return what is in this set and not in the other."""
        return GtidSet(
            {name: _without(runs, other.runs.get(name, [])) for name, runs in self.runs.items()}
        )

    def __le__(self, other: GtidSet) -> bool:
        """Tell whether all of this set is in the other."""
        return not self - other

    def has(self, server: str, number: int) -> bool:
        """Tell whether one transaction is in it."""
        return any(first <= number <= last for first, last in self.runs.get(server, ()))


class Collector:
    """Gathers transactions one by one, which mostly come in order."""

    def __init__(self) -> None:
        """Begin with none."""
        self._runs: dict[str, list[Interval]] = {}

    def add(self, server: str, number: int) -> None:
        """Take one."""
        runs = self._runs.setdefault(server, [])
        if runs and runs[-1][1] + 1 == number:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))

    @property
    def set(self) -> GtidSet:
        """All that were taken."""
        return GtidSet(self._runs)


def _merged(intervals: t.Iterable[Interval]) -> list[Interval]:
    result: list[Interval] = []
    for first, last in sorted(intervals):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return result


def _without(intervals: t.Iterable[Interval], taken: t.Iterable[Interval]) -> list[Interval]:
    left = list(intervals)
    for first, last in taken:
        left = [
            part
            for a, b in left
            for part in ((a, min(b, first - 1)), (max(a, last + 1), b))
            if part[0] <= part[1]
        ]
    return left
