"""What restore_to can say, and what it cannot."""

from __future__ import annotations

import time
import typing as t

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_point as points
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import BackupError

UUID = "11111111-1111-1111-1111-111111111111"


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[None]:
    """A host that is not at UTC."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "kind", "replays"),
    [
        ("latest", "latest", True),
        ("20261125T021500Z-1a2b", "backup", False),
        (f"{UUID}:1-5", "gtids", True),
        ("2026-11-23 14:05:00", "time", True),
    ],
)
def test_the_four_kinds(text: str, kind: str, replays: bool) -> None:
    point = points.parse(text)
    assert (point.kind, point.replays) == (kind, replays)


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-11-23 14:05:00", "2026-11-23 13:05:00.000000+00:00"),
        ("2026-07-23 14:05:00", "2026-07-23 12:05:00.000000+00:00"),
        ("2026-11-23T14:05:00Z", "2026-11-23 14:05:00.000000+00:00"),
        ("2026-11-23 14:05:00.25+02:00", "2026-11-23 12:05:00.250000+00:00"),
    ],
)
def test_a_time(text: str, utc: str) -> None:
    point = points.parse(text)
    assert points.utc(point.moment) == utc
    assert points.parse(utc).moment == point.moment


@pytest.mark.parametrize("text", ["2026-10-25 02:30:00", "2026-03-29 02:30:00"])
def test_a_time_that_is_twice_or_never(text: str) -> None:
    with pytest.raises(BackupError, match="say which is meant by an offset"):
        points.parse(text)
    assert points.parse(f"{text}+01:00").kind == "time"


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01 00:00:00", "14:05"])
def test_what_is_no_point(text: str) -> None:
    with pytest.raises(BackupError, match="no point to restore to; it can be latest"):
        points.parse(text)
