"""A request that fails again and again is given up; others have their time."""

from __future__ import annotations

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_patience as patience

AGAIN = (
    "Save(<data/{0}>) returned error, retrying after {1}: unexpected HTTP response (500): 500 no"
)
WELL = "Save(<data/{0}>) operation successful after 3 retries"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("503.783878ms", 0.503783878), ("1.5s", 1.5), ("1m3.25s", 63.25), ("1h0m2s", 3602), ("?", 0)],
)
def test_how_long_go_says(text: str, seconds: float) -> None:
    assert patience.seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("heard", "lost"),
    [
        # Until a try would begin too late.
        ([(0, AGAIN.format("a", "1s")), (50, AGAIN.format("a", "49s"))], False),
        ([(0, AGAIN.format("a", "1s")), (50, AGAIN.format("a", "51s"))], True),
        ([(0, AGAIN.format("a", "1s")), (101, AGAIN.format("a", "1ms"))], True),
        # Each request has its own time, and again when it went well.
        ([(0, AGAIN.format("a", "1s")), (101, AGAIN.format("b", "1s"))], False),
        (
            [(0, AGAIN.format("a", "1s")), (2, WELL.format("a")), (101, AGAIN.format("a", "1s"))],
            False,
        ),
        (
            [(0, AGAIN.format("a", "1s")), (2, WELL.format("b")), (101, AGAIN.format("a", "1s"))],
            True,
        ),
        # One that has ended otherwise says nothing more.
        ([(0, AGAIN.format("a", "1s")), (500, "Fatal: repository contains errors")], False),
        ([(0, ""), (500, "/srv/a returned error, but of another kind")], False),
    ],
)
def test_a_request_may_fail_for_a_time(heard: list[tuple[float, str]], lost: bool) -> None:
    found = patience.Patience(100)
    for now, line in heard:
        found.hear(line, now)
    assert found.lost == (heard[-1][1] if lost else "")


def test_what_was_said_first_counts() -> None:
    found = patience.Patience(1)
    found.hear(AGAIN.format("a", "2s"), 0)
    found.hear(AGAIN.format("b", "3s"), 0)
    assert found.lost == AGAIN.format("a", "2s")
