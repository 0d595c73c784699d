from __future__ import annotations

import typing as t
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.vedfolnir.stack.plugins.action import preflight

ROLES = Path(__file__).parents[1] / "fixtures" / "roles"
GOOD = {
    "inventory_hostname": "h1",
    "ansible_facts": {"memtotal_mb": 2048},
    "stack_secrets": {"web": "kM4-pq9Zx-77Tr"},
    "web_name": "captions.example.org",
}

Run = t.Callable[[dict[str, t.Any], dict[str, t.Any]], dict[str, t.Any]]


@pytest.fixture(params=[False, True], ids=["run", "check"])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Call the action as Ansible does, in both modes."""
    monkeypatch.setattr(preflight, "_ROLES", ROLES)

    def call(args: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        task = MagicMock(args=args, async_val=0, check_mode=request.param, diff=False)
        loader = DataLoader()
        templar = Templar(loader=loader, variables=variables)
        action = preflight.ActionModule(task, MagicMock(), MagicMock(), loader, templar, None)
        action._load_name = "vedfolnir.stack.preflight"  # the plugin loader does so
        result: dict[str, t.Any] = action.run(task_vars=variables)
        return result

    return call


def test_a_good_inventory_passes(run: Run) -> None:
    result = run({"roles": ["web", "web_cache", "plain"]}, GOOD)
    assert not result.get("failed")
    assert result["changed"] is False
    assert result["problems"] == []
    assert result["msg"] == "No problem in 11 options and 4 rules."


def test_a_bad_inventory_fails_with_one_message(run: Run) -> None:
    result = run({"roles": ["web"]}, GOOD | {"web_prot": 1, "web_port": "x"})
    assert result["failed"] is True
    assert result["changed"] is False
    assert result["msg"] == (
        "2 problems for h1, nothing was changed:\n"
        "1. web_port must be of type int, but is 'x' (str).\n"
        "2. web_prot is not an option of vedfolnir.stack.web; did you mean web_port?"
    )
    assert result["problems"] == [
        {
            "variable": "web_port",
            "message": "web_port must be of type int, but is 'x' (str).",
        },
        {
            "variable": "web_prot",
            "message": "web_prot is not an option of vedfolnir.stack.web; did you mean web_port?",
        },
    ]


def test_the_variables_of_the_play_stay_as_they_were(run: Run) -> None:
    variables = dict(GOOD)
    run({"roles": ["web"]}, variables)
    assert variables == GOOD


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            {"roles": ["wep"]},
            "preflight: no role wep with argument specs; there are plain, web, web_cache",
        ),
        ({}, "missing required arguments: roles"),
        ({"roles": ["web"], "rolles": 1}, "Unsupported parameters"),
    ],
)
def test_bad_arguments_are_refused(run: Run, args: dict[str, t.Any], message: str) -> None:
    with pytest.raises(AnsibleActionFail) as error:
        run(args, GOOD)
    assert message in str(error.value)
