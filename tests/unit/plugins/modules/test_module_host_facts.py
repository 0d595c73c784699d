from __future__ import annotations

import pathlib
import typing as t

import pytest
from ansible_collections.vedfolnir.stack.plugins.modules import host_facts

Run = t.Callable[..., dict[str, t.Any]]

DOCKER = """#!/bin/sh
[ "$1" = ps ] && exit 0
echo "$@" >> "{log}"
echo "/usr/sbin/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))"
"""


def arguments(directory: pathlib.Path, image: str = "mysql:9.7.1") -> dict[str, str]:
    later = directory / "later"
    return {"path": str(later), "mysql_data": str(later / "mysql"), "mysql_image": image}


@pytest.mark.parametrize("check", [False, True])
def test_the_facts_are_plausible_and_nothing_changes(
    run_module: Run, tmp_path: pathlib.Path, check: bool
) -> None:
    result = run_module(host_facts.main, check=check, **arguments(tmp_path))
    assert result["changed"] is False
    facts = result["ansible_facts"]["vedfolnir_host"]
    wanted = ("addresses", "memory_mb", "disk_free_mb", "listeners", "published")
    assert set(facts) == {*wanted, "nvidia", "mysql"}
    assert facts["mysql"] == {"data": "", "image": ""}
    assert result["ansible_facts"]["ansible_distribution"] == "Debian"
    assert {"interface": "lo", "address": "127.0.0.1"} in facts["addresses"]
    assert facts["memory_mb"] > 64
    assert facts["disk_free_mb"] > 0
    assert all(set(item) == {"port", "process"} for item in facts["listeners"])
    assert not (tmp_path / "later").exists()


def test_a_path_is_needed(run_module: Run) -> None:
    result = run_module(host_facts.main)
    assert result["failed"] is True
    assert result["msg"] == "missing required arguments: mysql_data, mysql_image, path"


@pytest.mark.parametrize(
    ("data", "image", "asked"),
    [
        ("8.4.3", "mysql:lts", True),
        ("8.4.3", "mysql@sha256:abc", True),
        ("8.4.3", "mysql:9.7.1", False),  # the tag tells
        ("8.4.3", "", False),
        ("", "mysql:lts", False),  # nothing to compare with
    ],
)
def test_the_image_is_asked_for_its_version_only_when_its_tag_has_none(
    run_module: Run,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    data: str,
    image: str,
    asked: bool,
) -> None:
    log, docker = tmp_path / "log", tmp_path / "docker"
    log.touch()
    docker.write_text(DOCKER.format(log=log))
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    given = arguments(tmp_path, image)
    directory = pathlib.Path(given["mysql_data"])
    directory.mkdir(parents=True)
    (directory / "mysql_upgrade_info").write_text(data)
    result = run_module(host_facts.main, **given)
    found = result["ansible_facts"]["vedfolnir_host"]["mysql"]
    assert found == {"data": data, "image": "9.7.4" if asked else ""}
    command = f"run --rm --pull never --network none --entrypoint mysqld {image} --version\n"
    assert log.read_text() == (command if asked else "")
