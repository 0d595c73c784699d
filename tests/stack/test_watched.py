"""What watches the stack sees all of it; the part ``observability`` breaks things and looks on."""

from __future__ import annotations

import json
import typing as t

from lab import Lab, wait_until


def ask(lab: Lab, path: str) -> t.Any:
    """Return the data of an answer of Prometheus' API."""
    url = f"http://127.0.0.1:9090/api/v1/{path}"
    return json.loads(lab.run(f"docker exec vedfolnir-prometheus-1 wget -q -O - '{url}'"))["data"]


def targets(lab: Lab) -> dict[str, str]:
    """Return the health of each target."""
    active = ask(lab, "targets?state=active")["activeTargets"]
    return {f"{one['labels']['job']} {one['scrapeUrl']}": one["health"] for one in active}


def test_every_target_is_up(healthy: Lab) -> None:
    assert {"app", "mysql", "redis", "tasks", "vault"} <= {
        name.partition(" ")[0] for name in targets(healthy)
    }
    wait_until(lambda: set(targets(healthy).values()) == {"up"}, 120, "not every target is up")


def test_every_rule_can_be_evaluated(healthy: Lab) -> None:
    rules = [rule for group in ask(healthy, "rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 40
    wait_until(
        lambda: (
            {rule["health"] for group in ask(healthy, "rules")["groups"] for rule in group["rules"]}
            == {"ok"}
        ),
        90,
        "not every rule could be evaluated",
    )
