"""Bad inventories are refused before anything changes: all problems, with the exact text."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import pathlib
import subprocess
import typing as t

import pytest
import yaml
from lab import ROOT, SSH_OPTIONS, Lab, ansible_environment, load_yaml

CASES: list[dict[str, t.Any]] = load_yaml(pathlib.Path(__file__).with_name("bad_inventories.yml"))
DIRECTORIES = ("/etc", "/run/vedfolnir", "/srv/vedfolnir", "/usr/local")
PREFLIGHT = "Check the whole inventory and the host before anything is changed"
RELEASES = {
    "Debian 11": 'ID=debian\nNAME="Debian GNU/Linux"\nVERSION_ID="11"\n',
    "Debian 14": 'ID=debian\nNAME="Debian GNU/Linux"\nVERSION_ID="14"\n',
    "Ubuntu 24.04": 'ID=ubuntu\nID_LIKE=debian\nNAME=Ubuntu\nVERSION_ID="24.04"\n',
}
"""What /usr/lib/os-release says on hosts that are not supported."""


class State(t.NamedTuple):
    """What a run could have changed on the host."""

    containers: dict[str, str]
    packages: list[str]
    files: dict[str, str]

    @classmethod
    def of(cls, lab: Lab) -> State:
        """Look at the host."""
        return cls(lab.started(), lab.packages(), lab.files(*DIRECTORIES))


def failures(argv: list[str]) -> dict[str, dict[str, t.Any]]:
    """Run a preflight and return, by host, the task that failed and the facts known until then."""
    callbacks = ("ANSIBLE_STDOUT_CALLBACK", "ANSIBLE_CALLBACKS_ENABLED")
    environment = ansible_environment() | dict.fromkeys(callbacks, "ansible.posix.json")
    result = subprocess.run(
        argv, cwd=ROOT, capture_output=True, text=True, check=False, env=environment, timeout=900
    )
    document = json.loads(result.stdout[result.stdout.index("{") :])
    found: dict[str, dict[str, t.Any]] = {}
    facts: dict[str, dict[str, t.Any]] = {}
    for task in document["plays"][0]["tasks"]:
        for host, outcome in task["hosts"].items():
            if outcome.get("failed"):
                found[host] = {**outcome, "facts": facts.get(host, {})}
            facts.setdefault(host, {}).update(outcome.get("ansible_facts") or {})
    return found


@pytest.fixture(scope="module")
def before(lab: Lab) -> State:
    """The host's state before the first run of this module."""
    return State.of(lab)


@pytest.fixture(scope="module")
def refusals(
    lab: Lab, before: State, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, t.Any]]:
    """One preflight run's results, in which each case is a host of its own: always the lab's."""
    assert before.files
    common = {
        name: lab.variables[name]
        for name in ("ansible_port", "ansible_host", "ansible_user", "ansible_ssh_private_key_file")
    }
    common["ansible_ssh_common_args"] = " ".join(f"-o {option}" for option in SSH_OPTIONS)
    hosts = {f"case{number:02}": {**common, **case["set"]} for number, case in enumerate(CASES)}
    inventory = tmp_path_factory.mktemp("bad") / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"vedfolnir": {"hosts": hosts}}), encoding="utf-8")
    argv = lab.playbook_argv("playbooks/preflight.yml", "-i", str(inventory), "--forks", "6")
    argv[argv.index("--limit") + 1] = "case*"
    return failures(argv)


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case["name"] for case in CASES])
def test_a_bad_inventory_is_refused_with_the_exact_message(
    lab: Lab,
    refusals: dict[str, dict[str, t.Any]],
    number: int,
) -> None:
    """Every problem of the inventory, and no other."""
    host = f"case{number:02}"
    assert host in refusals, "the inventory was accepted"
    refusal = refusals[host]
    found = [problem["message"] for problem in refusal.get("problems") or []]
    room = refusal["facts"]["vedfolnir_host"]
    network = ipaddress.ip_network(lab.variables["lab_network_subnet"])
    values = {
        "host": host,
        "root": str(ROOT),
        "address": next(
            item["address"]
            for item in room["addresses"]
            if ipaddress.ip_address(item["address"]) in network
        ),
        "memory_mb": room["memory_mb"],
        "disk_free_mb": room["disk_free_mb"],
    }
    assert found == [text.format(**values) for text in CASES[number]["problems"]]


@contextlib.contextmanager
def pretending(lab: Lab, release: str) -> t.Iterator[None]:
    """Let the host pretend to be of another release; the mount hides its own file, no more."""
    path, cover = "/usr/lib/os-release", "/run/test-os-release"
    try:
        lab.run(f"cat > {cover} && mount --bind {cover} {path}", stdin=RELEASES[release])
        yield
    finally:
        lab.run(f"while mountpoint -q {path}; do umount {path}; done; rm -f {cover}")


def unsupported(lab: Lab, release: str) -> str:
    """Return what a preflight says of a release."""
    return (
        f"{lab.name} runs {release}, but only Debian 12 and 13 are supported. Install one of them."
    )


@pytest.mark.parametrize("release", RELEASES)
def test_an_unsupported_release_is_refused(lab: Lab, release: str) -> None:
    """With the inventory as it is; the release is the host's only fault."""
    with pretending(lab, release):
        found = failures(lab.playbook_argv("playbooks/preflight.yml"))
    problems = [problem["message"] for problem in found[lab.name]["problems"]]
    assert problems == [unsupported(lab, release)]


def test_a_port_that_another_container_publishes_is_refused(lab: Lab) -> None:
    """Though nobody listens on it: Docker runs no proxy here."""
    name = "test-publisher"
    try:
        lab.run(
            f"docker run --detach --rm --name {name} --publish 127.0.0.1:8124:80"
            f" {lab.variables['app_base_image']} sleep 600"
        )
        ports = {"nginx_http_port": 8124, "docker_host_firewall_published_ports": [8124, 443]}
        found = failures(lab.playbook_argv("playbooks/preflight.yml", variables=ports))
        assert [problem["message"] for problem in found[lab.name]["problems"]] == [
            f"port 8124 is published by the container {name} on {lab.name}; stop it, or choose"
            " other ports with nginx_http_port and nginx_https_port"
        ]
    finally:
        lab.ssh(f"docker rm --force --volumes {name}")


@pytest.mark.usefixtures("refusals")
def test_nothing_was_changed_on_the_host(lab: Lab, before: State) -> None:
    """By all the cases: no container, no package, no file of the stack or the system."""
    assert State.of(lab) == before


def test_the_deployment_itself_stops_before_it_changes_anything(lab: Lab) -> None:
    """Which could, other than a preflight alone; inventory and host have faults."""
    (case,) = [case for case in CASES if case["name"] == "many at once"]
    release = next(iter(RELEASES))
    before = State.of(lab)
    with pretending(lab, release):
        run = lab.playbook("site.yml", variables=case["set"])
    assert run.status != 0
    assert run.did("fatal") == [run.tasks[-1][0]] == [f"vedfolnir.stack.stack : {PREFLIGHT}"]
    assert run.recap["changed"] == 0
    said = " ".join(run.output.split())
    expected = [*case["problems"], unsupported(lab, release)]
    assert [problem for problem in expected if problem not in said] == []
    assert State.of(lab) == before
