from __future__ import annotations

import pathlib

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import containers


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        (
            "redis\tcache\t1\tr1\nweb\tapp\t2\t\n",
            {
                "redis": {"fragment": "cache", "digest": "1", "secrets": "r1"},
                "web": {"fragment": "app", "digest": "2", "secrets": ""},
            },
        ),
        ("redis\t\t\t\n", {"redis": {"fragment": "", "digest": "", "secrets": ""}}),
        (
            "redis\ta\t1\tr\nredis\ta\t1\tr\n",
            {"redis": {"fragment": "a", "digest": "", "secrets": "r"}},
        ),
    ],
)
def test_labels_tell_what_containers_are_made_of(
    text: str, found: dict[str, dict[str, str]]
) -> None:
    assert containers.read(text) == found


@pytest.mark.parametrize(
    ("script", "found"),
    [
        (
            'echo "$@" > {log}; printf "a\\tb\\tc\\td\\n"',
            {"a": {"fragment": "b", "digest": "c", "secrets": "d"}},
        ),
        ('printf "a\\tb\\tc\\td\\n"; exit 1', {}),
        ("exec sleep 20", {}),
    ],
)
def test_the_engine_is_asked_for_the_project(
    tmp_path: pathlib.Path, script: str, found: dict[str, dict[str, str]]
) -> None:
    docker, log = tmp_path / "docker", tmp_path / "log"
    docker.write_text("#!/bin/sh\n" + script.replace("{log}", str(log)))
    docker.chmod(0o755)
    assert containers.look(str(docker), "stack", timeout=2) == found
    if found:
        assert "label=com.docker.compose.project=stack" in log.read_text()


@pytest.mark.parametrize("docker", [None, "/nonexistent/docker"])
def test_without_a_client_there_are_no_containers(docker: str | None) -> None:
    assert containers.look(docker, "stack") == {}
