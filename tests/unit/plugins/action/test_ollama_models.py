from __future__ import annotations

import typing as t
from unittest.mock import MagicMock

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible_collections.vedfolnir.stack.plugins.action import ollama_models

Answers = list[dict[str, t.Any]]

PART = {"changed": True, "missing": ["a", "b"], "pulled": [], "progress": "a: 10 %"}
ONE = {"changed": True, "missing": ["b"], "pulled": ["a"], "progress": "a: complete"}
LAST = {"changed": True, "missing": [], "pulled": ["b"], "progress": "b: complete"}
NONE = {"changed": False, "missing": [], "pulled": [], "progress": ""}
FAILED = {"failed": True, "msg": "Ollama cannot pull b: no space left"}


class Clock:
    """A clock that is a minute further each time somebody looks."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 60
        return self.now


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what the action shows while it works."""
    lines: list[str] = []
    monkeypatch.setattr(ollama_models, "_DISPLAY", MagicMock(display=lines.append))
    monkeypatch.setattr(ollama_models, "time", Clock())
    return lines


def run(answers: Answers, check: bool = False, **args: t.Any) -> tuple[dict[str, t.Any], int]:
    """Run the action on a module that answers this; return the result and the number of calls."""
    task = MagicMock(args=args, async_val=0, check_mode=check, diff=False)
    loader = DataLoader()
    action = ollama_models.ActionModule(task, MagicMock(), MagicMock(), loader, MagicMock(), None)
    module = MagicMock(side_effect=answers)
    action._execute_module = module
    result: dict[str, t.Any] = action.run(task_vars={})
    return result, module.call_count


@pytest.mark.parametrize(
    ("answers", "changed", "pulled", "progress"),
    [
        ([NONE], False, [], []),
        ([LAST], True, ["b"], []),
        ([PART, ONE, LAST], True, ["a", "b"], ["  a: 10 %", "  a: complete"]),
        # What an earlier slice changed stays a change when the last one finds nothing to do.
        ([ONE, NONE], True, ["a"], ["  a: complete"]),
    ],
)
def test_the_module_is_called_until_nothing_is_missing(
    shown: list[str], answers: Answers, changed: bool, pulled: list[str], progress: list[str]
) -> None:
    result, calls = run(answers)
    assert calls == len(answers)
    assert not result.get("failed")
    assert (result["changed"], result["pulled"], result["missing"]) == (changed, pulled, [])
    assert shown == progress


@pytest.mark.usefixtures("shown")
def test_a_failure_ends_it_and_keeps_what_was_done() -> None:
    result, calls = run([ONE, FAILED, LAST])
    assert calls == 2
    assert (result["failed"], result["msg"]) == (True, FAILED["msg"])
    assert (result["changed"], result["pulled"]) == (True, ["a"])


@pytest.mark.usefixtures("shown")
def test_a_prediction_is_made_once() -> None:
    result, calls = run([PART, LAST], check=True)
    assert calls == 1
    assert result["missing"] == ["a", "b"]
    assert not result.get("failed")


@pytest.mark.usefixtures("shown")
def test_it_ends_when_the_time_is_up() -> None:
    result, calls = run([PART] * 9, timeout_minutes=3)
    assert calls == 4
    assert result["failed"] is True
    assert result["msg"] == (
        "a, b: not complete after 3 minutes; "
        "run again to continue, or raise ollama_pull_timeout_minutes"
    )
