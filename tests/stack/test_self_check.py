"""The self-check tells a well stack from one that is not, by exit code and as JSON."""

from __future__ import annotations

import json
import pathlib

from lab import Lab, Run

PLAYBOOK = "playbooks/self_check.yml"


def check(lab: Lab, report: pathlib.Path, *arguments: str) -> Run:
    """Run the playbook and let it write its report."""
    return lab.playbook(PLAYBOOK, *arguments, variables={"self_check_report": str(report)})


def test_a_well_stack_passes(healthy: Lab, tmp_path: pathlib.Path) -> None:
    before = healthy.started()
    for arguments in ((), ("--check",)):
        report = tmp_path / f"report{len(arguments)}.json"
        check(healthy, report, *arguments).check()
        content = json.loads(report.read_text(encoding="utf-8"))
        assert content["problems"] == []
        assert set(content["services"]) == set(before)
        assert (content["site"]["status"], content["site"]["certificate"]) == (200, "trusted")
    assert healthy.started() == before


def test_a_service_that_is_down_is_named(healthy: Lab, tmp_path: pathlib.Path) -> None:
    healthy.compose("stop worker ollama")
    run = check(healthy, tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert run.status != 0
    down = [name for name, service in content["services"].items() if not service["ok"]]
    assert down == ["ollama", "worker"]
    assert content["healthy"] is False
    assert "worker is exited with status" in run.output
