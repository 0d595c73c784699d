"""The alert rules, judged by Prometheus' own tool; no host is needed."""

from __future__ import annotations

import pathlib
import subprocess

import alerts
import pytest
import yaml


def promtool(*arguments: str) -> str:
    """Run it and return what it says; fail the test if it finds something."""
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_are_valid() -> None:
    said = promtool("check", "rules", *map(str, alerts.RULES))
    assert said.count("SUCCESS") == len(alerts.RULES)


@pytest.mark.parametrize("name", alerts.alerts())
def test_an_alert_fires_when_it_must_and_else_is_silent(name: str, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump(alerts.promtool_tests(name)), encoding="utf-8")
    assert "SUCCESS" in promtool("test", "rules", str(file))


def test_a_copy_that_has_never_got_logs_is_told(tmp_path: pathlib.Path) -> None:
    """The other half of the rule; one case fires for one reason."""
    test = alerts.promtool_tests("CopyLogsNotShipped")
    test["tests"][0]["input_series"] = [
        {
            "series": 'vedfolnir_backup_copy_ship_last_exit_code{repository="/mnt/a"}',
            "values": "6x20",
        }
    ]
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump(test), encoding="utf-8")
    assert "SUCCESS" in promtool("test", "rules", str(file))


def test_promtool_tests_can_fail(tmp_path: pathlib.Path) -> None:
    wrong = alerts.promtool_tests("RedisDown")
    wrong["tests"][0]["input_series"][0]["values"] = "1x5"
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump(wrong), encoding="utf-8")
    done = subprocess.run(
        ["promtool", "test", "rules", str(file)], capture_output=True, check=False
    )
    assert done.returncode != 0
