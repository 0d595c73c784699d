"""What ./lab bench makes of what it sees."""

from __future__ import annotations

import json

import bench
import pytest

WRK = """Running 4s test @ https://172.30.2.5:8443/
  2 threads and 16 connections
  12 requests in 4.00s, 1.00MB read
{}Requests/sec:   1234.56
"""


def test_the_rate_is_read() -> None:
    assert bench.rate_of(WRK.format("")) == 1234.56


def test_a_few_connections_may_break_where_that_is_normal() -> None:
    said = WRK.format("  Socket errors: connect 0, read 1, write 0, timeout 1\n")
    assert bench.rate_of(said, may_break=0.2) == 1234.56
    with pytest.raises(AssertionError):
        bench.rate_of(said, may_break=0.1)


@pytest.mark.parametrize(
    "line",
    [
        "  Non-2xx or 3xx responses: 3\n",
        "  Socket errors: connect 0, read 2, write 0, timeout 1\n",
    ],
)
def test_a_load_with_errors_is_no_measurement(line: str) -> None:
    with pytest.raises(AssertionError):
        bench.rate_of(WRK.format(line))


def test_targets_are_measured_in_turns_and_the_median_counts() -> None:
    order: list[str] = []
    figures = iter([1.0, 10.0, 9.0, 30.0, 2.0, 20.0])

    def measure(target: bench.Target) -> float:
        order.append(target.url)
        return next(figures)

    found = bench.in_turns({"a": bench.Target("A"), "b": bench.Target("B")}, measure)
    assert order == ["A", "B"] * 3
    assert found == {"a": 2.0, "b": 20.0}


def test_aims_stand_beside_the_figures() -> None:
    figures = {"nothing_to_do_seconds": 26, "static_ratio_to_bare_nginx": 0.9, "app_image_mb": 1}
    figures["aims"] = bench.judged(figures)  # type: ignore[assignment]
    assert json.loads(json.dumps(figures["aims"])) == {
        "nothing_to_do_seconds": {"aim": "<= 25", "met": False},
        "static_ratio_to_bare_nginx": {"aim": ">= 0.9", "met": True},
    }
    assert bench.as_text(figures).splitlines() == [
        "nothing_to_do_seconds          26  (aim <= 25: NOT met)",
        "static_ratio_to_bare_nginx     0.9  (aim >= 0.9: met)",
        "app_image_mb                   1",
    ]
