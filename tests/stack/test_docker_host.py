"""What the role docker_host gives to the lab host, seen from inside and from outside."""

from __future__ import annotations

import json
import re
import time
import typing as t

import pytest
import testinfra
from lab import ROOT, STATE, Lab, answers, wait_until

Host = t.Any

STARTED = "docker inspect --format '{{.Name}} {{.State.StartedAt}} {{.State.Pid}}' $(docker ps -q)"
COUNTED = re.compile(r"packets \d+ bytes \d+")
SINGLE = re.compile(r"\{ ([^,{}\n]+) \}")
NEW_RULES = "/run/test-rules.nft"
CONFIRMED = "/var/lib/vedfolnir/firewall.nft"
SSH_OPEN = "tcp dport { 22 } accept"
SECONDS = 15
"""How long the tests wait for rules to be confirmed: the least that the role allows."""
DOCKER_PACKAGES = ("docker.io", "docker-cli", "docker-compose", "docker-buildx")


def out(host: Host, command: str) -> str:
    """Return what a command prints; it must succeed."""
    result = host.run(command)
    assert result.rc == 0, f"{command}\n{result.stdout}{result.stderr}"
    return str(result.stdout).strip()


def connects(host: Host, container_pid: str, address: str, port: int) -> bool:
    """Tell whether a TCP connection can be made from the network of a process."""
    code = f"import socket; socket.create_connection(('{address}', {port}), 3)"
    return bool(host.run(f'nsenter -t {container_pid} -n /usr/bin/python3 -c "{code}"').rc == 0)


@pytest.fixture(scope="module")
def host(lab: Lab) -> Host:
    return testinfra.get_host(
        f"ssh://root@127.0.0.1:{lab.port(22)}",
        ssh_identity_file=str(STATE / "ssh" / "id_ed25519"),
        ssh_extra_args="-F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
        " -o LogLevel=ERROR -o BatchMode=yes",
    )


@pytest.fixture(scope="module")
def rules(host: Host) -> str:
    return out(host, "nft list table inet vedfolnir")


def table(lab: Lab) -> str:
    """Return the rules that are loaded, without what they have counted.

    A set of one is shown with braces or without, depending on what it was loaded from.
    """
    return SINGLE.sub(r"\1", COUNTED.sub("", lab.run("nft list table inet vedfolnir")))


def loaded_from_file(lab: Lab) -> str:
    """Return the rules that are loaded at the start of the host."""
    return lab.run("cat /etc/nftables.d/vedfolnir.nft")


@pytest.fixture
def loaded(lab: Lab) -> t.Iterator[str]:
    """The rules that are loaded before the test, and again after it."""
    before = table(lab)
    yield before
    wait_until(lambda: answers(lab.address, 22), 60, "SSH stays closed")
    lab.run(f"rm -f {NEW_RULES}; systemctl restart vedfolnir-firewall")


@pytest.fixture
def routed(host: Host) -> t.Iterator[dict[str, str]]:
    """Two networks beside the host that know the way to each other and to containers through it."""
    policy = out(host, "iptables -S FORWARD").splitlines()[0]
    services = "docker inspect -f '{{.NetworkSettings.Networks.vedfolnir_edge.IPAddress}}'"
    application = out(host, f"{services} $(docker ps -q --filter name=app-1)").split()[0]
    try:
        for number, name in enumerate(("test-near", "test-far"), start=1):
            own, other = f"198.51.100.{number * 16 + 1}", f"198.51.100.{number * 16 + 2}"
            out(host, f"ip netns add {name}")
            out(host, f"ip link add {name} type veth peer name eth0 netns {name}")
            out(host, f"ip address add {own}/28 dev {name} && ip link set {name} up")
            inside = f"ip -n {name}"
            out(host, f"{inside} address add {other}/28 dev eth0 && {inside} link set eth0 up")
            out(host, f"{inside} route add default via {own}")
        serve = "ip netns exec test-far python3 -m http.server 8123"
        out(host, f"systemd-run --quiet --collect --unit=test-far {serve}")
        out(host, "iptables -P FORWARD ACCEPT")
        yield {"198.51.100.34": "8123", application: "5000"}
    finally:
        host.run(f"iptables {policy}")
        host.run("systemctl stop test-far; ip netns del test-near; ip netns del test-far")


def closed(host: Host, targets: dict[str, str]) -> bool:
    """Tell whether none of the targets is reached from the near network; all or none must be."""
    results = [
        host.run(f"ip netns exec test-near timeout 3 bash -c '</dev/tcp/{address}/{port}'").rc
        for address, port in targets.items()
    ]
    assert set(results) in ({0}, {124}), results
    return set(results) == {124}


@pytest.fixture(scope="module")
def info(host: Host) -> dict[str, t.Any]:
    value: dict[str, t.Any] = json.loads(out(host, "docker info --format '{{json .}}'"))
    return value


class TestDocker:
    def test_daemon_runs_with_the_settings_of_its_file(
        self, host: Host, info: dict[str, t.Any]
    ) -> None:
        settings = json.loads(host.file("/etc/docker/daemon.json").content_string)
        assert settings["log-driver"] == info["LoggingDriver"] == "journald"
        assert settings["live-restore"] is info["LiveRestoreEnabled"] is True
        assert settings["userland-proxy"] is False
        assert settings["icc"] is False

    def test_no_userland_proxy_runs(self, host: Host) -> None:
        assert host.run("pgrep -x docker-proxy").rc == 1

    def test_default_bridge_lies_in_the_address_pool_and_keeps_containers_apart(
        self, host: Host
    ) -> None:
        bridge = json.loads(out(host, "docker network inspect bridge"))[0]
        assert bridge["IPAM"]["Config"][0]["Subnet"].startswith("172.29.")
        assert bridge["Options"]["com.docker.network.bridge.enable_icc"] == "false"

    def test_docker_starts_with_the_host(self, host: Host) -> None:
        assert host.service("docker").is_enabled
        assert host.service("docker").is_running

    @pytest.mark.parametrize("name", DOCKER_PACKAGES)
    def test_packages_are_held(self, host: Host, name: str) -> None:
        assert name in out(host, "apt-mark showhold").split()

    def test_compose_and_buildx_answer(self, host: Host) -> None:
        assert out(host, "docker compose version --short")
        assert out(host, "docker buildx version")

    def test_restart_of_the_daemon_leaves_containers_and_firewall_alone(
        self, host: Host, rules: str
    ) -> None:
        before = out(host, STARTED)
        assert before, "no container runs: nothing would be proven"
        out(host, "systemctl restart docker")
        assert out(host, STARTED) == before
        now = out(host, "nft list table inet vedfolnir")
        assert COUNTED.sub("", now) == COUNTED.sub("", rules)


class TestFirewall:
    def test_loaded_rules_are_those_of_the_file(self, host: Host, rules: str) -> None:
        stored = host.file("/etc/nftables.d/vedfolnir.nft").content_string
        digest = re.search(r'comment "rules ([0-9a-f]{64})"', stored)
        assert digest
        assert digest[0] in rules

    def test_unit_loads_them_at_the_start_before_docker(self, host: Host) -> None:
        assert host.service("vedfolnir-firewall").is_enabled
        assert host.service("vedfolnir-firewall").is_running
        before = out(host, "systemctl show vedfolnir-firewall -p Before --value").split()
        assert "docker.service" in before

    def test_a_port_of_the_host_is_closed_to_containers(self, host: Host) -> None:
        out(host, "systemd-run --quiet --collect --unit=test-port python3 -m http.server 8123")
        try:
            code = "import socket, time\nfor i in range(20):\n try: socket.create_connection("
            code += "('127.0.0.1', 8123), 1); break\n except OSError: time.sleep(0.2)\n"
            code += "else: raise SystemExit(1)"
            out(host, f'python3 -c "{code}"')
            found = out(host, "docker ps -q").split()
            assert found
            for name in found:
                pid = out(host, f"docker inspect -f '{{{{.State.Pid}}}}' {name}")
                networks = json.loads(
                    out(host, f"docker inspect -f '{{{{json .NetworkSettings.Networks}}}}' {name}")
                )
                gateways = [one["Gateway"] for one in networks.values() if one["Gateway"]]
                reached = [one for one in gateways if connects(host, pid, one, 8123)]
                assert not reached, f"{name} reaches the host at {reached}"
        finally:
            host.run("systemctl stop test-port")

    def test_the_host_is_no_router(self, host: Host, routed: dict[str, str]) -> None:
        """Even where Docker's own policy lets pass what comes from one network to another."""
        assert closed(host, routed)
        out(host, "systemctl stop vedfolnir-firewall")
        try:
            assert not closed(host, routed), "nothing would be proven: the way is closed anyway"
        finally:
            out(host, "systemctl start vedfolnir-firewall")
        assert closed(host, routed)


class TestRollback:
    """Rules that lock everybody out go by themselves."""

    def test_former_rules_come_back_unless_the_new_ones_are_confirmed(
        self, lab: Lab, loaded: str
    ) -> None:
        """With the very script of the role."""
        script = (ROOT / "roles/docker_host/files/firewall_apply.sh").read_text(encoding="utf-8")
        closing = loaded_from_file(lab).replace(SSH_OPEN, "tcp dport { 22 } drop")
        assert closing != loaded_from_file(lab)
        lab.run(f"cat > {NEW_RULES}", stdin=closing)
        address = lab.address  # learnt while it can still be asked
        lab.run(f"sh -s {NEW_RULES} {SECONDS} {CONFIRMED}", stdin=script)
        begun = time.monotonic()
        assert not answers(address, 22)
        assert answers(address, 443), "the host is gone, not only its SSH"
        wait_until(lambda: answers(address, 22), SECONDS + 15, "SSH stays closed")
        assert time.monotonic() - begun > SECONDS / 2
        assert table(lab) == loaded
        assert "vedfolnir-firewall-rollback" not in lab.run("systemctl list-timers --all")

    def test_the_role_says_that_it_was_locked_out(self, lab: Lab, loaded: str) -> None:
        """As if it had not seen on which port SSH is served."""
        wrong = {
            "__docker_host_ssh_ports": [2222],
            "docker_host_firewall_rollback_seconds": SECONDS,
        }
        result = lab.playbook("site.yml", "--tags", "docker_host", variables=wrong)
        assert result.status == 2, result.output[-4000:]
        assert result.recap["failed"] == 1
        said = " ".join(result.output.split())
        assert f"were not confirmed within {SECONDS} seconds, so the former ones are back" in said
        assert table(lab) == loaded
        again = lab.playbook("site.yml", "--tags", "docker_host").check()
        assert "Load the rules of the firewall" not in again.output
        assert SSH_OPEN in loaded_from_file(lab)


class TestHost:
    def test_user_of_the_stack_has_fixed_numbers_and_no_shell(self, host: Host) -> None:
        user = host.user("vedfolnir")
        assert (user.uid, user.gid, user.shell) == (1990, 1990, "/usr/sbin/nologin")

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("net.core.somaxconn", "4096"),
            ("net.ipv4.conf.all.accept_redirects", "0"),
        ],
    )
    def test_kernel_parameters_are_set(self, host: Host, key: str, value: str) -> None:
        assert out(host, f"sysctl -n {key}") == value

    def test_what_belongs_to_the_machine_is_left_out_in_a_container(self, host: Host) -> None:
        inside = host.run("systemd-detect-virt --container --quiet").rc == 0
        written = host.file("/etc/sysctl.d/99-vedfolnir.conf").content_string
        assert ("vm.overcommit_memory" in written) is not inside
        assert host.package("chrony").is_installed is not inside

    def test_security_updates_come_by_themselves_but_not_dockers(self, host: Host) -> None:
        settings = out(host, "apt-config dump")
        assert 'APT::Periodic::Unattended-Upgrade "1";' in settings
        assert r'Unattended-Upgrade::Package-Blacklist:: "^docker\.io$";' in settings

    def test_journal_is_kept_and_bounded(self, host: Host) -> None:
        written = host.file("/etc/systemd/journald.conf.d/vedfolnir.conf").content_string
        assert {"Storage=persistent", "SystemMaxUse=2G"} <= set(written.splitlines())
        assert host.file("/var/log/journal").is_directory

    def test_nothing_failed(self, host: Host) -> None:
        assert out(host, "systemctl --failed --no-legend --plain") == ""
