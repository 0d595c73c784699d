"""Binary logs are read as MySQL has written them; what is not whole is not taken."""

from __future__ import annotations

import base64
import pathlib

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_binlog as binlog

UUID = "e34442a4-ec63-11f1-abe5-0242ac120002"
# A whole file of MySQL 9.7.4: two rows, a table, and its end.
FILE = base64.b64decode(
    "/mJpbq7cDGsPAQAAAHsAAAB/AAAAAAAEADkuNy40LTIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    "AAAAAAAAAAAAAAAAABMADQAIAAAAAAQABAAAAGMABBoIAAAAAAAAAgAAAAoKCioqABI0AAooAAABwmqmeK7cDGsj"
    "AQAAAEcAAADGAAAAgAABAAAAAAAAAONEQqTsYxHxq+UCQqwSAAIBAAAAAAAAAAEAAAAAAAAA2wcAAAAAAABEHZ/E"
    "rtwMayEBAAAATwAAABUBAAAAAADjREKk7GMR8avlAkKsEgAC2wcAAAAAAAACAAAAAAAAAAABAAAAAAAAACCoTgJ1"
    "YQb8JwFQYgEABLY/I67cDGsCAQAAAFMAAABoAQAACAARAAAAAAAAAAAAACkAAAAAAAABIACgRQAAAAAGA3N0ZAQI"
    "AAgA/wAFBlNZU1RFTQ0PiQAS/wAAQkVHSU5wqnARrtwMaxMBAAAANgAAAJ4BAAAAAFMAAAAAAAEACXZlZGZvbG5p"
    "cgABdwACAxIBBgIBAQARPNbqrtwMax4BAAAAMAAAAM4BAAAAAFMAAAAAABEAAgAC/wABAAAAmbt8JFIAiQ+7eAdK"
    "rtwMaxABAAAAHwAAAO0BAAAAACUAAAAAAAAAz2fzmq7cDGshAQAAAE8AAAA8AgAAAAAA40RCpOxjEfGr5QJCrBIA"
    "AtwHAAAAAAAAAgEAAAAAAAAAAgAAAAAAAABErU4CdWEG/CcBUGIBANoTwLOu3AxrAgEAAABTAAAAjwIAAAgAEQAA"
    "AAAAAAAAAAApAAAAAAAAASAAoEUAAAAABgNzdGQECAAIAP8ABQZTWVNURU0NL6IAEv8AAEJFR0lOanvQ1q7cDGsT"
    "AQAAADYAAADFAgAAAABTAAAAAAABAAl2ZWRmb2xuaXIAAXcAAgMSAQYCAQEA+f1NOa7cDGseAQAAADAAAAD1AgAA"
    "AABTAAAAAAARAAIAAv8AAgAAAJm7fCRSAKIveLzDua7cDGsQAQAAAB8AAAAUAwAAAAAmAAAAAAAAAIB2arOu3Axr"
    "IQEAAABNAAAAYQMAAAAAAeNEQqTsYxHxq+UCQqwSAALdBwAAAAAAAAICAAAAAAAAAAMAAAAAAAAAKdNOAnVhBsZQ"
    "YgEAS1Fcd67cDGsCAQAAAHkAAADaAwAAAAARAAAAAAAAAAAAADQAAAAAAAABIACgRQAAAAAGA3N0ZAQIAAgA/wAM"
    "AXZlZGZvbG5pcgARJwAAAAAAAAAS/wATAABDUkVBVEUgVEFCTEUgdmVkZm9sbmlyLnQgKGEgSU5UKTCB/3yu3Axr"
    "BAEAAAAsAAAABgQAAAAABAAAAAAAAABiaW5sb2cuMDAwMDA3Jh0Aeg=="
)
STARTS = (198, 493, 788)


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    """The file on the disk."""
    result = tmp_path / "binlog.000006"
    result.write_bytes(FILE)
    return result


def test_a_whole_file(path: pathlib.Path) -> None:
    log = binlog.read(str(path))
    assert (log.begun, log.closed, log.problem, log.end) == (True, True, "", len(FILE))
    assert str(log.previous) == f"{UUID}:1-2010"
    assert str(log.gtids) == f"{UUID}:2011-2013"
    assert [one.start for one in log.transactions] == list(STARTS)
    assert [one.end for one in log.transactions] == [493, 788, 986]
    assert [one.committed for one in log.transactions] == [
        1796005038041120,
        1796005038042436,
        1796005038052137,
    ]
    assert log.transactions[0].gtid == f"{UUID}:2011"


@pytest.mark.parametrize("size", range(0, len(FILE), 7))
def test_a_file_that_breaks_off(path: pathlib.Path, size: int) -> None:
    path.write_bytes(FILE[:size])
    log = binlog.read(str(path))
    ends = [start for start in (493, 788, 986) if start <= size]
    assert len(log.transactions) == len(ends)
    assert log.end <= size
    assert not log.closed
    whole = size in (127, 198, 493, 788, 986)
    assert bool(log.problem) is not whole or size in (4,)


@pytest.mark.parametrize("offset", [0, 30, 140, 300, 600, 1000])
def test_a_flipped_bit(path: pathlib.Path, offset: int) -> None:
    content = bytearray(FILE)
    content[offset] ^= 4
    path.write_bytes(content)
    log = binlog.read(str(path))
    assert log.problem
    assert log.end <= offset
    assert len(log.transactions) == sum(end <= offset for end in (493, 788, 986))


def test_a_file_in_use_has_another_flag(path: pathlib.Path) -> None:
    content = bytearray(FILE)
    content[4 + 17] |= 1
    path.write_bytes(content)
    assert binlog.read(str(path)).problem == ""


def test_going_on_where_it_was_left(path: pathlib.Path) -> None:
    log = binlog.read(str(path), 493)
    assert str(log.previous) == f"{UUID}:1-2010"
    assert str(log.gtids) == f"{UUID}:2012-2013"
    assert log.end == len(FILE)
