"""Find out before anything is made that a port which the lab publishes is taken."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping

from vedfolnir_lab.shell import LabError, output

ADDRESS = "127.0.0.1"


def require(wanted: Mapping[int, str]) -> None:
    """Refuse to go on unless each port is free or held by the container that it is for."""
    problems = []
    for port, name in wanted.items():
        if _free(port):
            continue
        containers = _containers(port)
        if name not in containers:
            holder = f"the container {containers[0]}" if containers else _program(port)
            problems.append(f"port {port}, which {name} needs, is taken by {holder}")
    if problems:
        raise LabError(
            f"On {ADDRESS} {'; '.join(problems)}. Stop what holds it, then run ./lab again "
            "(the ports are chosen in inventories/lab)."
        )


def _free(port: int) -> bool:
    with socket.socket() as probe:
        # As a server does: a connection that has just ended does not hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return False
        return True


def _containers(port: int) -> list[str]:
    """Return the running containers that publish a port."""
    listing = ["docker", "ps", "--filter", f"publish={port}", "--format", "{{.Names}}"]
    return output(listing, check=False).split()


def _program(port: int) -> str:
    """Return the program that listens on a port, as far as this machine tells."""
    said = output(["ss", "-Hltnp", f"sport = :{port}"], check=False)
    match = re.search(r'\(\("([^"]+)",pid=(\d+)', said)
    return f"{match[1]} (process {match[2]})" if match else "another program"
