# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read MySQL's binary logs: which transactions a file has, when each was committed, where it ends.

Every event's checksum is verified. What is read here decides which transactions are replayed; to
replay them is mysqlbinlog's work. Reference: MySQL source, libs/mysql/binlog/event.
"""

from __future__ import annotations

import dataclasses
import struct
import typing as t
import uuid
import zlib

from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_gtid import Collector, GtidSet

MAGIC = b"\xfebin"
_HEADER = struct.Struct("<IBIIIH")
_HEADER_SIZE = 19
_CHECKSUM_SIZE = 4
_STOP, _ROTATE, _FORMAT = 3, 4, 15
_GTID, _ANONYMOUS, _PREVIOUS, _TAGGED = 33, 34, 35, 42
_ENDS = (_STOP, _ROTATE)
_IN_USE_OFFSET = 17
_COMMIT_OFFSET = 42
_HAS_ORIGINAL = 1 << 55
_WIDTHS = {252: 2, 253: 3, 254: 8}
_LARGEST = 1 << 30


@dataclasses.dataclass(frozen=True)
class Transaction:
    """One transaction, and where it lies in its file."""

    server: str
    number: int
    committed: int
    """When, in microseconds of Unix time, on the server that wrote the file."""
    start: int
    end: int

    @property
    def gtid(self) -> str:
        """Its name."""
        return f"{self.server}:{self.number}"


@dataclasses.dataclass
class LogFile:
    """What one file says.

    Attributes:
        path: Where it is.
        previous: All transactions before those of this file.
        transactions: Its whole transactions, in order.
        begun: Whether it says what was before it; without that it is of no use.
        end: Where the last event that is whole ends.
        closed: Whether the server has ended it.
        problem: What is wrong with what comes after ``end``; empty if nothing is.
    """

    path: str
    previous: GtidSet = dataclasses.field(default_factory=GtidSet)
    transactions: list[Transaction] = dataclasses.field(default_factory=list)
    begun: bool = False
    end: int = 0
    closed: bool = False
    problem: str = ""

    @property
    def gtids(self) -> GtidSet:
        """The transactions of this file."""
        found = Collector()
        for one in self.transactions:
            found.add(one.server, one.number)
        return found.set


class _BadEventError(Exception):
    """What comes next is no whole event."""


def read(path: str, offset: int = 0) -> LogFile:
    """Read a file as far as it is whole.

    Args:
        path: The file.
        offset: Where to go on after its first events; there must begin one.
    """
    log = LogFile(path)
    with open(path, "rb") as handle:
        magic = handle.read(len(MAGIC))
        if magic != MAGIC:
            log.problem = "it is empty" if not magic else "it is not a binary log"
            return log
        log.end = len(MAGIC)
        try:
            _read_events(handle, log, offset)
        except _BadEventError as exc:
            log.problem = str(exc)
    return log


def _read_events(handle: t.BinaryIO, log: LogFile, offset: int) -> None:
    pending: Transaction | None = None
    checksums = False
    for event in _events(handle):
        kind = event[4]
        if kind == _FORMAT:
            checksums = event[-_CHECKSUM_SIZE - 1] == 1
        body = _body(event, kind, log.end) if checksums else event[_HEADER_SIZE:]
        if kind == _PREVIOUS:
            log.previous = previous_gtids(body)
            log.begun = True
        elif kind == _GTID:
            pending = transaction(body, log.end)
        elif kind in (_ANONYMOUS, _TAGGED):
            raise _BadEventError(f"at {log.end} is a transaction without a GTID, or with a tag")
        log.closed = kind in _ENDS
        log.end += len(event)
        if pending is not None and log.end >= pending.end:
            log.transactions.append(pending)
            pending = None
        if log.begun and log.end < offset:
            log.end = offset
            handle.seek(offset)
    if pending is not None:
        raise _BadEventError(f"the transaction at {pending.start} is not whole")


def _events(handle: t.BinaryIO) -> t.Iterator[bytes]:
    while header := handle.read(_HEADER_SIZE):
        offset = handle.tell() - len(header)
        if len(header) < _HEADER_SIZE:
            raise _BadEventError(f"it breaks off at {offset}")
        size = _HEADER.unpack(header)[3]
        if not _HEADER_SIZE < size <= _LARGEST:
            raise _BadEventError(f"at {offset} is no event")
        event = header + handle.read(size - _HEADER_SIZE)
        if len(event) < size:
            raise _BadEventError(f"it breaks off at {offset}")
        yield event


def _body(event: bytes, kind: int, offset: int) -> bytes:
    """Return what an event says, after its checksum was verified."""
    content = bytearray(event[:-_CHECKSUM_SIZE])
    if kind == _FORMAT:
        # The server clears this flag when it ends the file, without a new checksum.
        content[_IN_USE_OFFSET] &= 0xFE
    if zlib.crc32(content) != int.from_bytes(event[-_CHECKSUM_SIZE:], "little"):
        raise _BadEventError(f"the checksum of the event at {offset} is wrong")
    return event[_HEADER_SIZE:-_CHECKSUM_SIZE]


def transaction(body: bytes, start: int) -> Transaction:
    """Return what the body of a GTID event says of the transaction that it begins."""
    server = str(uuid.UUID(bytes=body[1:17]))
    number = int.from_bytes(body[17:25], "little")
    stamp = int.from_bytes(body[_COMMIT_OFFSET : _COMMIT_OFFSET + 7], "little")
    place = _COMMIT_OFFSET + 7
    if stamp & _HAS_ORIGINAL:
        stamp, place = stamp ^ _HAS_ORIGINAL, place + 7
    return Transaction(server, number, stamp, start, start + _packed(body, place))


def _packed(body: bytes, place: int) -> int:
    """Return a number of MySQL's variable length."""
    width = _WIDTHS.get(body[place], 0)
    if not width:
        return body[place]
    return int.from_bytes(body[place + 1 : place + 1 + width], "little")


def previous_gtids(body: bytes) -> GtidSet:
    """Return the set in the body of the event that comes first in a file."""
    count = int.from_bytes(body[:8], "little")
    if count >> 56:
        raise _BadEventError("its list of earlier transactions has tags")
    runs: dict[str, list[tuple[int, int]]] = {}
    place = 8
    for _server in range(count):
        name = str(uuid.UUID(bytes=body[place : place + 16]))
        size = int.from_bytes(body[place + 16 : place + 24], "little")
        place += 24
        pairs = struct.unpack_from(f"<{2 * size}q", body, place)
        runs[name] = [
            (first, last - 1) for first, last in zip(pairs[::2], pairs[1::2], strict=True)
        ]
        place += 16 * size
    return GtidSet(runs)
