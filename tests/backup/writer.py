"""Runs on the host: writes rows and keys one after the other, and when each was sent and answered.

A line of its record is ``rows|keys NUMBER SENT ANSWERED``; without an answer nobody knows whether
it was kept. Ends when it is asked to by SIGTERM.
"""

from __future__ import annotations

import hashlib
import pathlib
import signal
import subprocess
import sys
import time
import typing as t

RECORD = "/root/written"
_EXEC = ["env", "--chdir=/srv/vedfolnir", "docker", "compose", "exec", "-T"]
_MYSQL = ["mysql", "--defaults-extra-file=/run/secrets/root.cnf", "-N", "--unbuffered", "vedfolnir"]
_PASSWORD = "/run/vedfolnir/secrets/app/redis_password"


class Client:
    """A client that is connected again when its server has gone."""

    def __init__(self, argv: list[str], hello: str) -> None:
        self._argv, self._hello = argv, hello
        self._child: subprocess.Popen[str] | None = None

    def ask(self, text: str) -> str:
        """Send a line and return the answer's, empty if there is none."""
        try:
            if self._child is None or self._child.poll() is not None:
                self._child = subprocess.Popen(
                    self._argv,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    bufsize=1,
                )
                if self._hello:
                    self._line(self._hello)
            return self._line(text)
        except OSError:
            self._child = None
            return ""

    def _line(self, text: str) -> str:
        child = t.cast("subprocess.Popen[str]", self._child)
        t.cast("t.IO[str]", child.stdin).write(f"{text}\n")
        return t.cast("t.IO[str]", child.stdout).readline().strip()


def value(number: int) -> str:
    """Return what belongs to a number."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def main() -> None:
    """Write until somebody asks to end."""
    going = True

    def end(_number: int, _frame: object) -> None:
        nonlocal going
        going = False

    signal.signal(signal.SIGTERM, end)
    password = pathlib.Path(_PASSWORD).read_text(encoding="utf-8").strip()
    clients = {
        "rows": Client([*_EXEC, "mysql", *_MYSQL], ""),
        "keys": Client([*_EXEC, "redis", "redis-cli"], f"AUTH vedfolnir {password}"),
    }
    number = int(sys.argv[1])
    with open(RECORD, "a", encoding="utf-8", buffering=1) as record:
        while going:
            number += 1
            texts = {
                "rows": f"INSERT INTO backup_moment VALUES ({number}, '{value(number)}'); "
                f"SELECT {number};",
                "keys": f"SET probe:{number} {value(number)}",
            }
            for kind, client in clients.items():
                sent = time.time()
                good = client.ask(texts[kind]) in (str(number), "OK")
                answered = f"{time.time():.6f}" if good else ""
                record.write(f"{kind} {number} {sent:.6f} {answered}\n")
            time.sleep(0.004)


main()
