"""Create, reach and remove lab hosts through the playbooks that molecule uses too."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from vedfolnir_lab import engine, images, paths, ports
from vedfolnir_lab.shell import LabError, output, say, step, succeeds, visible

PLAYBOOKS = paths.ROOT / "molecule" / "shared"
LAB_INVENTORY = paths.ROOT / "inventories" / "lab"
LAB_VARIABLES = LAB_INVENTORY / "group_vars" / "all" / "lab.yml"
MAIN = "vedfolnir-lab"
OWNER = f"vedfolnir.lab.state={paths.STATE}"
"""Label of the containers that this checkout made; a label of an image would be inherited."""


def start(extra_images: Sequence[str] = (), *, fresh: bool = False) -> None:
    """Have the lab's host run, with all that it needs; `fresh`: anew, with nothing on it."""
    ports.require(published_ports())
    prepare(extra_images)
    if fresh:
        destroy()
    create()


def published_ports() -> dict[int, str]:
    """Return the ports of this machine that the lab's containers publish, and whose they are."""
    host = _inventory_hosts()[MAIN]
    variables = yaml.safe_load(LAB_VARIABLES.read_text(encoding="utf-8"))
    mappings = {MAIN: host["lab_host_ports"]}
    mappings |= {item["name"]: item.get("ports", []) for item in variables["lab_neighbours"]}
    return {int(mapping.split(":")[1]): name for name, of in mappings.items() for mapping in of}


def prepare(extra_images: Sequence[str] = ()) -> None:
    """Bring about everything that a playbook of the lab needs: engine, images, inventory."""
    engine.ensure()
    images.ensure()
    images.ensure(extra_images)
    archive = images.service_archive()
    variables = {
        **images.inventory_variables(archive),
        "lab_state": str(paths.STATE),
        "lab_keys": str(paths.KEYS),
        "lab_cgroup_version": engine.cgroup_version(),
    }
    text = yaml.safe_dump(variables, sort_keys=True, width=100)
    paths.write(paths.INVENTORY / "group_vars" / "all" / "images.yml", f"---\n{text}")
    # Ansible reads group_vars only beside an inventory file.
    paths.write(paths.INVENTORY / "hosts.yml", "---\nall: {}\n")


def inventory_arguments(extra: Path | None = None) -> list[str]:
    """Return the inventory options of ansible-playbook."""
    sources = [LAB_INVENTORY, paths.INVENTORY, *([extra] if extra else [])]
    return [argument for source in sources for argument in ("--inventory", str(source))]


def playbook(name: Path, *, limit: str = MAIN, extra: Path | None = None) -> None:
    """Run a playbook against lab hosts, visibly."""
    argv = ["ansible-playbook", *inventory_arguments(extra), "--limit", limit, str(name)]
    if visible(argv, ansible_environment()) != 0:
        raise LabError(f"{name.name} failed; its output is above. ./lab can be run again.")


def ansible_environment() -> dict[str, str]:
    """Return the settings for programs that run Ansible, wherever they change to."""
    return {
        "ANSIBLE_CONFIG": str(paths.ROOT / "ansible.cfg"),
        "ANSIBLE_FORCE_COLOR": "1" if os.isatty(1) else "0",
    }


def create(*, limit: str = MAIN, extra: Path | None = None) -> None:
    """Create or start hosts."""
    with step(f"Starting {limit}"):
        playbook(PLAYBOOKS / "create.yml", limit=limit, extra=extra)


def destroy(*, limit: str = MAIN, extra: Path | None = None) -> None:
    """Remove hosts with their volumes."""
    with step(f"Removing {limit}"):
        playbook(PLAYBOOKS / "destroy.yml", limit=limit, extra=extra)


def converge(*, limit: str = MAIN, extra: Path | None = None) -> None:
    """Deploy the stack with the playbook that an operator uses."""
    with step(f"Deploying on {limit}"):
        playbook(paths.ROOT / "site.yml", limit=limit, extra=extra)


def ssh_arguments(host: str = MAIN) -> list[str]:
    """Return the ssh command that reaches a host of the lab's inventory."""
    port = _inventory_hosts().get(host, {}).get("ansible_port", 2222)
    return [
        "ssh",
        "-i",
        str(paths.SSH / "id_ed25519"),
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        f"UserKnownHostsFile={paths.SSH / f'known_hosts.{host}'}",
        "-o",
        f"HostKeyAlias={host}",
        "-p",
        str(port),
        "root@127.0.0.1",
    ]


def ssh(command: Sequence[str]) -> NoReturn:
    """Become a shell, or one command, on the lab host."""
    if not succeeds(["docker", "inspect", MAIN]):
        raise LabError("There is no lab host. ./lab up makes one.")
    argv = [*ssh_arguments(), *command]
    os.execvp(argv[0], argv)  # noqa: S606 - becoming ssh is the purpose


def remove_all() -> None:
    """Remove every container, volume and network that this checkout made."""
    with step("Removing hosts, volumes and networks"):
        listing = ["docker", "ps", "--all", "--filter", f"label={OWNER}", "--format", "{{.Names}}"]
        if containers := output(listing).split():
            output(["docker", "rm", "--force", "--volumes", *containers])
        volumes = set(output(["docker", "volume", "ls", "--quiet"]).split())
        if found := sorted(volumes & {f"{name}-docker" for name in containers}):
            output(["docker", "volume", "rm", *found])
        for network in output(
            ["docker", "network", "ls", "--quiet", "--filter", f"label={images.LABEL}"]
        ).split():
            if not succeeds(["docker", "network", "rm", network]):
                say(f"Network {network} is in use by containers that are not this lab's: kept")
        shutil.rmtree(paths.SSH, ignore_errors=True)
        shutil.rmtree(paths.KEYS, ignore_errors=True)


def _inventory_hosts() -> dict[str, dict[str, Any]]:
    """Return all hosts that the lab and its scenarios define, with their variables."""
    files = [
        LAB_INVENTORY / "hosts.yml",
        *sorted(paths.ROOT.glob("molecule/*/inventory/hosts.yml")),
    ]
    hosts: dict[str, dict[str, Any]] = {}
    for file in files:
        hosts |= yaml.safe_load(file.read_text(encoding="utf-8"))["vedfolnir"]["hosts"]
    return hosts
