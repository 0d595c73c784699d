# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read a dump of MySQL while it passes by: rows and a digest per table, GTID set, position.

What is counted is in the very transaction that the dump is of, and costs no second look at the
server. A dump of the restored database gives the same figures, or it is not the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import typing as t

OPTIONS = (
    "--single-transaction",
    "--source-data=2",
    "--set-gtid-purged=ON",
    "--quick",
    "--hex-blob",
    "--order-by-primary",
    "--routines",
    "--triggers",
    "--events",
    "--no-tablespaces",
    "--default-character-set=utf8mb4",
    "--skip-dump-date",
)
"""How mysqldump is called: the same data give the same text."""

_INSERT = re.compile(rb"INSERT INTO `((?:[^`]|``)+)` ")
_CREATE = re.compile(rb"CREATE TABLE `((?:[^`]|``)+)` \(")
_IMPLIED = re.compile(rb"CHARACTER SET \w+ (?=COLLATE )")
"""A table that was made by its dump says this of each column, an original one does not; the
collation, which belongs to one character set only, tells it anyway."""
_PURGED = b"SET @@GLOBAL.GTID_PURGED="
_POSITION = re.compile(rb"-- CHANGE \w+(?: \w+)? TO \w+_LOG_FILE='([^']+)', \w+_LOG_POS=(\d+);")
_VERSION = b"-- Server version"
_END = b"-- Dump completed"


@dataclasses.dataclass
class _Table:
    rows: int = 0
    data: t.Any = dataclasses.field(default_factory=hashlib.sha256)
    schema: t.Any = dataclasses.field(default_factory=hashlib.sha256)


class DumpReader:
    """Takes a dump line by line.

    Attributes:
        gtid: The set of transactions that the dump holds.
        position: File and position of the binary log at that moment.
        version: The server's.
        complete: Whether the last line of a dump was seen.
        size: Bytes that were read.
    """

    def __init__(self) -> None:
        """Start with nothing read."""
        self._tables: dict[str, _Table] = {}
        self._whole = hashlib.sha256()
        self._creating: _Table | None = None
        self._gtid: bytes | None = None
        self.gtid = ""
        self.position = ""
        self.version = ""
        self.complete = False
        self.size = 0

    def feed(self, line: bytes) -> None:
        """Read one line, with its end."""
        self.size += len(line)
        self._whole.update(line)
        if self._creating is not None:
            self._creating.schema.update(_IMPLIED.sub(b"", line))
            if line.startswith(b")"):
                self._creating = None
        elif match := _INSERT.match(line):
            table = self._table(match[1])
            table.rows += rows_in(line)
            table.data.update(line)
        elif match := _CREATE.match(line):
            self._creating = self._table(match[1])
            self._creating.schema.update(line)
        else:
            self._note(line)

    def _table(self, name: bytes) -> _Table:
        return self._tables.setdefault(name.decode().replace("``", "`"), _Table())

    def _note(self, line: bytes) -> None:
        if self._gtid is not None or line.startswith(_PURGED):
            self._gtid = (self._gtid or b"") + line
            if line.rstrip().endswith(b";"):
                self.gtid = gtid_set(self._gtid.decode())
                self._gtid = None
        elif match := _POSITION.match(line):
            self.position = f"{match[1].decode()}:{match[2].decode()}"
        elif line.startswith(_VERSION):
            self.version = line[len(_VERSION) :].strip().decode()
        elif line.startswith(_END):
            self.complete = True

    @property
    def digest(self) -> str:
        """SHA-256 of all that was read."""
        return self._whole.hexdigest()

    @property
    def tables(self) -> dict[str, dict[str, t.Any]]:
        """Rows and digests of data and definition, by table."""
        return {
            name: {
                "rows": table.rows,
                "data": table.data.hexdigest(),
                "schema": table.schema.hexdigest(),
            }
            for name, table in sorted(self._tables.items())
        }


def rows_in(line: bytes) -> int:
    """Return the number of rows in an INSERT statement of mysqldump.

    Rows are separated by ``),(`` outside of quotes; in texts mysqldump escapes quotes and
    backslashes with a backslash.
    """
    if b"'" not in line:
        return line.count(b"),(") + 1
    plain = line.replace(b"\\\\", b"").replace(b"\\'", b"")
    return sum(part.count(b"),(") for part in plain.split(b"'")[::2]) + 1


def gtid_set(statement: str) -> str:
    """Return the set in a statement that sets ``GTID_PURGED``."""
    found = re.findall(r"'([0-9a-fA-F:,\s\w-]*)'", statement.replace("'+'", ""))
    return "".join(found[0].split()) if found else ""


def differences(
    wanted: t.Mapping[str, t.Mapping[str, t.Any]], found: t.Mapping[str, t.Mapping[str, t.Any]]
) -> list[str]:
    """Return in words how the tables of two dumps differ."""
    problems = [f"table {name} is missing" for name in wanted if name not in found]
    problems += [f"table {name} is too much" for name in found if name not in wanted]
    for name in wanted:
        if name not in found or wanted[name] == found[name]:
            continue
        before, after = wanted[name]["rows"], found[name]["rows"]
        if before != after:
            problems.append(f"table {name} has {after} rows instead of {before}")
        elif wanted[name]["data"] != found[name]["data"]:
            problems.append(f"table {name} has other content")
        else:
            problems.append(f"table {name} has another definition")
    return problems
