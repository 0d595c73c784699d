"""No alert without a runbook, a case in which it fires, and one in which it is silent."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import gate_repo
import pytest

sys.path.insert(0, str(gate_repo.ROOT / "tests/observability"))

import alerts

RUNBOOKS = Path("docs/runbooks.md")
SEVERITIES = {"critical", "warning", "none"}
EACH = pytest.mark.parametrize("name", alerts.alerts())


def test_there_are_alerts_and_their_names_are_unique() -> None:
    names = [rule["alert"] for rule in alerts.rules() if "alert" in rule]
    assert len(names) > 30
    assert sorted(names) == sorted(set(names))


def test_cases_are_of_alerts_that_exist() -> None:
    assert set(alerts.CASES) == set(alerts.alerts())


@EACH
def test_an_alert_has_a_firing_and_a_silent_case_about_its_own_series(name: str) -> None:
    cases, read = alerts.CASES[name], alerts.metrics(alerts.alerts()[name]["expr"])
    if name == "Watchdog":
        assert (read, cases["silent"]) == (set(), "never")
        return
    assert set(cases) == {"fires", "silent"}
    # One side of an "or" is enough, but a case without the series would always be silent.
    assert alerts.series_of(cases["fires"]) & read
    assert alerts.series_of(cases["silent"]) & read


@EACH
def test_an_alert_says_what_it_is_and_what_to_do(name: str) -> None:
    alert = alerts.alerts()[name]
    assert alert["labels"]["severity"] in SEVERITIES
    assert set(alert["annotations"]) == {"summary", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"{RUNBOOKS}#{name.lower()}"


def test_the_runbooks_are_those_of_the_alerts() -> None:
    headings = re.findall(r"^### (\w+)$", gate_repo.text(RUNBOOKS) or "", re.MULTILINE)
    assert sorted(headings) == sorted(alerts.alerts())


def test_the_role_installs_every_file_of_rules() -> None:
    listed = gate_repo.role_main("observability", "vars")["__observability_rules"]
    assert listed == [path.stem for path in alerts.RULES]


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("up == 0", {"up"}),
        ('sum by (a, b) (rate(x_total{a="up y"}[5m])) > 0.5', {"x_total"}),
        ("a / ignoring (s) group_left sum without (s) (b) > 1 and c", {"a", "b", "c"}),
        ("time() - max by (name) (t_seconds) > 3 * 86400", {"t_seconds"}),
        ("vector(1)", set()),
        ("vedfolnir:slow:ratio_rate5m > 1", {
            "vedfolnir_http_request_duration_seconds_bucket",
            "vedfolnir_http_request_duration_seconds_count",
        }),
    ],
)  # fmt: skip
def test_the_series_of_an_expression(expression: str, names: set[str]) -> None:
    assert alerts.metrics(expression) == names
