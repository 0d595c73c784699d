"""Who can reach what: from outside, between containers, and out into the world."""

from __future__ import annotations

import concurrent.futures
import json
import typing as t

import pytest
from lab import UNCHECKED, Lab, answers

PORTS = {
    *(21, 22, 25, 53, 80, 111, 443, 2375, 2376, 3306, 5000, 6379, 8080, 8081, 8200),
    *(9090, 9100, 9323, 11434),
}
OPEN = [22, 80, 443]
OF_HOST, OF_CONTAINER = 8123, 8124
"""What listens on the host itself, and what a container of somebody else publishes."""
CLOSED = ("1", "124")
"""Exit status of bash that cannot connect, and of timeout that ended its attempt."""


def answering(address: str, ports: t.Iterable[int]) -> list[int]:
    """Return the ports that answer this machine, on the network where no lab forward filters."""
    wanted = sorted(ports)
    with concurrent.futures.ThreadPoolExecutor(len(wanted)) as pool:
        found = pool.map(lambda port: answers(address, port), wanted)
        return [port for port, open_ in zip(wanted, found, strict=True) if open_]


def connecting(lab: Lab, service: str, address: str, port: int) -> str:
    """Return the exit status of an attempt to connect from a service's container."""
    result = lab.exec(service, f"timeout 4 bash -c '</dev/tcp/{address}/{port}'; echo $?")
    assert result.returncode == 0, f"no attempt in {service}: {result.stderr}"
    return result.stdout.strip()


def default_routes(lab: Lab, service: str) -> list[object]:
    """Return the default routes of a service's container."""
    pid = lab.inspect()[service]["State"]["Pid"]
    routes: list[object] = json.loads(
        lab.run(f"nsenter -t {pid} -n ip -json -4 route show default")
    )
    return routes


@pytest.fixture
def listening(lab: Lab) -> t.Iterator[Lab]:
    """The lab host with something on it that would answer if the firewall let it."""
    image = lab.variables["app_base_image"]
    serve = "python3 -m http.server"
    try:
        lab.run(f"systemd-run --quiet --collect --unit=test-port {serve} {OF_HOST}")
        lab.run(
            f"docker run --detach --rm --name test-port --publish {OF_CONTAINER}:80"
            f" {image} {serve} 80"
        )
        for port in (OF_HOST, OF_CONTAINER):
            attempt = f"until (</dev/tcp/{lab.address}/{port}) 2>/dev/null; do sleep 0.2; done"
            lab.run(f"timeout 30 bash -c '{attempt}'")
        yield lab
    finally:
        lab.ssh("systemctl stop test-port; docker rm --force --volumes test-port")


def test_only_ssh_http_and_https_answer_from_outside(listening: Lab) -> None:
    """Whatever listens; without the firewall the same attempts get through."""
    lab = listening
    listed = lab.run("ss -Hltn | awk '{print $4}'").split()
    ports = PORTS | {int(address.rsplit(":", 1)[1]) for address in listed} | {OF_CONTAINER}
    assert OF_HOST in ports
    assert answering(lab.address, ports) == OPEN
    lab.run("systemctl stop vedfolnir-firewall")
    try:
        assert set(answering(lab.address, ports)) >= {*OPEN, OF_HOST, OF_CONTAINER}
    finally:
        lab.run("systemctl start vedfolnir-firewall")
    assert answering(lab.address, ports) == OPEN


def test_nginx_reaches_the_application_but_not_the_data_services(lab: Lab) -> None:
    """By name it does not know them, by address it has no way to them."""
    assert connecting(lab, "nginx", "app-1", 5000) == "0"
    containers = lab.inspect()
    for service, port in (("mysql", 3306), ("redis", 6379)):
        networks = containers[service]["NetworkSettings"]["Networks"]
        address = networks["vedfolnir_internal"]["IPAddress"]
        assert connecting(lab, "app-1", address, port) == "0"
        for host in (service, address):
            assert connecting(lab, "nginx", host, port) in CLOSED, f"nginx reached {host}:{port}"


@pytest.mark.parametrize("service", ["mysql", "redis"])
def test_data_services_have_no_route_out(lab: Lab, service: str) -> None:
    """The lab's Fediverse stands for the Internet; the application does reach it."""
    address = lab.run("getent ahostsv4 fediverse.lab").split()[0]
    assert connecting(lab, "app-1", address, 8080) == "0"
    assert connecting(lab, service, address, 8080) in CLOSED
    assert default_routes(lab, "app-1"), "the application has no default route to compare with"
    assert default_routes(lab, service) == []


def test_every_container_is_hardened(lab: Lab) -> None:
    """No capabilities or new privileges, read-only root, not root, limits; only nginx publishes."""
    waived = {("nginx", "ports"), *((name, "health") for name in UNCHECKED)}
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
            "restart": config["RestartPolicy"]["Name"] == "unless-stopped",
        }
        findings += [(name, check) for check, passed in checks.items() if not passed]
    assert set(findings) == waived
