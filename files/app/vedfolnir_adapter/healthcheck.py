"""Health check for Compose: `python -S -m vedfolnir_adapter.healthcheck web|worker`.

Standard library only and no import of the application: it runs every few seconds.
"""

from __future__ import annotations

import os
import socket
import sys

TIMEOUT = 8.0
USAGE = "usage: healthcheck web|worker"


def web(port: int, path: str = "/health/ready") -> str | None:
    """Return what is wrong with the web process, or nothing."""
    request = f"GET {path} HTTP/1.0\r\nHost: localhost\r\nUser-Agent: healthcheck\r\n\r\n"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
            connection.settimeout(TIMEOUT)
            connection.sendall(request.encode())
            status = connection.recv(64).split(b"\r\n", 1)[0].split()
    except OSError as exc:
        return f"no answer on port {port}: {type(exc).__name__}"
    if len(status) > 1 and status[1] == b"200":
        return None
    return f"{path} answered {status[1].decode() if len(status) > 1 else 'nothing'}"


def worker(mode: str) -> str | None:
    """Return what is wrong with the worker, or nothing."""
    from vedfolnir_adapter import heartbeat

    if mode not in heartbeat.EXPECTED:
        return f"VEDFOLNIR_WORKER_MODE is {mode}, which has no worker of its own"
    return "; ".join(heartbeat.stale(mode)) or None


def main(arguments: list[str]) -> int:
    """Check and print one word or the complaint."""
    if arguments == ["web"]:
        fault = web(int(os.environ.get("VEDFOLNIR_PORT", "5000")))
    elif arguments == ["worker"]:
        fault = worker(os.environ.get("VEDFOLNIR_WORKER_MODE", "polling"))
    else:
        sys.stderr.write(f"{USAGE}\n")
        return 2
    sys.stdout.write(f"{fault or 'healthy'}\n")
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
