"""Rules of the roles themselves that need facts which the lab host cannot have."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

Inspect = t.Callable[..., list[str]]

ROLES = Path(__file__).parents[4] / "roles"


@pytest.fixture
def rules(inspect: Inspect) -> Inspect:
    """Run the rules of one role on a host of which the given facts are known."""

    def run(role: str, facts: dict[str, t.Any] | None = None, **options: t.Any) -> list[str]:
        known = {
            "inventory_hostname": "h1",
            "ansible_facts": {"vedfolnir_host": facts or {}},
            "stack_converge_timeout_seconds": 600,
        }
        return inspect(known | options, roles=[role], directory=ROLES)

    return run


def account(*grants: dict[str, t.Any]) -> list[dict[str, t.Any]]:
    return [{"name": "app", "secret": "mysql_app", "grants": list(grants)}]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mysql_database": "captions"},  # the default account follows
        {"mysql_users": account({"object": "vedfolnir.*", "privileges": ["SELECT"]})},
        {"mysql_users": account({"object": "vedfolnir", "privileges": ["SELECT"]})},
        {
            "mysql_database": "captions",
            "mysql_users": account(
                {"object": "vedfolnir.*", "privileges": []},
                {"object": "captions.*", "privileges": ["SELECT"]},
            ),
        },
    ],
)
def test_the_application_has_rights_on_its_database(
    rules: Inspect, options: dict[str, t.Any]
) -> None:
    assert rules("mysql", **options) == []


@pytest.mark.parametrize(
    "users",
    [
        account(),
        account({"object": "vedfolnir.*", "privileges": ["SELECT"]}),
        account({"object": "captions.*", "privileges": []}),
        account({"object": "captions2.*", "privileges": ["SELECT"]}),
        [{"name": "app", "secret": "mysql_app"}],
    ],
)
def test_an_account_without_rights_on_the_database_is_refused(
    rules: Inspect, users: list[dict[str, t.Any]]
) -> None:
    assert rules("mysql", mysql_database="captions", mysql_users=users) == [
        "mysql_users gives the application's account no rights on mysql_database (captions); "
        "add grants with the object captions.*"
    ]


def test_a_start_may_not_outlast_the_run(rules: Inspect) -> None:
    assert rules("mysql", mysql_start_period_seconds=600) == []
    assert rules("mysql", mysql_start_period_seconds=601) == [
        "mysql_start_period_seconds is 601, longer than a run waits for the services; raise "
        "stack_converge_timeout_seconds (600) too"
    ]


@pytest.mark.parametrize(
    ("data", "told", "image", "problem"),
    [
        ("", "", "mysql:8.4.3", None),
        ("9.7.4", "", "mysql:9.7.1", None),
        ("8.4.3", "", "mysql:9.7.1", None),
        ("8.4.3", "9.7.1", "mysql:lts", None),
        (
            *("9.7.4", "", "mysql:8.4.3"),
            "mysql_image is mysql:8.4.3, but the data are of MySQL 9.7.4, which MySQL 8.4.3 cannot "
            "take back; choose MySQL 9.7 or later, or load a dump into an empty data directory",
        ),
        (
            *("8.0.36", "9.7.1", "mysql:lts"),
            "mysql_image is mysql:lts, but the data are of MySQL 8.0.36, and MySQL 9.7.1 cannot "
            "skip a long-term release; choose MySQL 8.4, deploy, and then go on",
        ),
        (
            *("9.7.4", "", "mysql:lts"),
            "mysql_image is mysql:lts, but the data are of MySQL 9.7.4 and the version of the "
            "image is not known; write it into the tag (mysql:9.7.1@sha256:…), or pull the image "
            "on the host before the run",
        ),
    ],
)
def test_an_image_has_to_suit_the_data(
    rules: Inspect, data: str, told: str, image: str, problem: str | None
) -> None:
    facts = {"mysql": {"data": data, "image": told}}
    assert rules("mysql", facts, mysql_image=image) == ([problem] if problem else [])


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        ({"driver": True, "toolkit": True}, []),
        ({"driver": True, "toolkit": False}, ["container toolkit"]),
        ({"driver": False, "toolkit": True}, ["driver"]),
        ({"driver": False, "toolkit": False}, ["container toolkit", "driver"]),
    ],
)
def test_a_graphics_card_needs_its_driver_and_toolkit(
    rules: Inspect, there: dict[str, bool], missing: list[str]
) -> None:
    facts = {"nvidia": there}
    assert rules("ollama", facts, ollama_gpus=1) == [
        f"ollama_gpus is 1, but h1 has no NVIDIA {what}; install it, or set ollama_gpus to 0"
        for what in missing
    ]
    assert rules("ollama", facts) == []
    external = {"ollama_managed": False, "ollama_url": "http://gpu.example.org:11434"}
    assert rules("ollama", facts, ollama_gpus=1, **external) == []
