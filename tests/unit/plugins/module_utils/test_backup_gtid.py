"""Sets of transactions: parsed, joined, subtracted as MySQL does."""

from __future__ import annotations

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import BackupError
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_gtid import Collector, GtidSet

A = "11111111-1111-1111-1111-111111111111"
B = "22222222-2222-2222-2222-222222222222"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", ""),
        (f"{A}:1", f"{A}:1"),
        (f"{A}:1-3:4:7-9", f"{A}:1-4:7-9"),
        (f"{B}:5,\n{A.upper()}:2-3", f"{A}:2-3,{B}:5"),
        (f"{A}:1-5,{A}:4-8", f"{A}:1-8"),
    ],
)
def test_a_set_in_text(text: str, wanted: str) -> None:
    assert str(GtidSet.parse(text)) == wanted
    assert bool(GtidSet.parse(text)) is bool(wanted)


@pytest.mark.parametrize("text", ["x", A, f"{A}:tag:1-5", f"{A}:1-", f"{A}:-3"])
def test_what_is_no_set(text: str) -> None:
    with pytest.raises(BackupError, match="is not a set of GTIDs"):
        GtidSet.parse(text)


@pytest.mark.parametrize(
    ("left", "right", "either", "less"),
    [
        (f"{A}:1-5", f"{A}:6-9", f"{A}:1-9", f"{A}:1-5"),
        (f"{A}:1-9", f"{A}:4-5", f"{A}:1-9", f"{A}:1-3:6-9"),
        (f"{A}:1-9", f"{A}:1-9,{B}:1", f"{A}:1-9,{B}:1", ""),
        (f"{A}:1-3,{B}:2", f"{B}:2", f"{A}:1-3,{B}:2", f"{A}:1-3"),
        ("", f"{A}:1", f"{A}:1", ""),
    ],
)
def test_together_and_without(left: str, right: str, either: str, less: str) -> None:
    one, other = GtidSet.parse(left), GtidSet.parse(right)
    assert str(one | other) == either
    assert str(one - other) == less
    assert (one <= other) is (less == "")


def test_gathered_one_by_one() -> None:
    found = Collector()
    for number in (1, 2, 3, 7, 5, 6):
        found.add(A, number)
    assert str(found.set) == f"{A}:1-3:5-7"
    assert found.set.has(A, 6)
    assert not found.set.has(A, 4)
    assert not found.set.has(B, 1)
