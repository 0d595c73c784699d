"""What the role docker_host gives to the lab host, seen from inside and from outside."""

from __future__ import annotations

import json
import re
import typing as t

import pytest
import testinfra
from lab import STATE, Lab

Host = t.Any

STARTED = "docker inspect --format '{{.Name}} {{.State.StartedAt}} {{.State.Pid}}' $(docker ps -q)"
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
        counted = re.compile(r"packets \d+ bytes \d+")
        now = out(host, "nft list table inet vedfolnir")
        assert counted.sub("", now) == counted.sub("", rules)


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

    def test_no_rollback_is_pending(self, host: Host) -> None:
        assert host.run("systemctl is-active vedfolnir-firewall-rollback.timer").rc != 0

    def test_input_refuses_by_default_and_keeps_ssh_open(self, host: Host, rules: str) -> None:
        assert "type filter hook input priority filter; policy drop;" in rules
        for port in re.findall(r"^port (\d+)$", out(host, "sshd -T"), re.MULTILINE):
            assert re.search(rf"tcp dport (\{{ [^}}]*\b{port}\b[^}}]*\}}|{port}) accept", rules)

    def test_only_published_ports_reach_containers(self, rules: str) -> None:
        found = re.search(r"ct original proto-dst \{ (.*) \} accept", rules)
        assert found
        # Debian 12's nft shows these ports as "0x50 [invalid type]".
        assert [int(port.split()[0], 0) for port in found[1].split(", ")] == [80, 443]
        assert rules.index("proto-dst") < rules.index("ct status dnat jump refuse")

    def test_host_is_no_router(self, rules: str) -> None:
        assert re.search(r"hook forward .*\n\t\tjump refuse\n\t\}", rules, re.DOTALL)

    def test_own_table_leaves_those_of_docker_alone(self, host: Host) -> None:
        chains = out(host, "iptables -S")
        assert "-N DOCKER-USER" in chains

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

    def test_given_certificate_authorities_are_trusted(self, host: Host) -> None:
        bundle = host.file("/etc/ssl/certs/ca-certificates.crt").content_string
        listed = host.run("ls /usr/local/share/ca-certificates/vedfolnir")
        for name in listed.stdout.split():
            path = f"/usr/local/share/ca-certificates/vedfolnir/{name}"
            assert host.file(path).content_string.strip() in bundle

    def test_nothing_failed(self, host: Host) -> None:
        assert out(host, "systemctl --failed --no-legend --plain") == ""
