"""Ports that are taken, with a real listener and a program that stands in for docker."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from vedfolnir_lab import hosts, paths, ports
from vedfolnir_lab.shell import LabError


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind((ports.ADDRESS, 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the only programs there are, so that no real engine is asked."""
    monkeypatch.setattr(paths, "VENV_BIN", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def write(path: Path, said: str) -> None:
    path.write_text(f"#!/bin/sh\necho '{said}'\n")
    path.chmod(0o755)


def test_free_ports_are_fine(taken: int, programs: Path) -> None:
    write(programs / "docker", "")
    with socket.socket() as probe:
        probe.bind((ports.ADDRESS, 0))
        free = probe.getsockname()[1]
    assert free != taken
    ports.require({free: "host"})


def test_a_port_of_the_labs_own_container_is_fine(taken: int, programs: Path) -> None:
    write(programs / "docker", "host")
    ports.require({taken: "host"})


def test_a_port_of_another_container_is_reported(taken: int, programs: Path) -> None:
    write(programs / "docker", "stranger")
    message = f"On 127.0.0.1 port {taken}, which host needs, is taken by the container stranger. "
    with pytest.raises(LabError, match=message + r"Stop what holds it, then run \./lab again"):
        ports.require({taken: "host"})


def test_a_port_of_a_program_is_reported_with_its_name(taken: int, programs: Path) -> None:
    write(programs / "docker", "")
    write(programs / "ss", f'LISTEN 0 5 127.0.0.1:{taken} 0.0.0.0:* users:(("nginx",pid=12,fd=3))')
    with pytest.raises(LabError, match=r"is taken by nginx \(process 12\)\. Stop"):
        ports.require({taken: "host"})


@pytest.mark.usefixtures("programs")
def test_without_any_tool_the_port_is_reported_still(taken: int) -> None:
    with pytest.raises(LabError, match=f"port {taken}, .* is taken by another program"):
        ports.require({taken: "host"})


def test_all_that_the_lab_publishes_is_looked_at() -> None:
    assert hosts.published_ports() == {
        2222: "vedfolnir-lab",
        8080: "vedfolnir-lab",
        8443: "vedfolnir-lab",
        8091: "vedfolnir-lab-fediverse",
        8092: "vedfolnir-lab-mastodon",
    }


def test_nothing_is_made_when_a_port_is_taken(
    taken: int, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(programs / "docker", "")
    monkeypatch.setattr(hosts, "published_ports", lambda: {taken: "host"})
    for name in ("prepare", "destroy", "create"):
        monkeypatch.setattr(hosts, name, lambda *_args, name=name: pytest.fail(name))
    with pytest.raises(LabError, match="is taken by"):
        hosts.start()


def test_this_machines_own_tool_is_understood(taken: int) -> None:
    assert ports._program(taken) in {f"{_own_name()} (process {os.getpid()})", "another program"}


def _own_name() -> str:
    return Path("/proc/self/comm").read_text().strip()
