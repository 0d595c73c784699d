# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a host is and has room for: release, addresses, memory, disk, taken ports, GPUs."""

from __future__ import annotations

import json
import os
import re
import shlex
import typing as t

_LISTEN = "0A"
"""State of a listening socket in /proc/net/tcp (Linux, include/net/tcp_states.h)."""
PUBLISHED_FORMAT = '{{.Names}}\t{{.Label "com.docker.compose.project"}}\t{{.Ports}}'
"""What `docker ps` is to print for ``published``."""
_PUBLISHED = re.compile(r":(\d+)(?:-(\d+))?->\S*/tcp")


def release(text: str) -> dict[str, str]:
    """Return the facts about the distribution from the text of /etc/os-release.

    They have the names that the module setup gives them. What the text does not say is empty.
    """
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, separator, value = line.partition("=")
        if separator:
            values[name] = " ".join(shlex.split(value))
    version = values.get("VERSION_ID", "")
    return {
        "ansible_distribution": values.get("ID", "").capitalize(),
        "ansible_distribution_major_version": version.partition(".")[0],
        "ansible_distribution_release": values.get("VERSION_CODENAME", ""),
        "ansible_distribution_version": version or values.get("VERSION_CODENAME", ""),
    }


def addresses(text: str) -> list[dict[str, str]]:
    """Return ``interface`` and ``address`` of each IPv4 address from `ip -json address` output."""
    return [
        {"interface": str(link["ifname"]), "address": str(item["local"])}
        for link in json.loads(text or "[]")
        # The tool prints an empty object for what a filter leaves out.
        for item in link.get("addr_info", ())
        if item.get("family") == "inet"
    ]


def memory_mb(meminfo: str) -> int:
    """Return the host's memory in MiB from the text of /proc/meminfo; 0 when it does not say."""
    for line in meminfo.splitlines():
        name, _separator, value = line.partition(":")
        if name == "MemTotal":
            return int(value.split()[0]) // 1024
    return 0


def disk_free_mb(path: str) -> int:
    """Return the MiB that root can still write below a path, which need not exist yet."""
    while not os.path.exists(path):
        path = os.path.dirname(path) or "/"
    status = os.statvfs(path)
    return status.f_bfree * status.f_frsize // 2**20


def nvidia(find: t.Callable[[str], str | None], root: str = "/") -> dict[str, bool]:
    """Return whether a host has NVIDIA's ``driver`` and the ``toolkit`` that containers need.

    Args:
        find: Gives the path of a program, or nothing.
        root: Where ``proc`` and ``dev`` are.
    """
    driver = ("proc/driver/nvidia/version", "dev/nvidiactl")
    # Docker itself looks for the hook; releases of the toolkit without it bring the runtime.
    toolkit = ("nvidia-container-runtime-hook", "nvidia-container-runtime")
    return {
        "driver": any(os.path.exists(os.path.join(root, path)) for path in driver),
        "toolkit": any(find(name) for name in toolkit),
    }


def listening(tcp_table: str) -> dict[str, int]:
    """Return the port by socket inode of each listening socket in the text of a /proc/net/tcp."""
    ports: dict[str, int] = {}
    for line in tcp_table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTEN:
            ports[fields[9]] = int(fields[1].rsplit(":", 1)[1], 16)
    return ports


def socket_owners(proc: str = "/proc") -> dict[str, str]:
    """Return the process name by socket inode, for all processes that this user may look into."""
    owners: dict[str, str] = {}
    for entry in os.listdir(proc):
        if not entry.isdigit():
            continue
        try:
            with open(f"{proc}/{entry}/comm", encoding="utf-8") as handle:
                name = handle.read().strip()
            targets = _targets(f"{proc}/{entry}/fd")
        except OSError:
            # The process is gone, or not ours to look into.
            continue
        owners.update({link[8:-1]: name for link in targets if link.startswith("socket:[")})
    return owners


def _targets(directory: str) -> list[str]:
    """Return what the links in a directory lead to; the directory must be there."""
    targets: list[str] = []
    for name in os.listdir(directory):
        try:
            targets.append(os.readlink(os.path.join(directory, name)))
        except OSError:
            # A busy process opens and closes all the time; its other descriptors count.
            continue
    return targets


def listeners(proc: str = "/proc") -> list[dict[str, t.Any]]:
    """Return ``port`` and ``process`` of everything that listens on TCP, sorted."""
    before = _tables(proc)
    owners = socket_owners(proc)
    after = _tables(proc)
    # A socket that came or went while the processes were read belongs to nobody known; one that
    # stays without an owner is the kernel's.
    found = {
        (port, owners.get(inode, "the kernel")) for inode, port in before.items() if inode in after
    }
    return [{"port": port, "process": process} for port, process in sorted(found)]


def published(listing: str) -> list[dict[str, t.Any]]:
    """Return ``port``, ``container`` and ``project`` of every TCP port that a container publishes.

    Without a proxy process such a port has no listener: the kernel passes its packets on.
    """
    found = set()
    for line in listing.splitlines():
        container, project, ports = line.split("\t")
        for first, last in _PUBLISHED.findall(ports):
            for port in range(int(first), int(last or first) + 1):
                found.add((port, container, project))
    return [
        {"port": port, "container": container, "project": project}
        for port, container, project in sorted(found)
    ]


def _tables(proc: str) -> dict[str, int]:
    ports: dict[str, int] = {}
    for table in ("tcp", "tcp6"):
        try:
            with open(f"{proc}/net/{table}", encoding="utf-8") as handle:
                ports.update(listening(handle.read()))
        except OSError:
            # A host without IPv6 has no such table.
            continue
    return ports
