from __future__ import annotations

import functools
import typing as t
from collections.abc import Callable
from pathlib import Path

import ansible.template as core_template
import pytest
from ansible.parsing.dataloader import DataLoader
from ansible_collections.vedfolnir.stack.plugins.plugin_utils import (
    preflight,
    preflight_data,
    preflight_templates,
)

ROLES = Path(__file__).parents[1] / "fixtures" / "roles"


def trusted(value: t.Any) -> t.Any:
    """Mark texts as Ansible marks what it reads from an inventory."""
    trust: Callable[[str], str] = getattr(core_template, "trust_as_template", str)
    if isinstance(value, str):
        return trust(value)
    if isinstance(value, dict):
        return {key: trusted(part) for key, part in value.items()}
    if isinstance(value, list):
        return [trusted(part) for part in value]
    return value


Inspect = Callable[..., list[str]]


@pytest.fixture
def inspect() -> Inspect:
    """Run preflight over fixture roles and return the messages."""

    def run(
        variables: dict[str, t.Any],
        roles: t.Sequence[str] = ("web", "web_cache", "plain"),
        deferred: t.Sequence[str] = (),
        directory: Path = ROLES,
    ) -> list[str]:
        loader = DataLoader()
        load = functools.partial(preflight_templates.load_trusted, loader)
        inspection = preflight.Inspection(
            roles=preflight_data.load_roles(roles, directory, load),
            all_roles=preflight_data.role_names(directory),
            variables=trusted(variables),
            templar=core_template.Templar(loader=loader, variables={}),
            deferred=frozenset(deferred),
        )
        return [problem.message for problem in inspection.run()]

    return run
