"""Who can reach what: from outside, between containers, and out into the world."""

from __future__ import annotations

import json
import socket

import pytest
from lab import Lab

PORTS = [
    *(21, 22, 25, 53, 80, 111, 443, 2375, 2376, 3306, 5000, 6379, 8080, 8081, 8200),
    *(9090, 9100, 9323, 11434),
]


def default_routes(lab: Lab, service: str) -> list[object]:
    """Return the default routes of a service's container."""
    pid = lab.inspect()[service]["State"]["Pid"]
    routes: list[object] = json.loads(
        lab.run(f"nsenter -t {pid} -n ip -json -4 route show default")
    )
    return routes


def test_only_ssh_http_and_https_answer_from_outside(lab: Lab) -> None:
    """Asked from the outer network, where no port forward of the lab filters."""
    address = lab.run("ip -4 -o addr show eth0 | awk '{print $4}' | cut -d/ -f1").strip()
    answered = []
    for port in PORTS:
        with socket.socket() as connection:
            connection.settimeout(1.5)
            if connection.connect_ex((address, port)) == 0:
                answered.append(port)
    assert answered == [22, 80, 443]


@pytest.mark.parametrize("target", ["mysql:3306", "redis:6379"])
def test_nginx_cannot_reach_the_data_services(lab: Lab, target: str) -> None:
    """By name it does not know them, by address it has no way to them."""
    service, port = target.split(":")
    networks = lab.inspect()[service]["NetworkSettings"]["Networks"]
    address = networks["vedfolnir_internal"]["IPAddress"]
    for host in (service, address):
        result = lab.exec("nginx", f"timeout 4 bash -c '</dev/tcp/{host}/{port}'")
        assert result.returncode != 0, f"nginx reached {host}:{port}"


@pytest.mark.parametrize("service", ["mysql", "redis"])
def test_data_services_have_no_route_out(lab: Lab, service: str) -> None:
    """The outer network's gateway stands for the Internet; the application does reach it."""
    gateway = lab.run("ip -4 route show default | awk '{print $3}'").strip()
    command = f"timeout 4 bash -c '</dev/tcp/{gateway}/22'; echo $?"
    assert default_routes(lab, service) == [], f"{service} has a default route"
    result = lab.exec(service, command)
    assert result.stdout.strip() != "0"
    assert default_routes(lab, "app-1"), "the application has no way out"


def test_every_container_is_hardened(lab: Lab) -> None:
    """No capabilities or new privileges, read-only root, not root, limits; only nginx publishes."""
    waived = {("nginx", "ports")}
    findings = []
    for name, item in lab.inspect().items():
        config = item["HostConfig"]
        checks = {
            "cap_drop": config["CapDrop"] == ["ALL"] and not config["CapAdd"],
            "no_new_privileges": "no-new-privileges:true" in (config["SecurityOpt"] or []),
            "read_only": config["ReadonlyRootfs"],
            "user": item["Config"]["User"].split(":")[0] not in ("", "0", "root"),
            "memory": config["Memory"] > 0,
            "cpus": config["NanoCpus"] > 0,
            "pids": (config["PidsLimit"] or 0) > 0,
            "ports": not config["PortBindings"],
            "health": bool(item["Config"].get("Healthcheck")),
            "not_privileged": not config["Privileged"],
            "restart": config["RestartPolicy"]["Name"] == "on-failure",
        }
        findings += [(name, check) for check, passed in checks.items() if not passed]
    assert set(findings) == waived
