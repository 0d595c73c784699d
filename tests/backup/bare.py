"""A further lab host with nothing on it, and the sheet that brings a lost one back."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

import kept
import lab as lab_module
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from lab import ROOT, STATE, Lab, ansible_environment

sys.path.insert(0, str(ROOT / "tests" / "vault"))

import vaulted

_PASSWORD = "of-the-test-only-2"
MEGABYTES = int(os.environ.get("VEDFOLNIR_BARE_MB", "64"))
IMAGES = int(os.environ.get("VEDFOLNIR_BARE_IMAGES", "200"))
_INNER = (22, 80, 443)


BULK = "SELECT CONCAT(COUNT(*), ' ', BIT_XOR(CRC32(CONCAT(id, raw)))) FROM backup_bulk"
_TABLE = "CREATE TABLE IF NOT EXISTS backup_bulk (id INT PRIMARY KEY, raw VARBINARY(8000));"
_AT_ONCE = 4096
HUGE = 16384
"""Rows of one statement of 64 MB, for which a replay takes more than a MySQL of 1 GiB has."""


def rows(lab: Lab, at_once: int = _AT_ONCE) -> None:
    """Write rows that no compression makes smaller, 4 KiB each; so many in one statement."""
    kept.sql(lab, _TABLE)
    count = 256 * MEGABYTES
    raw = ", ".join(["RANDOM_BYTES(1024)"] * 4)
    for first in range(0, count, at_once):
        last = min(first + at_once, count) - 1
        kept.sql(
            lab,
            f"SET SESSION cte_max_recursion_depth = {at_once}; REPLACE INTO backup_bulk WITH "
            f"RECURSIVE n AS (SELECT {first} AS i UNION ALL SELECT i + 1 FROM n WHERE i < {last}) "
            f"SELECT i, CONCAT({raw}) FROM n",
        )


def fill(lab: Lab) -> str:
    """Write rows and images that belong together; return a digest of the rows."""
    rows(lab)
    images = [
        "INSERT INTO images (post_id, image_url, local_path, attachment_index) SELECT MIN(id), "
        f"'https://x/{number}', 'storage/images/many-{number}.png', 0 FROM posts;"
        for number in range(IMAGES)
    ]
    kept.sql(lab, "\n".join(images))
    lab.run(
        "cd /srv/vedfolnir/storage/images && for n in $(seq 0 "
        f"{IMAGES - 1}); do head -c 30000 /dev/urandom >many-$n.png; done; chown 1990:1990 many-*"
    )
    return kept.sql(lab, BULK)


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Bare(Lab):
    """A lab host of its own, in an inventory of its own."""

    def inventory(self) -> pathlib.Path:
        """Return where it is described."""
        return STATE / f"bare-{self.name}"

    def make(self) -> None:
        """Make it, and let the tests' playbooks know it."""
        ports = {inner: free_port() for inner in _INNER}
        host = {
            "ansible_port": ports[22],
            "lab_host_image": "host13",
            "stack_public_port": ports[443],
            "lab_host_ports": [f"127.0.0.1:{outer}:{inner}" for inner, outer in ports.items()],
        }
        self.inventory().mkdir(exist_ok=True)
        text = yaml.safe_dump({"vedfolnir": {"hosts": {self.name: host}}})
        (self.inventory() / "hosts.yml").write_text(text, encoding="utf-8")
        lab_module.INVENTORIES.append(self.inventory() / "hosts.yml")
        self.remove()
        # What stands beside the hosts is there already.
        steps = ROOT / "molecule/shared/tasks/host.yml"
        here = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        }
        task = {
            "delegate_to": "localhost",
            "vars": here,
            "block": [{"ansible.builtin.include_tasks": str(steps)}],
        }
        play = {"hosts": "vedfolnir", "gather_facts": False, "tasks": [task]}
        path = self.inventory() / "create.yml"
        path.write_text(yaml.safe_dump([play]), encoding="utf-8")
        self.playbook(str(path)).check()

    def remove(self) -> None:
        """Remove it with all that is on it."""
        for argv in (["rm", "-f", "-v", self.name], ["volume", "rm", f"{self.name}-docker"]):
            subprocess.run(["docker", *argv], capture_output=True, check=False)

    def forget(self) -> None:
        """Remove it and its inventory."""
        self.remove()
        lab_module.INVENTORIES.remove(self.inventory() / "hosts.yml")


def sheet(lab: Lab) -> str:
    """Return what the program prints for paper, as a terminal gets it."""
    argv = lab.ssh_argv("/usr/local/lib/vedfolnir/backup keys")
    done = subprocess.run(
        [argv[0], "-tt", *argv[1:]],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.replace("\r\n", "\n")


def keep(directory: pathlib.Path, lab: Lab) -> list[str]:
    """Write the sheet, encrypted, and the operators' keys; return the arguments of a playbook."""
    (directory / "password").write_text(_PASSWORD, encoding="utf-8")
    vault = VaultLib([("default", VaultSecret(_PASSWORD.encode()))])
    text = sheet(lab)
    (directory / "sheet.yml").write_bytes(vault.encrypt(text[text.index("---\n") :]))
    keys = directory / "lab.txt"
    keys.write_bytes(vaulted.letter(lab))
    arguments = [f"--vault-password-file={directory / 'password'}"]
    arguments += ["--extra-vars", f"@{directory / 'sheet.yml'}"]
    return [*arguments, "--extra-vars", f"unseal_keys_files={keys}"]


def figures(said: str) -> tuple[int, int]:
    """Return RTO and age of the backup, in seconds, as the last line tells them."""
    match = re.search(r"RTO (\d+) s .* recovery point \S+, (\d+) s before", " ".join(said.split()))
    assert match, said[-3000:]
    return int(match[1]), int(match[2])


def killed_at(argv: list[str], moment: str) -> None:
    """Start a playbook and kill it and its children when it says something."""
    with subprocess.Popen(
        argv,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        env=ansible_environment(),
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if moment in line:
                break
        else:
            raise AssertionError(f"{moment!r} was never said:\n{said[-3000:]}")
        # Not with kill(1): that of procps 4.0.2 takes the first digit of a group for the whole of
        # it, and -1 is every process of the machine.
        os.killpg(process.pid, signal.SIGKILL)
