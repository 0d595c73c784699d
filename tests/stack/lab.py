"""What the tests know of the lab: its host, its address, and how to run a playbook against it.

The host is the one that ``./lab up`` made (or the test run, with the same code);
``VEDFOLNIR_LAB_HOST`` names another.
"""

from __future__ import annotations

import dataclasses
import functools
import http.client
import json
import os
import pathlib
import re
import shlex
import socket
import subprocess
import time
import typing as t

import pytest
import requests
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
STATE = ROOT / ".lab"
ANSIBLE = ROOT / os.environ.get("VEDFOLNIR_ANSIBLE", ".venv/bin")
"""Where Ansible's programs are; the part ``lowest`` names another environment."""
_FURTHER = os.environ.get("VEDFOLNIR_LAB_INVENTORY", "").split(":")
_USUAL = [ROOT / "inventories" / "lab", STATE / "inventory"]
INVENTORIES = list(dict.fromkeys([*_USUAL, *(pathlib.Path(path) for path in _FURTHER if path)]))
_TASK = re.compile(r"^(?:TASK|RUNNING HANDLER) \[(.+)\] \*+$", re.MULTILINE)
_PROJECT = "--filter label=com.docker.compose.project=vedfolnir"
PLAN = "Show what happens to each service"
LIVING = ("data", "logs", "metrics", "storage", "backups")
"""Directories of /srv/vedfolnir whose files the services, or the host's timers, write."""
WATCHING = {
    "alertmanager", "alloy", "blackbox-exporter", "grafana", "loki", "mysql-exporter",
    "nginx-exporter", "node-exporter", "prometheus", "redis-exporter", "task-exporter",
}  # fmt: skip
"""The services of the role ``observability``."""
UNCHECKED = {"loki", "nginx-exporter"}
"""Services whose images have nothing that could check them; Prometheus asks them."""
RUNTIME = "/run/vedfolnir/secrets"
"""Where consumers' files are."""
_PREAMBLE = """
import json, sys
from ansible_collections.vedfolnir.stack.plugins.module_utils import (
    vault_access, vault_deliver, vault_kv, vault_server)
settings = vault_deliver.read_settings("/etc/vedfolnir/secrets/vault.json")
"""
_DOCUMENTS = """
with vault_deliver.session(settings) as api:
    documents = vault_kv.read_documents(api, settings.mount)
print(json.dumps({name: document.value for name, document in documents.items()}))
"""
SSH_OPTIONS = (
    "BatchMode=yes",
    "ConnectTimeout=20",
    "LogLevel=ERROR",
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
)


@dataclasses.dataclass(frozen=True)
class Run:
    """What a playbook did: exit status, output, and the recap of the one host."""

    status: int
    output: str

    @property
    def recap(self) -> dict[str, int]:
        """The counts of the last recap line, by name (ok, changed, failed …)."""
        lines = re.findall(r"^\S+\s*: (ok=.*)$", self.output, re.MULTILINE)
        assert lines, f"the run ended without a recap:\n{self.output[-3000:]}"
        return {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", lines[-1])}

    @property
    def tasks(self) -> list[tuple[str, str]]:
        """Each task and handler with what was printed of it, in order."""
        parts = _TASK.split(self.output)
        return list(zip(parts[1::2], parts[2::2], strict=True))

    def did(self, *outcomes: str) -> list[str]:
        """Return the names of the tasks that had one of the outcomes (ok, changed), in order."""
        starts = tuple(f"{outcome}: [" for outcome in outcomes)
        return [
            name
            for name, text in self.tasks
            if any(line.startswith(starts) for line in text.splitlines())
        ]

    @property
    def plan(self) -> dict[str, str]:
        """What the run said happens to each service; those that stay are not in it."""
        (text,) = [text for name, text in self.tasks if name.endswith(PLAN)]
        shown = re.search(r"^ok: .*=>\s*\n((?: {4}.*\n)+)", text, re.MULTILINE)
        return t.cast("dict[str, str]", yaml.safe_load(shown[1])["msg"]) if shown else {}

    def check(self) -> Run:
        """Fail the test with the end of the output unless the run succeeded."""
        assert self.status == 0, f"exit status {self.status}\n{self.output[-6000:]}"
        return self


@dataclasses.dataclass(frozen=True)
class Lab:
    """The lab host."""

    name: str = os.environ.get("VEDFOLNIR_LAB_HOST", "vedfolnir-lab")

    @functools.cached_property
    def variables(self) -> dict[str, t.Any]:
        """The host's variables as Ansible sees them."""
        program = str(ANSIBLE / "ansible-inventory")
        argv = [program, *_inventory_arguments(), "--host", self.name]
        output = subprocess.check_output(argv, cwd=ROOT, text=True)
        return t.cast("dict[str, t.Any]", json.loads(output))

    def port(self, inner: int) -> int:
        """Return the port of the machine's loopback that leads to a port of the lab host."""
        for mapping in self.variables["lab_host_ports"]:
            address, outer, target = str(mapping).split(":")
            if int(target) == inner:
                assert address == "127.0.0.1"
                return int(outer)
        raise KeyError(inner)

    @property
    def https(self) -> str:
        """Base address of the site."""
        return f"https://127.0.0.1:{self.port(443)}"

    @functools.cached_property
    def ca(self) -> str:
        """Path of the site's own CA certificate."""
        path = STATE / f"{self.name}-ca.pem"
        path.write_text(self.run("cat /run/vedfolnir/secrets/nginx/ca.pem"), encoding="utf-8")
        return str(path)

    @functools.cached_property
    def address(self) -> str:
        """Address of the host on the network of the lab, where no port forward filters."""
        return self.run("ip -4 -o addr show eth0 | awk '{print $4}' | cut -d/ -f1").strip()

    def session(self) -> requests.Session:
        """Return an HTTP client that trusts the site's CA and nothing else."""
        session = requests.Session()
        session.verify = self.ca
        session.trust_env = False
        return session

    def ssh(
        self, command: str, timeout: float = 300, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command as root on the lab host."""
        return subprocess.run(
            self.ssh_argv(command),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def ssh_argv(self, command: str) -> list[str]:
        """Return the command line of :meth:`ssh`."""
        key = str(STATE / "ssh/id_ed25519")
        options = [part for option in SSH_OPTIONS for part in ("-o", option)]
        login = ["-p", str(self.port(22)), *options, "root@127.0.0.1"]
        return ["ssh", "-F", "none", "-i", key, *login, command]

    def run(self, command: str, timeout: float = 300, stdin: str | None = None) -> str:
        """Run a shell command on the lab host, fail the test if it fails, and return its output."""
        result = self.ssh(command, timeout, stdin)
        said = f"{result.stdout}\n{result.stderr}"
        assert result.returncode == 0, f"{command}: exit {result.returncode}\n{said}"
        return result.stdout

    def compose(self, arguments: str, timeout: float = 600) -> str:
        """Run ``docker compose`` in the project's directory."""
        return self.run(f"cd /srv/vedfolnir && docker compose {arguments}", timeout)

    def exec(self, service: str, command: str) -> subprocess.CompletedProcess[str]:
        """Run a shell command inside a service's container."""
        inside = f"docker compose exec -T {service} sh -c {shlex.quote(command)}"
        return self.ssh(f"cd /srv/vedfolnir && {inside}")

    def inspect(self) -> dict[str, dict[str, t.Any]]:
        """Return ``docker inspect`` of every running service's container by the service's name."""
        ours = f"docker ps -q {_PROJECT} --filter label=com.docker.compose.oneoff=False"
        output = self.run(f"{ours} | xargs --no-run-if-empty docker inspect")
        return {
            item["Config"]["Labels"]["com.docker.compose.service"]: item
            for item in json.loads(output or "[]")
        }

    def started(self) -> dict[str, str]:
        """Return per service its container and start time: the same exactly without a restart."""
        return {
            name: f"{item['Id'][:12]} {item['State']['StartedAt']}"
            for name, item in self.inspect().items()
        }

    def services(self) -> set[str]:
        """Return the services that shall run; the jobs are in a profile and not among them."""
        return set(self.compose("config --services").split())

    def unhealthy(self) -> list[str]:
        """Return the services that are not running and healthy, also those without a container."""
        running = self.inspect()
        healthy = {
            name
            for name, item in running.items()
            if item["State"].get("Health", {}).get("Status") == "healthy"
            or (name in UNCHECKED and item["State"]["Running"])
        }
        return sorted((self.services() | set(running)) - healthy)

    def files(self, *directories: str) -> dict[str, str]:
        """Return kind, mode, owner, and target or digest of every file below, by its path."""
        living = " -o ".join(f"-path /srv/vedfolnir/{name}" for name in LIVING)
        find = f"find {' '.join(directories)} \\( {living} \\) -prune -o"
        found = self.run(
            f"{find} -printf '%p\\t%y %m %U:%G %l\\n' "
            f"&& {find} -type f -print0 | xargs -0r sha256sum | sed 's/  /\\t/'"
        )
        result: dict[str, str] = {}
        for line in found.splitlines():
            first, second = line.split("\t")
            # A digest comes first in its line, and after the path's line of the listing.
            path, value = (first, second) if first.startswith("/") else (second, first)
            result[path] = f"{result.get(path, '')}{value}"
        return result

    def packages(self) -> list[str]:
        """Return what dpkg knows of each package: wanted and present state, name and version."""
        return self.run("dpkg -l | grep -v '^[|+D]'").splitlines()

    def wait_healthy(self, seconds: float = 120) -> None:
        """Wait until every service is healthy: a restarted daemon asks each of them anew."""
        wait_until(lambda: not self.unhealthy(), seconds, "not every service is healthy")

    def playbook(
        self,
        playbook: str = "site.yml",
        *arguments: str,
        variables: dict[str, t.Any] | None = None,
        timeout: float = 1500,
    ) -> Run:
        """Run a playbook against the lab host."""
        argv = self.playbook_argv(playbook, *arguments, variables=variables)
        result = subprocess.run(
            argv,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=timeout,
            check=False,
            env=ansible_environment(),
        )
        return Run(result.returncode, result.stdout)

    def playbook_argv(
        self,
        playbook: str,
        *arguments: str,
        variables: dict[str, t.Any] | None = None,
    ) -> list[str]:
        """Return the command line of a playbook run."""
        program = str(ANSIBLE / "ansible-playbook")
        argv = [program, *_inventory_arguments(), playbook, "--limit", self.name]
        if variables:
            argv += ["--extra-vars", json.dumps(variables)]
        return [*argv, *arguments]

    def ask_vault(self, script: str) -> t.Any:
        """Run a Python script on the host that prints JSON, and return that.

        In the script ``settings`` says where Vault is, and the modules are imported that ask it.
        """
        program = "PYTHONPATH=/usr/local/lib/vedfolnir/python python3 -"
        return json.loads(self.run(program, stdin=_PREAMBLE + script))

    def values(self) -> dict[str, t.Any]:
        """Return every value in Vault by name, in the form of a store."""
        return dict(self.ask_vault(_DOCUMENTS))

    def secrets(self) -> dict[str, str]:
        """Return every secret value in Vault by name, as :func:`secret_values` tells them."""
        return secret_values(self.values())


def deployed() -> Lab:
    """Return the lab host; without one on which the stack is, all tests end with what to do."""
    lab = Lab()
    probe = lab.ssh("test -f /srv/vedfolnir/compose.yml")
    if probe.returncode != 0:
        problem = "does not answer or is not deployed"
        pytest.exit(f"the lab host {problem} ({probe.stderr.strip()}); run ./lab up", 3)
    return lab


def secret_values(store: dict[str, t.Any]) -> dict[str, str]:
    """Return what of a store is secret, by name.

    A certificate gives its private key, one that others trust is no secret, and a secret that is
    being rotated gives all of its values, those beside the one in use with a number behind the
    name. What the store notes about itself begins with ``__``.
    """
    found: dict[str, str | None] = {}
    for name, value in store.items():
        if name.startswith("__") or str(value).startswith("-----BEGIN CERTIFICATE"):
            continue
        if not isinstance(value, dict):
            found[name] = value
        elif "private_key" in value:
            found[name] = value["private_key"]
        else:
            values = [value["value"], *value["others"]]
            found |= {name if n == 0 else f"{name}.{n}": text for n, text in enumerate(values)}
    return {name: value for name, value in found.items() if value}


def secret_files(lab: Lab) -> str:
    """Return content, owner and mode of each file that consumers read."""
    each = f"cd {RUNTIME} && find . -type f -print0 | sort -z | xargs -0"
    return lab.run(f"{each} stat --format '%n %u:%g %a'; {each} sha256sum")


def redis_cli(lab: Lab, command: str) -> str:
    """Run a Redis command as the application's user."""
    password = lab.secrets()["redis_app"]
    return lab.run(
        "cd /srv/vedfolnir && docker compose exec -T redis sh -c "
        f"'REDISCLI_AUTH=$(cat) redis-cli --no-auth-warning --user vedfolnir {command}'",
        stdin=password,
    ).strip()


def wait_until(condition: t.Callable[[], bool], seconds: float, what: str) -> None:
    """Poll until a condition holds, or fail naming what did not happen.

    A condition that cannot be asked yet does not hold: a host that boots answers half or nothing.
    """
    last: Exception | None = None
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if condition():
                return
            last = None
        except (AssertionError, LookupError, OSError, ValueError) as exc:
            last = exc
        except (http.client.HTTPException, subprocess.TimeoutExpired) as exc:
            last = exc
        time.sleep(2)
    pytest.fail(f"after {seconds:.0f} s: {what}{f' ({last!r})' if last else ''}")


def ansible_environment() -> dict[str, str]:
    """Return an environment for Ansible without colours and without this machine's own settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    return kept | {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _inventory_arguments() -> list[str]:
    return [argument for path in INVENTORIES for argument in ("-i", str(path))]


def answers(address: str, port: int) -> bool:
    """Tell whether this machine can open a TCP connection."""
    with socket.socket() as connection:
        connection.settimeout(3)
        return connection.connect_ex((address, port)) == 0


def load_yaml(path: pathlib.Path) -> t.Any:
    """Return the content of a YAML file of the tests."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))
