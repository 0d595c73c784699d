"""Vault after a crash, a restart of the host, and in operators' hands."""

from __future__ import annotations

import json
import pathlib
import shlex
import subprocess
import typing as t

import pytest
from lab import Lab, wait_until

SETTINGS = "/etc/vedfolnir/vault/settings.json"
CREDENTIAL = "/etc/vedfolnir/vault/unseal.cred"
Status = t.Callable[[], str]


def restart_host(lab: Lab) -> None:
    restart = ["docker", "restart", "--time", "90", lab.name]
    subprocess.run(restart, check=True, stdout=subprocess.DEVNULL)
    wait_until(lambda: lab.ssh("true").returncode == 0, 120, "the host does not answer")


def answer(lab: Lab, url: str) -> str:
    """Return the status with which an address answers on the host, or why it does not."""
    script = """
import ssl, sys, urllib.error, urllib.request
trust = ssl.create_default_context(cafile="/etc/vedfolnir/vault/ca.pem")
try:
    print(urllib.request.urlopen(sys.stdin.read(), context=trust, timeout=5).status)
except urllib.error.HTTPError as exc:
    print(exc.code)
except OSError as exc:
    print(exc)
"""
    return lab.run(f"python3 -c {shlex.quote(script)}", stdin=url).strip()


def unseal(lab: Lab, *files: pathlib.Path) -> str:
    """Run the playbook as operators do, with their decrypted files."""
    names = ",".join(map(str, files))
    run = lab.playbook("playbooks/unseal.yml", "-vvv", variables={"unseal_keys_files": names})
    return run.check().output


@pytest.fixture
def keys(keys_file: pathlib.Path) -> list[str]:
    from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_recovery

    return vault_recovery.keys_in(keys_file.read_text(encoding="utf-8"))


@pytest.fixture
def mode(lab: Lab) -> t.Iterator[t.Callable[[str], None]]:
    """Set the way of unsealing as the role writes it; it is `sealed` again afterwards."""

    def choose(unseal_by: str) -> None:
        settings = json.loads(lab.run(f"cat {SETTINGS}"))
        lab.run(f"cat > {SETTINGS}", stdin=json.dumps({**settings, "unseal": unseal_by}))

    yield choose
    choose("sealed")


def test_the_health_check_tells_sealed_from_down(lab: Lab, vault: Status) -> None:
    lab.run("systemctl stop vedfolnir-vault-keep.timer")
    try:
        lab.run(f"kill -9 {lab.inspect()['vault']['State']['Pid']}")
        wait_until(lambda: vault() == "sealed", 60, "Vault did not come back sealed")
        log = "docker inspect -f '{{json .State.Health}}' vedfolnir-vault-1"
        wait_until(
            lambda: (
                json.loads(lab.run(log))["Status"] == "unhealthy"
                and "sealed" in json.loads(lab.run(log))["Log"][-1]["Output"]
            ),
            90,
            "the health check does not say sealed",
        )
        running = lab.unhealthy()
        assert running == ["vault"]
        lab.run("systemctl start vedfolnir-vault-keep.service")
        assert vault() == "open"
    finally:
        lab.run("systemctl start vedfolnir-vault-keep.timer")
    journal = lab.run("journalctl -u vedfolnir-vault-keep.service -n 20 -o cat")
    assert "Vault had come back sealed and was unsealed" in journal


def test_operators_unseal_one_after_the_other(
    lab: Lab, vault: Status, keys: list[str], tmp_path: pathlib.Path
) -> None:
    """Two calls with a key each; no key is in what the second, most talkative one prints."""
    lab.run("systemctl stop vedfolnir-vault-keep.timer")
    try:
        lab.compose("restart vault")
        wait_until(lambda: vault() == "sealed", 60, "Vault did not come back sealed")
        files = []
        for number, key in enumerate(keys[:2]):
            files.append(tmp_path / f"{number}.txt")
            files[-1].write_text(f"A letter\n{key}\n")
        output = unseal(lab, files[0])
        assert "waits for 1 more" in output
        assert vault() == "sealed"
        output += unseal(lab, files[1])
        assert vault() == "open"
        assert [key for key in keys if key in output] == []
        # What is open is left alone.
        assert (
            lab.playbook("playbooks/unseal.yml", variables={"unseal_keys_files": str(files[0])})
            .check()
            .recap["changed"]
            == 0
        )
    finally:
        lab.run("systemctl start vedfolnir-vault-keep.timer")


def test_the_certificate_is_renewed_without_a_restart(lab: Lab, vault: Status) -> None:
    before = lab.started()["vault"]
    address = json.loads(lab.run(f"cat {SETTINGS}"))["address"]
    served = f"openssl s_client -connect {address}:8200 </dev/null 2>/dev/null | openssl x509"
    old = lab.run(served)
    lab.run("rm /etc/vedfolnir/vault/tls/server.pem")
    lab.run("systemctl start vedfolnir-vault-keep.service")
    wait_until(lambda: lab.run(served) != old, 30, "the old certificate is still presented")
    assert (lab.started()["vault"], vault()) == (before, "open")


def test_the_audit_log_is_rotated(lab: Lab) -> None:
    log = "/srv/vedfolnir/logs/vault/audit.log"
    lab.run("logrotate --force /etc/logrotate.d/vedfolnir-vault")
    assert lab.run(f"ls {log}-*").strip()
    # Every login is written down; this one to the new file.
    lab.exec("vault", "bao write auth/approle/login role_id=nobody secret_id=nothing")
    lines = lab.run(f"cat {log}").splitlines()
    assert any(json.loads(line)["request"]["path"] == "auth/approle/login" for line in lines)
    assert "nothing" not in "".join(lines)
    assert lab.run(f"stat -c %a:%u {log}").strip() == "600:100"


def test_metrics_are_on_the_monitoring_network_only(lab: Lab) -> None:
    networks = lab.inspect()["vault"]["NetworkSettings"]["Networks"]
    address = {name.rpartition("_")[2]: item["IPAddress"] for name, item in networks.items()}
    path = "v1/sys/metrics?format=prometheus"
    assert answer(lab, f"https://{address['monitoring']}:8202/{path}") == "200"
    assert answer(lab, f"https://{address['internal']}:8200/{path}") in ("400", "403")
    assert answer(lab, f"https://{address['monitoring']}:8202/v1/sys/seal-status") == "404"
    for closed in (f"{address['monitoring']}:8200", f"{address['internal']}:8202"):
        assert "refused" in answer(lab, f"https://{closed}/")


def test_with_keys_in_hand_a_restarted_host_waits_for_them(
    lab: Lab,
    vault: Status,
    mode: t.Callable[[str], None],
    keys_file: pathlib.Path,
) -> None:
    """Nothing starts without Vault; the journal says what to do; a quorum brings all back."""
    before = set(lab.inspect())
    mode("manual")
    lab.run(f"rm {CREDENTIAL}")
    restart_host(lab)
    wait_until(lambda: vault() == "sealed", 120, "Vault was not started")
    journal = "journalctl -b -u vedfolnir-vault.service -o cat"
    wait_until(
        lambda: (
            "waits for 2 of 2 keys; the stack starts after it. Operators: run playbooks/unseal.yml"
            in lab.run(journal)
        ),
        60,
        "the journal does not say what is missing",
    )
    assert set(lab.inspect()) == {"vault"}
    mode("sealed")  # so that the host gets keys again, too
    unseal(lab, keys_file)
    wait_until(
        lambda: set(lab.inspect()) == before and not lab.unhealthy(), 300, "not all is healthy"
    )
    assert lab.run(f"stat -c %a:%u {CREDENTIAL}").strip() == "400:0"
