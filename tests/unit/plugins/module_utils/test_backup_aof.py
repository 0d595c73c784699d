"""Append-only files are cut at a time, or at their last whole command."""

from __future__ import annotations

import io

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_aof as aof
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import DamagedError


def command(*words: str) -> bytes:
    """Return a command as Redis writes it."""
    parts = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
    return f"*{len(words)}\r\n{parts}".encode()


FIRST = b"#TS:100\r\n" + command("SELECT", "0") + command("SET", "a", "1\r\n#TS:999\r\n*1")
SECOND = b"#TS:101\r\n" + command("SET", "b", "2")
THIRD = b"#TS:105\r\n" + command("SET", "c", "3")
FILE = FIRST + SECOND + THIRD


@pytest.mark.parametrize(
    ("before", "wanted"),
    [
        (100, b""),
        (101, FIRST),
        (102, FIRST + SECOND),
        (105, FIRST + SECOND),
        (106, FILE),
        (None, FILE),
    ],
)
def test_a_time(before: int | None, wanted: bytes) -> None:
    cut = aof.cut(io.BytesIO(FILE), before)
    assert FILE[: cut.size] == wanted
    assert cut.reached is (before is not None and before <= 105)
    assert not cut.torn


@pytest.mark.parametrize("size", range(len(FILE)))
def test_every_torn_end(size: int) -> None:
    cut = aof.cut(io.BytesIO(FILE[:size]))
    whole = [
        0, 9, len(FIRST) - len(command("SET", "a", "1\r\n#TS:999\r\n*1")), len(FIRST),
        len(FIRST) + 9, len(FIRST + SECOND), len(FIRST + SECOND) + 9,
    ]  # fmt: skip
    assert cut.size == max(end for end in whole if end <= size)
    assert cut.torn is (size not in whole)


def test_a_transaction_is_not_cut_in_two() -> None:
    before = command("SET", "x", "1")
    inside = command("MULTI") + command("SET", "y", "1") + b"#TS:200\r\n" + command("SET", "z", "1")
    whole = before + inside + command("EXEC")
    assert aof.cut(io.BytesIO(whole)).size == len(whole)
    torn = aof.cut(io.BytesIO(before + inside))
    assert (torn.size, torn.torn) == (len(before), True)
    assert aof.cut(io.BytesIO(whole), 200).size == len(before)


def test_what_is_no_command() -> None:
    with pytest.raises(DamagedError, match="no command of Redis at byte"):
        aof.cut(io.BytesIO(command("SET", "a", "1") + b"hello\r\n"))
    with pytest.raises(DamagedError, match="no command of Redis at byte"):
        aof.cut(io.BytesIO(b"*1\r\n+OK\r\n"))


def test_when_a_snapshot_was_taken() -> None:
    head = b"REDIS0012\xfa\tredis-ver\x058.0.6\xfa\x05ctime\xc2" + (1796005038).to_bytes(
        4, "little"
    )
    assert aof.created(head) == 1796005038
    assert aof.created(b"REDIS0012") == 0
