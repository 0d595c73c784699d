"""The self-check tells a well stack from one that is not, by exit code and as JSON."""

from __future__ import annotations

import json
import pathlib
import typing as t

from lab import Lab, Run

PLAYBOOK = "playbooks/self_check.yml"


def check(lab: Lab, report: pathlib.Path, *arguments: str) -> Run:
    """Run the playbook and let it write its report."""
    return lab.playbook(PLAYBOOK, *arguments, variables={"self_check_report": str(report)})


def test_a_well_stack_passes(healthy: Lab, tmp_path: pathlib.Path) -> None:
    before = healthy.started()
    for arguments in ((), ("--check",)):
        report = tmp_path / f"report{len(arguments)}.json"
        run = check(healthy, report, *arguments).check()
        content = json.loads(report.read_text(encoding="utf-8"))
        assert content["problems"] == []
        # The lab has no repository: that is said, and is no failure.
        assert [text.partition(":")[0] for text in content["warnings"]] == ["no backup"]
        assert "WARNING: no backup: this host takes none" in " ".join(run.output.split())
        assert set(content["services"]) == set(before)
        assert (content["site"]["status"], content["site"]["certificate"]) == (200, "trusted")
        assert {"app-1", "app-2", "mysql", "nginx", "redis", "vault"} == set(content["inside"])
        assert not any(content["inside"].values())
        # The controller does not know the lab's authority, and asks under the public name.
        assert content["outside"]["status"] == 200
        domain, port = (healthy.variables[f"stack_{name}"] for name in ("domain", "public_port"))
        assert content["outside"]["url"] == f"https://{domain}:{port}/health/ready"
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
    metrics = healthy.run("cat /srv/vedfolnir/metrics/self_check.prom")
    assert "vedfolnir_self_check_problems 2\n" in metrics


def test_the_host_looks_by_itself_and_nobody_else_is_told(healthy: Lab) -> None:
    assert healthy.run("systemctl is-active vedfolnir-watch.timer").strip() == "active"
    url = f"{healthy.https}/-/status"
    assert healthy.session().get(url, timeout=60).status_code == 403
    healthy.run("systemctl start vedfolnir-watch.service")
    seen = json.loads(healthy.run("cat /srv/vedfolnir/data/status/status.json"))
    assert seen["healthy"] is True
    assert set(seen["services"]) == healthy.services()
    # nginx sees the file that it would show.
    shown = healthy.exec("nginx", "cat /srv/status/status.json").stdout
    assert json.loads(shown)["services"] == seen["services"]
    metrics = healthy.run("cat /srv/vedfolnir/metrics/containers.prom")
    for name, item in healthy.inspect().items():
        line = f'vedfolnir_container_memory_limit_bytes{{name="{name}"}}'
        assert f"{line} {item['HostConfig']['Memory']}\n" in metrics


def test_a_controller_that_cannot_reach_the_site_is_a_problem(healthy: Lab) -> None:
    variables: dict[str, t.Any] = {"stack_public_address": "127.0.0.9"}
    run = healthy.playbook(PLAYBOOK, variables=variables)
    assert run.status != 0
    assert "From the controller: https://" in run.output
    variables["stack_verify_outside_enabled"] = False
    healthy.playbook(PLAYBOOK, variables=variables).check()
