# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which of MySQL's transactions lead from a backup to a point, and how they are replayed.

Decided by what each transaction says of itself, its GTID and the microsecond of its commit, and not
by ``--stop-datetime``, which knows seconds in which statements began.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_binlog as binlog
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_streams as streams
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import DamagedError
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_gtid import Collector, GtidSet
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_point import Point, utc

END = b"/*!*/;"
_ACCOUNTS = re.compile(
    rb"(?:/\*(?!!).*?\*/\s*)*"
    rb"(?:(?:CREATE|ALTER|DROP|RENAME)\s+(?:USER|ROLE)|GRANT|REVOKE|SET\s+(?:PASSWORD|DEFAULT))\b",
    re.IGNORECASE,
)


class PointError(DamagedError):
    """The logs do not lead to the point."""


@dataclasses.dataclass(frozen=True)
class Step:
    """What is replayed of one file.

    Attributes:
        path: The file.
        start: Where to begin in it; what is before is in the backup.
        end: Where to stop in it; what follows is later, or not whole.
        include: Only these transactions, if any are named.
    """

    path: str
    start: int
    end: int
    include: GtidSet | None = None


@dataclasses.dataclass
class Plan:
    """The way from a backup to a point.

    Attributes:
        steps: What is replayed, in order.
        expected: All transactions that are there afterwards.
        count: How many of them are replayed.
        last: When the last of them was committed, microseconds of Unix time.
        largest: Bytes that the largest of them takes in its file.
    """

    steps: list[Step] = dataclasses.field(default_factory=list)
    expected: GtidSet = dataclasses.field(default_factory=GtidSet)
    count: int = 0
    last: int = 0
    largest: int = 0

    def take(self, transactions: t.Iterable[binlog.Transaction]) -> None:
        """Count transactions that are replayed."""
        for one in transactions:
            self.count += 1
            self.last = max(self.last, one.committed)
            self.largest = max(self.largest, one.end - one.start)


def plan(
    have: GtidSet,
    moment: int,
    servers: t.Sequence[streams.Server],
    number: int,
    point: Point,
    known: streams.Known,
) -> Plan:
    """Return how to get from a backup to a point.

    Args:
        have: The transactions of the backup.
        moment: When it was taken, microseconds of Unix time.
        servers: Whose logs there are, in order.
        number: Which of them was production at the point, see :func:`preferred`.
        point: Where to go.
        known: How far the logs went when they were last looked at.

    Raises:
        PointError: when that is not possible, with the last point that is.
    """
    files, gap = _files_since(servers[number], have)
    result = Plan(expected=have, last=moment)
    if gap:
        _bridge(result, servers[:number], gap)
    inside = _Walk(result, point).through(servers[number], files, known)
    if point.kind == "time" and not inside and number + 1 == len(servers):
        _require_reach(result, servers[number], point, known)
    return result


def _reachable(result: Plan) -> str:
    if not result.count:
        return "only the backup itself can be restored, by its id"
    return f"the last point that can be reached is restore_to='{utc(result.last)}'"


def preferred(servers: t.Sequence[streams.Server], point: Point) -> list[int]:
    """Return which servers may have been production at a point, the likeliest first.

    The last one need not be: a host that was made anew to be restored onto has one, too.
    """
    newest_first = list(reversed(range(len(servers))))
    if point.kind == "time":
        began = [number for number in newest_first if servers[number].since <= point.moment]
        return began or newest_first[-1:]
    if point.kind == "gtids":
        have = [n for n, server in enumerate(servers) if point.gtids <= server.history]
        return have or newest_first[:1]
    return newest_first


def _files_since(server: streams.Server, have: GtidSet) -> tuple[list[binlog.LogFile], GtidSet]:
    """Return the files from where a set of transactions ends, and what is missing before them."""
    chosen: list[binlog.LogFile] = []
    for log in reversed([log for log in server.files if log.begun]):
        chosen.insert(0, log)
        if log.previous <= have:
            return chosen, GtidSet()
    return chosen, (chosen[0].previous - have) if chosen else GtidSet()


def _bridge(result: Plan, servers: t.Sequence[streams.Server], gap: GtidSet) -> None:
    """Take what is missing from the logs of earlier servers: those of a data directory before."""
    for server in servers:
        for log in server.files:
            there = gap - (gap - log.gtids) - result.expected
            if there:
                found = [one for one in log.transactions if there.has(one.server, one.number)]
                result.steps.append(Step(log.path, found[0].start, log.end, there))
                result.expected = result.expected | there
                result.take(found)
    missing = gap - result.expected
    if missing:
        raise PointError(
            f"the binary logs do not go back to the backup, {_short(missing)} is missing; take a "
            f"newer backup, or an earlier point: {_reachable(result)}"
        )


class _Walk:
    """Goes through the files of a server until the point."""

    def __init__(self, result: Plan, point: Point) -> None:
        self._result, self._point = result, point
        wanted = point.gtids - result.expected
        self._wanted = sum(b - a + 1 for runs in wanted.runs.values() for a, b in runs)

    def through(
        self, server: streams.Server, files: t.Sequence[binlog.LogFile], known: streams.Known
    ) -> bool:
        """Take what is needed of each file; tell whether there is something later, too."""
        result = self._result
        gap = ""
        for log in files:
            missing = log.previous - result.expected
            if missing and self._arrived:
                return True
            if missing:
                what = gap or f"the binary logs have a gap before {_name(log)}"
                raise PointError(f"{what}: {_short(missing)} is missing; {_reachable(result)}")
            if self._file(log):
                return True
            gap = _lost_after(log) if log.problem else ""
        told = known.get("servers", {}).get(server.uuid, {}).get("gtids", "")
        lost = GtidSet.parse(told) - result.expected
        if lost and self._arrived:
            return True
        if lost:
            what = _lost_after(files[-1]) if files else "all logs are gone"
            raise PointError(f"{what}: {_short(lost)} is missing; {_reachable(result)}")
        if self._point.kind == "gtids" and self._wanted:
            lost = self._point.gtids - result.expected
            raise PointError(f"{_short(lost)} is not in the logs; {_reachable(result)}")
        return False

    @property
    def _arrived(self) -> bool:
        """Whether the point does not lie behind what there was until now."""
        if self._point.kind == "time":
            return self._result.count > 0 and self._point.moment <= self._result.last
        return self._point.kind == "gtids" and self._wanted == 0

    def _file(self, log: binlog.LogFile) -> bool:
        """Take a file; tell whether the point is in it."""
        result, taken = self._result, Collector()
        before = result.expected
        start, end, found = 0, log.end, False
        for one in log.transactions:
            if before.has(one.server, one.number):
                continue
            if self._beyond(one):
                end, found = one.start, True
                break
            start = start or one.start
            taken.add(one.server, one.number)
            result.take([one])
            self._wanted -= self._point.gtids.has(one.server, one.number)
        if taken.set:
            result.steps.append(Step(log.path, start, end))
            result.expected = before | taken.set
        return found

    def _beyond(self, one: binlog.Transaction) -> bool:
        if self._point.kind == "time":
            return one.committed > self._point.moment
        return self._point.kind == "gtids" and self._wanted == 0


def _require_reach(
    result: Plan, server: streams.Server, point: Point, known: streams.Known
) -> None:
    """Refuse a time of which the logs do not know yet what happened until then."""
    current = int(known.get("servers", {}).get(server.uuid, {}).get("current", 0))
    reach = max(current, result.last)
    if point.moment > reach:
        raise PointError(
            f"the binary logs are known to be whole until {utc(reach)}, and "
            f"{point.title} is later; for all that there is say restore_to=latest"
        )


def _name(log: binlog.LogFile) -> str:
    return log.path.rsplit("/", 1)[-1]


def _lost_after(log: binlog.LogFile) -> str:
    if log.problem:
        return f"{_name(log)} is shorter than it was ({log.problem})"
    return f"what came after the end of {_name(log)} is gone"


def _short(gtids: GtidSet) -> str:
    text = str(gtids)
    return text if len(text) < 200 else f"{text[:200]} …"


def without_accounts(lines: t.Iterable[bytes]) -> t.Iterator[bytes]:
    """Pass on what mysqlbinlog prints, with empty transactions in the place of account statements.

    Accounts do not come from the backup but from the deployed state, so what changed them meets
    accounts that are not there. The transactions stay, so that none is missing in the set.
    """
    begins, dropping = True, False
    for line in lines:
        if begins and line[:1] != b"#" and _ACCOUNTS.match(line):
            dropping = True
        ends = line.rstrip(b"\r\n").endswith(END)
        if not dropping:
            yield line
        elif ends:
            yield b"BEGIN" + END + b"\nCOMMIT" + END + b"\n"
        if ends:
            dropping = False
        begins = ends or (begins and line[:1] == b"#")
