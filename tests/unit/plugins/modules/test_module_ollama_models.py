from __future__ import annotations

import json
import os
import pathlib
import socket
import typing as t

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vedfolnir.stack.plugins.modules import ollama_models

Run = t.Callable[..., dict[str, t.Any]]
Call = t.Callable[..., dict[str, t.Any]]

DOCKER = """#!/bin/sh
[ "$*" = "container inspect ollama-1" ] || { echo "[]"; exit 1; }
echo '%s'
"""


def inspected(*addresses: str) -> str:
    """Return what docker says about a container with these addresses."""
    networks = {f"network{number}": {"IPAddress": a} for number, a in enumerate(addresses)}
    return json.dumps([{"NetworkSettings": {"Networks": networks}}])


@pytest.fixture
def address() -> str:
    """Return an address of this machine's own: the module asks its port 11434."""
    while True:
        address = ".".join(["127", *(str(1 + number % 254) for number in os.urandom(3))])
        with socket.socket() as probe:
            if probe.connect_ex((address, 11434)) != 0:
                return address


@pytest.fixture
def call(
    tmp_path: pathlib.Path, address: str, run_module: Run, monkeypatch: pytest.MonkeyPatch
) -> Call:
    """Call the module with a docker command that knows one container."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory), prepend=os.pathsep)

    def run(
        *models: str,
        addresses: tuple[str, ...] = ("", address),
        check: bool = False,
        **args: t.Any,
    ) -> dict[str, t.Any]:
        (directory / "docker").write_text(DOCKER % inspected(*addresses))
        (directory / "docker").chmod(0o755)
        given = {"container": "ollama-1", "models": list(models), **args}
        return run_module(ollama_models.main, check=check, **given)

    return run


def pick(result: dict[str, t.Any]) -> tuple[t.Any, ...]:
    """Return the parts of a result that a caller goes by."""
    return result["changed"], result["missing"], result["pulled"]


def test_check_and_do_agree_and_the_second_time_nothing_is_left(
    call: Call, address: str, ollama_standin: t.Callable[..., str]
) -> None:
    ollama_standin(host=f"{address}:11434")
    assert pick(call("moondream", check=True)) == (True, ["moondream"], ["moondream"])
    assert pick(call("moondream")) == (True, [], ["moondream"])
    assert pick(call("moondream", check=True)) == (False, [], [])
    assert pick(call("moondream")) == (False, [], [])


def test_one_model_is_pulled_with_each_call(
    call: Call, address: str, ollama_standin: t.Callable[..., str]
) -> None:
    ollama_standin(host=f"{address}:11434")
    first = call("moondream", "llava:7b")
    assert pick(first) == (True, ["llava:7b"], ["moondream"])
    assert first["progress"] == "moondream: complete"
    assert pick(call("moondream", "llava:7b")) == (True, [], ["llava:7b"])


def test_a_slice_that_is_too_short_says_how_far_it_came(
    call: Call, address: str, ollama_standin: t.Callable[..., str]
) -> None:
    ollama_standin(host=f"{address}:11434", rate=1_000_000)
    result = call("llava:7b", slice_seconds=1)
    assert pick(result) == (True, ["llava:7b"], [])
    assert result["progress"].startswith("llava:7b: pulling ")


def test_a_model_that_nobody_has_is_refused(
    call: Call, address: str, ollama_standin: t.Callable[..., str]
) -> None:
    ollama_standin(host=f"{address}:11434")
    result = call("no-such-model")
    assert result["failed"] is True
    assert result["msg"].startswith("Ollama cannot pull no-such-model: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"addresses": ("",)}, "the container ollama-1 is not running; see `docker logs ollama-1`"),
        ({"container": "x"}, "the container x is not running; see `docker logs x`"),
        ({}, "Ollama does not answer at http://{address}:11434/api/tags: "),
    ],
)
def test_what_is_not_there_is_named_and_predicted_as_a_change(
    call: Call, address: str, options: dict[str, t.Any], message: str
) -> None:
    message = message.format(address=address)
    done = call("a", **options)
    assert done["failed"] is True
    assert done["msg"].startswith(message)
    # A fresh host: the run before this task would have started the container.
    predicted = call("a", check=True, **options)
    assert pick(predicted) == (True, ["a"], ["a"])
    assert predicted["progress"].startswith(message)


def test_a_host_without_docker(run_module: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AnsibleModule, "get_bin_path", lambda *_args: None)
    given = {"container": "ollama-1", "models": ["a"]}
    assert pick(run_module(ollama_models.main, check=True, **given)) == (True, ["a"], ["a"])
    done = run_module(ollama_models.main, **given)
    assert done["failed"] is True
    assert done["msg"] == "There is no docker command on this host; run the role docker_host first"
