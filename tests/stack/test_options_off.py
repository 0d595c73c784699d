"""Turning an optional feature off removes what it made; turning it on brings it back."""

from __future__ import annotations

import json
import re
import typing as t

import pytest
from authority import Authority
from lab import Lab
from visitor import LOGIN, Platform, Visitor, caption_arrives

OLLAMA_PORT = 11434
OWN_OLLAMA = "test-own-ollama"
AUTHORITY = Authority("Authority of a proxy").certificate
LEAVER = "test_leaver"
ACCOUNTS = "SELECT user FROM mysql.user"
OFF: dict[str, t.Any] = {
    "docker_host_daemon": {},
    "docker_host_daemon_defaults": {},
    "docker_host_journald": {},
    "docker_host_package_hold": False,
    "docker_host_sysctl": {},
    "docker_host_unattended_upgrades_enabled": False,
    "mysql_users_absent": [{"name": LEAVER, "host": "localhost"}],
    "nginx_closed_paths": [],
    "nginx_hsts_seconds": 0,
    "nginx_rate_limits": [],
    "nginx_registration_enabled": True,
    "ollama_managed": False,
    "ollama_url": f"http://host.docker.internal:{OLLAMA_PORT}",
}
"""Every optional feature of the lab's inventory that is not tested elsewhere."""
FILES = [
    "/etc/apt/apt.conf.d/52vedfolnir-unattended-upgrades",
    "/etc/docker/daemon.json",
    "/etc/sysctl.d/99-vedfolnir.conf",
    "/etc/systemd/journald.conf.d/vedfolnir.conf",
    "/srv/vedfolnir/compose.d/ollama.yml",
]
"""What of it is a file of its own."""
FOUND, GIVEN, NEEDED = "tree", "pv", "dtach"
"""Packages: of the operator, of the role, and of the role but needed by another one later."""
PACKAGES = sorted([FOUND, GIVEN, NEEDED])
NEEDING = "test-needing"
FIREWALL_FILES = [
    "/etc/nftables.d/vedfolnir.nft",
    "/etc/systemd/system/vedfolnir-firewall.service",
]


class Features(t.NamedTuple):
    """What there is on the host and to be seen from outside of the optional features."""

    files: list[str]
    upgrades_installed: bool
    held: list[str]
    log_driver: str
    hsts: str | None
    closed_status: int
    registration_status: int
    limited: bool
    ollama_rule: bool
    containers: list[str]


def existing(lab: Lab, paths: list[str]) -> list[str]:
    """Return those of the paths that are there."""
    return lab.run(f"ls -d {' '.join(paths)} 2>/dev/null; true").split()


def query(lab: Lab, statement: str) -> str:
    """Return what MySQL's administrator gets for a statement."""
    client = 'MYSQL_PWD="$(cat /run/secrets/root_password)" mysql -uroot -N'
    result = lab.exec("mysql", f'{client} -e "{statement}"')
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def features(lab: Lab) -> Features:
    """Look at every one of them."""
    session = lab.session()
    config = lab.run("cat /srv/vedfolnir/config/nginx/nginx.conf")
    rules = lab.run("nft list table inet vedfolnir")
    upgrades = "dpkg-query -W -f '${db:Status-Status}' unattended-upgrades 2>/dev/null"

    def status(path: str) -> int:
        return session.get(lab.https + path, allow_redirects=False, timeout=60).status_code

    return Features(
        files=existing(lab, FILES),
        upgrades_installed=lab.ssh(upgrades).stdout.strip() == "installed",
        held=sorted(lab.run("apt-mark showhold").split()),
        log_driver=lab.run("docker info --format '{{.LoggingDriver}}'").strip(),
        hsts=session.get(lab.https + LOGIN, timeout=60).headers.get("Strict-Transport-Security"),
        closed_status=status("/metrics"),
        registration_status=status("/user-management/register"),
        limited="limit_req_zone" in config,
        ollama_rule=f"dport {OLLAMA_PORT}" in rules,
        containers=sorted(lab.inspect()),
    )


def reaches_own_ollama(lab: Lab, service: str) -> bool:
    """Tell whether a service gets through to the Ollama on the host itself."""
    pid = lab.inspect()[service]["State"]["Pid"]
    gateway = lab.run("docker network inspect bridge -f '{{(index .IPAM.Config 0).Gateway}}'")
    code = f"import socket; socket.create_connection(('{gateway.strip()}', {OLLAMA_PORT}), 3)"
    return lab.ssh(f'nsenter -t {pid} -n /usr/bin/python3 -c "{code}"').returncode == 0


@pytest.fixture
def own_ollama(healthy: Lab) -> t.Iterator[Lab]:
    """The lab host, on which an Ollama runs that is not the stack's."""
    lab, image = healthy, healthy.variables["ollama_image"]
    model = lab.variables.get("ollama_models", ["llava:7b"])[0]
    lab.run(
        # Emptied settings of Docker take live-restore away: it must come back by itself.
        f"docker run --detach --name {OWN_OLLAMA} --restart always --network host --volume /models"
        f" --env HOME=/models --env OLLAMA_HOST=0.0.0.0:{OLLAMA_PORT} {image}"
        f" && for i in $(seq 30); do docker exec {OWN_OLLAMA} ollama list >/dev/null && break;"
        f" sleep 1; done; docker exec {OWN_OLLAMA} ollama pull {model}"
    )
    try:
        yield lab
    finally:
        lab.run(f"docker rm --force --volumes {OWN_OLLAMA}")


def test_optional_features_go_and_come_back(own_ollama: Lab, admin: Visitor) -> None:
    """All at once, as an Ollama of the operator's own takes the place of the stack's."""
    lab = own_ollama
    before = features(lab)
    assert before.files == sorted(FILES)
    assert before.upgrades_installed
    assert "docker.io" in before.held
    assert before.log_driver == "journald"
    assert "ollama" in before.containers
    assert not before.ollama_rule
    assert not reaches_own_ollama(lab, "app-1")
    query(lab, f"CREATE USER '{LEAVER}'@'localhost' ACCOUNT LOCK")
    assert LEAVER in query(lab, ACCOUNTS)
    try:
        lab.playbook(variables=OFF).check()
        assert LEAVER not in query(lab, ACCOUNTS)
        after = features(lab)
        assert after == Features(
            files=[],
            upgrades_installed=False,
            held=[],
            log_driver="json-file",
            hsts=None,
            closed_status=200,
            registration_status=200,
            limited=False,
            ollama_rule=True,
            containers=[name for name in before.containers if name != "ollama"],
        )
        assert {name for name in lab.inspect() if reaches_own_ollama(lab, name)} >= {"app-1"}
        assert not reaches_own_ollama(lab, "mysql")
        caption_arrives(admin, Platform.of(lab, "fediverse.lab"))
        assert "/api/generate" in lab.run(f"docker logs {OWN_OLLAMA} 2>&1")
        again = lab.playbook(variables=OFF).check()
        assert again.recap["changed"] == 0, again.output[-4000:]
    finally:
        admin.remove_platforms()
        lab.playbook().check()
        query(lab, f"DROP USER IF EXISTS '{LEAVER}'@'localhost'")
    assert features(lab) == before
    assert not reaches_own_ollama(lab, "app-1")


def mirrors(lab: Lab) -> list[str]:
    """Return the registry mirrors that the running Docker uses."""
    found = json.loads(lab.run("docker info --format '{{json .RegistryConfig.Mirrors}}'"))
    return list(found or [])


def packages(lab: Lab) -> list[str]:
    """Return which of the test's packages are installed."""
    shown = "${Package} ${db:Status-Status}\\n"
    lines = lab.ssh(f"dpkg-query -W -f '{shown}' {' '.join(PACKAGES)}").stdout.splitlines()
    return sorted(line.split()[0] for line in lines if line.endswith(" installed"))


@pytest.fixture
def own_package(lab: Lab) -> t.Iterator[Lab]:
    """The lab host with one package that its operator installed, and one that needs another."""
    control = (
        f"Package: {NEEDING}\nVersion: 1\nArchitecture: all\nDepends: {NEEDED}\n"
        "Maintainer: Tests <tests@example.org>\nDescription: needs another package\n"
    )
    build = "d=$(mktemp -d) && mkdir $d/DEBIAN && cat > $d/DEBIAN/control"
    try:
        lab.run(f"apt-get install --yes --quiet {FOUND}", 600)
        lab.run(f"{build} && dpkg-deb --build $d /run/{NEEDING}.deb; rm -r $d", stdin=control)
        yield lab
    finally:
        lab.run(f"dpkg --purge {NEEDING}; rm -f /run/{NEEDING}.deb")
        lab.run(f"apt-get purge --yes --quiet {' '.join(PACKAGES)}", 600)


@pytest.mark.usefixtures("healthy", "own_package")
def test_the_firewall_and_additions_to_the_host_go_and_come_back(lab: Lab) -> None:
    """Of the role docker_host alone; containers do not notice."""
    bundle = "/etc/ssl/certs/ca-certificates.crt"
    directory = "/usr/local/share/ca-certificates/vedfolnir"
    line = AUTHORITY.splitlines()[2]
    table = "nft list table inet vedfolnir"
    role = ("site.yml", "--tags", "docker_host")
    given = [
        *lab.variables.get("docker_host_ca_certificates", []),
        {"name": "test-proxy", "content": AUTHORITY},
    ]
    mirror = {"docker_host_registry_mirrors": ["http://127.0.0.1:9/"]}
    options = {
        "docker_host_firewall_enabled": False,
        "docker_host_ca_certificates": given,
        "docker_host_extra_packages": PACKAGES,
    }
    before, rules = lab.started(), lab.run(table)
    assert mirrors(lab) == []
    try:
        lab.playbook(*role, variables=options).check()
        assert packages(lab) == PACKAGES
        assert line in lab.run(f"cat {bundle}")
        assert lab.ssh(table).returncode != 0
        assert existing(lab, FIREWALL_FILES) == []
        assert "not-found" in lab.run("systemctl show -p LoadState vedfolnir-firewall.service")
        lab.run(f"dpkg --install /run/{NEEDING}.deb")
        lab.playbook(*role, variables=mirror).check()
        assert mirrors(lab) == mirror["docker_host_registry_mirrors"]
        # Neither what was there before the role goes nor what something else needs by now.
        assert packages(lab) == sorted([FOUND, NEEDED])
        lab.run(f"dpkg --purge {NEEDING}")
    finally:
        lab.playbook(*role).check()
    assert mirrors(lab) == []
    assert packages(lab) == [FOUND]
    assert line not in lab.run(f"cat {bundle}")
    assert existing(lab, [f"{directory}/test-proxy.crt"]) == []
    assert existing(lab, FIREWALL_FILES) == FIREWALL_FILES
    counted = re.compile(r"packets \d+ bytes \d+")
    assert counted.sub("", lab.run(table)) == counted.sub("", rules)
    assert lab.started() == before
