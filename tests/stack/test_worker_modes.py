"""Who captions: each worker mode proves it by a caption that arrives, and leaves nothing behind."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from lab import Lab, redis_cli
from visitor import Caption, Platform, Visitor, caption_arrives


@dataclasses.dataclass(frozen=True)
class Mode:
    """A mode, what it is deployed with, and the containers that caption then."""

    name: str
    options: dict[str, t.Any]
    containers: frozenset[str]


# The last one is the inventory's, so that putting it back afterwards is short.
MODES = [
    Mode("rq", {"app_worker_count": 2}, frozenset({"worker-1", "worker-2"})),
    Mode("integrated", {}, frozenset()),
    Mode("polling", {}, frozenset({"worker"})),
]


@pytest.fixture(scope="module", autouse=True)
def _inventory_values(lab: Lab) -> t.Iterator[None]:
    before = lab.inspect().keys()
    yield
    lab.playbook().check()
    assert lab.inspect().keys() == before
    assert lab.unhealthy() == []


@pytest.fixture(autouse=True)
def _tidy(admin: Visitor) -> t.Iterator[None]:
    admin.remove_platforms()
    yield
    admin.remove_platforms()


def _services(lab: Lab) -> set[str]:
    """Return the services of all containers of the project, stopped ones too."""
    label = "com.docker.compose"
    return set(
        lab.run(
            f"docker ps --all --filter label={label}.project=vedfolnir"
            f" --format '{{{{.Label \"{label}.service\"}}}}'"
        ).split()
    )


def _rq_job(lab: Lab, caption: Caption) -> str:
    """Return what became of the task's RQ job; nothing when there was none."""
    return redis_cli(lab, f"--raw HGET rq:job:{caption.task} status")


def _who_processed(lab: Lab, caption: Caption) -> list[str]:
    """Return the services that say in their log that they took the task."""
    return [
        service
        for service in sorted(lab.inspect())
        if service.startswith(("app-", "worker"))
        and f"Processing task {caption.task}" in lab.compose(f"logs --since 15m {service}")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_a_mode_captions_with_its_own_containers_only(lab: Lab, admin: Visitor, mode: Mode) -> None:
    variables = {"app_worker_mode": mode.name, **mode.options}
    lab.playbook(variables=variables).check()
    assert lab.unhealthy() == []
    workers = {name for name in _services(lab) if name.startswith("worker")}
    assert workers == mode.containers

    caption = caption_arrives(admin, Platform.of(lab, "fediverse.lab"))

    assert _rq_job(lab, caption) == ("finished" if mode.name == "rq" else "")
    (worker,) = _who_processed(lab, caption)
    assert worker in (mode.containers or {"app-1", "app-2"})
    secrets = lab.run("ls /run/vedfolnir/secrets").split()
    assert ("worker" in secrets) == bool(mode.containers)
    assert lab.playbook(variables=variables).check().recap["changed"] == 0
