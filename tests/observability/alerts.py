"""The alert rules and their cases as data, and how they become a test of promtool's."""

from __future__ import annotations

import pathlib
import re
import typing as t

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULES = sorted((ROOT / "roles/observability/files/rules").glob("*.yml"))
CASES: dict[str, dict[str, t.Any]] = yaml.safe_load(
    (ROOT / "tests/observability/alerts.yml").read_text(encoding="utf-8")
)
_STRING = re.compile(r"\"[^\"]*\"")
_GROUPING = ("by", "group_left", "group_right", "ignoring", "on", "without")
_KEYWORDS = frozenset([*_GROUPING, "and", "bool", "offset", "or", "unless"])
_NAME = re.compile(r"(?<![\w:])([a-zA-Z_:][\w:]*)\b(?!\s*\()")


def rules() -> list[dict[str, t.Any]]:
    """Return every rule of every group."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> dict[str, dict[str, t.Any]]:
    """Return the alerts by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def recorded() -> dict[str, str]:
    """Return the expressions of recorded series by name."""
    return {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}


def metrics(expression: str) -> set[str]:
    """Return the names of the series that an expression reads, also through recorded ones."""
    text = _STRING.sub("", expression)
    text = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", text)
    text = re.sub(rf"\b({'|'.join(_GROUPING)})\s*\([^)]*\)", " ", text)
    found: set[str] = set()
    for name in set(_NAME.findall(text)) - _KEYWORDS:
        own = recorded().get(name)
        found |= metrics(own) if own else {name}
    return found


def series_of(case: t.Mapping[str, t.Any]) -> set[str]:
    """Return the names of the series that a case has."""
    return {str(name).partition("{")[0] for name in case["series"]}


def promtool_tests(name: str) -> dict[str, t.Any]:
    """Return the file for ``promtool test rules`` with an alert's two cases."""
    alert, cases = alerts()[name], CASES[name]
    expected = {
        "exp_labels": alert["labels"] | cases["fires"]["labels"],
        "exp_annotations": alert["annotations"],
    }
    tests = [_test(name, cases["fires"], [expected])]
    if cases["silent"] != "never":
        tests.append(_test(name, cases["silent"], []))
    return {
        "rule_files": [str(path) for path in RULES],
        "evaluation_interval": "1m",
        "tests": tests,
    }


def _test(name: str, case: t.Mapping[str, t.Any], expected: list[t.Any]) -> dict[str, t.Any]:
    asked = {"eval_time": case["at"], "alertname": name, "exp_alerts": expected}
    series = [{"series": key, "values": str(value)} for key, value in case["series"].items()]
    return {"interval": "1m", "input_series": series, "alert_rule_test": [asked]}
