"""A rest-server on the target: rclone with TLS, a login, and no way to remove what is there."""

from __future__ import annotations

import time

from lab import Lab
from target import DIRECTORY, Target

USER = "keeper"
PASSWORD = "of-the-test-only-3"
_PORT = 8000
_INSTALL = (
    "command -v rclone >/dev/null || { apt-get update -q && apt-get install -qy rclone openssl; } "
    ">/tmp/installed 2>&1 || { tail -5 /tmp/installed >&2; exit 1; }"
)


class Rest:
    """The server; it may be stopped and started."""

    def __init__(self, target: Target) -> None:
        """Install it, with an authority of its own."""
        self.target = target
        self.repository = f"rest:https://{target.name}:{_PORT}/copy"
        target.run(_INSTALL)
        target.run(
            f"mkdir -p {DIRECTORY}/rest /root/tls; cd /root/tls; test -e ca.pem || openssl req "
            "-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 "
            f"-subj /CN={target.name} -addext subjectAltName=DNS:{target.name} "
            "-keyout key.pem -out ca.pem 2>/dev/null"
        )

    @property
    def ca(self) -> str:
        """What the host has to trust."""
        return self.target.run("cat /root/tls/ca.pem")

    def start(self, lab: Lab) -> None:
        """Start it and wait until the host gets an answer."""
        serve = (
            f"setsid rclone serve restic --addr :{_PORT} --append-only --user {USER} "
            f"--pass {PASSWORD} --cert /root/tls/ca.pem --key /root/tls/key.pem {DIRECTORY}/rest "
            ">/tmp/rest.log 2>&1 &"
        )
        self.target.run(serve)
        probe = f"timeout 2 bash -c '</dev/tcp/{self.target.name}/{_PORT}'"
        for _try in range(30):
            if lab.ssh(probe).returncode == 0:
                return
            time.sleep(1)
        raise AssertionError(self.target.run("cat /tmp/rest.log"))

    def stop(self) -> None:
        """Let it answer nobody."""
        self.target.run("for p in $(pidof rclone); do kill $p; done; sleep 1")
