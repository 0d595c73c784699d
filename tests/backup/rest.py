"""A rest-server on the target: rclone with TLS, a login, and no way to remove what is there."""

from __future__ import annotations

import time

from lab import Lab
from target import DIRECTORY, Target

USER = "keeper"
PASSWORD = "of-the-test-only-3"
_INSTALL = (
    "command -v rclone >/dev/null || { apt-get update -q && apt-get install -qy rclone openssl; } "
    ">/tmp/installed 2>&1 || { tail -5 /tmp/installed >&2; exit 1; }"
)


class Rest:
    """The server; it may be stopped and started."""

    port = 8000
    install = _INSTALL

    def __init__(self, target: Target) -> None:
        """Install it, with an authority of its own."""
        self.target = target
        self.repository = f"rest:https://{target.name}:{self.port}/copy"
        target.run(self.install)
        target.run(
            f"mkdir -p {DIRECTORY}/rest {DIRECTORY}/s3 /root/tls; cd /root/tls; test -e ca.pem || "
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 "
            f"-subj /CN={target.name} -addext subjectAltName=DNS:{target.name} "
            "-keyout key.pem -out ca.pem 2>/dev/null"
        )

    @property
    def ca(self) -> str:
        """What the host has to trust."""
        return self.target.run("cat /root/tls/ca.pem")

    @property
    def command(self) -> str:
        """How it is started."""
        return (
            f"rclone serve restic --addr :{self.port} --append-only --user {USER} "
            f"--pass {PASSWORD} --cert /root/tls/ca.pem --key /root/tls/key.pem {DIRECTORY}/rest"
        )

    def signal(self, name: str) -> None:
        """Send it a signal."""
        self.target.run(f"kill -{name} $(cat /run/{self.port}.pid)")

    def start(self, lab: Lab) -> None:
        """Start it and wait until the host gets an answer."""
        log, pid = f"/tmp/{self.port}.log", f"/run/{self.port}.pid"
        self.target.run(f"setsid {self.command} >{log} 2>&1 & echo $! >{pid}")
        probe = f"timeout 2 bash -c '</dev/tcp/{self.target.name}/{self.port}'"
        for _try in range(30):
            if lab.ssh(probe).returncode == 0:
                return
            time.sleep(1)
        raise AssertionError(self.target.run(f"cat {log}"))

    def stop(self) -> None:
        """Let it answer nobody."""
        self.signal("TERM")
        self.target.run("sleep 1")
