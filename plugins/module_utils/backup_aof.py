# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read Redis' append-only file: where the commands before a time end, and where the last whole one.

With ``aof-timestamp-enabled`` Redis writes a line ``#TS:SECONDS`` before the first command of a
second. ``redis-check-aof --truncate-to-timestamp`` does the like for one file, and refuses one with
a torn end. Reference: Redis source, src/aof.c
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import DamagedError

_STAMP = re.compile(rb"#TS:(\d+)\r\n")
_CTIME = b"\x05ctime\xc2"
_HEAD = 512
_LONGEST_LINE = 64


@dataclasses.dataclass(frozen=True)
class Cut:
    """Where a file is to end.

    Attributes:
        size: Bytes before that.
        last: The last second that Redis has noted there, 0 if none.
        reached: Whether a later command was seen: nothing before the time can be missing.
        torn: Whether something follows that is no whole command.
    """

    size: int
    last: int = 0
    reached: bool = False
    torn: bool = False


def cut(handle: t.BinaryIO, before: int | None = None) -> Cut:
    """Return where the whole commands that ran before a second end.

    What belongs to one transaction (MULTI … EXEC) is kept or dropped together.

    Args:
        handle: An append-only file that is no base, at its beginning.
        before: Second of Unix time; without it only a torn end is cut off.

    Raises:
        DamagedError: when there is something that no command begins with.
    """
    whole, last, inside = 0, 0, False
    while line := handle.readline(_LONGEST_LINE):
        if match := _STAMP.fullmatch(line):
            stamp = int(match[1])
            if before is not None and stamp >= before:
                return Cut(whole, last, reached=True)
            last = stamp
            if not inside:
                whole = handle.tell()
            continue
        if not line.endswith(b"\r\n"):
            return Cut(whole, last, torn=True)
        if line[:1] != b"*":
            raise DamagedError(f"no command of Redis at byte {handle.tell() - len(line)}")
        name = _command(handle, line)
        if name is None:
            return Cut(whole, last, torn=True)
        inside = name == b"MULTI" or (inside and name != b"EXEC")
        if not inside:
            whole = handle.tell()
    return Cut(whole, last, torn=whole < handle.tell() and inside)


def _command(handle: t.BinaryIO, line: bytes) -> bytes | None:
    """Read the rest of a command; return its name, or nothing if it is not whole."""
    name = b""
    for number in range(_length(line, handle)):
        header = handle.readline(_LONGEST_LINE)
        if not header.endswith(b"\r\n"):
            return None
        if header[:1] != b"$":
            raise DamagedError(f"no command of Redis at byte {handle.tell() - len(header)}")
        size = _length(header, handle)
        value = handle.read(size + 2)
        if len(value) < size + 2:
            return None
        if number == 0:
            name = value[:-2].upper()
    return name


def _length(line: bytes, handle: t.BinaryIO) -> int:
    if not line[1:-2].isdigit():
        raise DamagedError(f"no command of Redis at byte {handle.tell() - len(line)}")
    return int(line[1:-2])


def created(head: bytes) -> int:
    """Return the second at which the snapshot was taken that begins so, 0 if it does not tell."""
    place = head[:_HEAD].find(_CTIME)
    if place < 0:
        return 0
    place += len(_CTIME)
    return int.from_bytes(head[place : place + 4], "little")
