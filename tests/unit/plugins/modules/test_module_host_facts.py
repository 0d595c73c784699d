from __future__ import annotations

import pathlib
import typing as t

import pytest
from ansible_collections.vedfolnir.stack.plugins.modules import host_facts

Run = t.Callable[..., dict[str, t.Any]]


@pytest.mark.parametrize("check", [False, True])
def test_the_facts_are_plausible_and_nothing_changes(
    run_module: Run, tmp_path: pathlib.Path, check: bool
) -> None:
    result = run_module(host_facts.main, check=check, path=str(tmp_path / "later"))
    assert result["changed"] is False
    facts = result["ansible_facts"]["vedfolnir_host"]
    assert set(facts) == {"addresses", "memory_mb", "disk_free_mb", "listeners", "published"}
    assert result["ansible_facts"]["ansible_distribution"] == "Debian"
    assert {"interface": "lo", "address": "127.0.0.1"} in facts["addresses"]
    assert facts["memory_mb"] > 64
    assert facts["disk_free_mb"] > 0
    assert all(set(item) == {"port", "process"} for item in facts["listeners"])
    assert not (tmp_path / "later").exists()


def test_a_path_is_needed(run_module: Run) -> None:
    result = run_module(host_facts.main)
    assert result["failed"] is True
    assert result["msg"] == "missing required arguments: path"
