"""A bare lab host is what the roles take for a server."""

from __future__ import annotations

import subprocess

from vedfolnir_lab import hosts


def on_host(command: str) -> str:
    done = subprocess.run(
        [*hosts.ssh_arguments(), command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()


def test_systemd_is_its_first_process() -> None:
    assert on_host("cat /proc/1/comm") == "systemd"
    assert on_host("systemctl is-system-running") in {"running", "degraded"}


def test_no_unit_of_the_image_itself_fails() -> None:
    failed = on_host("systemctl --failed --plain --no-legend").splitlines()
    assert not [line for line in failed if "vedfolnir" not in line]


def test_names_of_the_internet_and_of_the_lab_resolve() -> None:
    archive = on_host("sed -n '1s|^deb http://\\([^/]*\\)/.*|\\1|p' /etc/apt/sources.list")
    assert on_host(f"getent hosts fediverse.lab mastodon.lab {archive}").count("\n") == 2


def test_the_fake_platform_answers_the_host() -> None:
    script = "import urllib.request as u; u.urlopen('http://fediverse.lab:8080/api/v1/instance')"
    assert on_host(f'python3 -c "{script}" && echo yes') == "yes"


def test_it_can_install_packages() -> None:
    assert on_host("apt-get update >/dev/null 2>&1 && echo yes") == "yes"


def test_the_archive_of_service_images_is_there_read_only() -> None:
    assert on_host("ls /var/lib/vedfolnir-images | grep -c tar") == "1"
    assert on_host("touch /var/lib/vedfolnir-images/x 2>&1").endswith("Read-only file system")


def test_only_the_labs_key_opens_it() -> None:
    arguments = [
        a.replace("id_ed25519", "known_hosts.vedfolnir-lab") for a in hosts.ssh_arguments()
    ]
    done = subprocess.run(
        [*arguments[:-1], "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", arguments[-1], "true"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 255
