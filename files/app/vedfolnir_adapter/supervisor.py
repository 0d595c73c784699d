"""Run a few worker processes, start them again when they end, stop them together."""

from __future__ import annotations

import ctypes
import dataclasses
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import types
import typing as t

from vedfolnir_adapter.settings import clean_environment

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG: t.Final = 1
MAX_BACKOFF: t.Final = 30.0
#: A process that lived this long has not failed at its start.
HEALTHY_SECONDS: t.Final = 30.0


def stop_grace() -> float:
    """Return how long a worker may go on with its task after SIGTERM."""
    return float(os.environ.get("VEDFOLNIR_STOP_GRACE", "8"))


def die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent process ends."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclasses.dataclass
class Worker:
    """One supervised process."""

    name: str
    arguments: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    next_start: float = 0.0
    backoff: float = 1.0

    def start(self) -> None:
        """Start it without secrets in its environment."""
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", *self.arguments], env=clean_environment(os.environ)
        )

    def check(self, now: float) -> None:
        """Start it, or start it again, after a growing pause."""
        if self.process is None:
            if now >= self.next_start:
                self.start()
            return
        code = self.process.poll()
        if code is None:
            return
        self.backoff = 1.0 if now - self.started > HEALTHY_SECONDS else self.backoff
        log.error("%s ended with code %s; starting it again in %g s", self.name, code, self.backoff)
        self.process = None
        self.next_start = now + self.backoff
        self.backoff = min(MAX_BACKOFF, self.backoff * 2)


class Supervisor:
    """Keep workers running until SIGTERM or the end of the parent."""

    def __init__(self, workers: t.Sequence[Worker]) -> None:
        """Take the workers; nothing runs yet."""
        self.workers = list(workers)
        self._stop = threading.Event()
        self._parent = os.getppid()

    def _request_stop(self, _signal: int, _frame: types.FrameType | None) -> None:
        self._stop.set()

    def run(self) -> int:
        """Supervise; returns when everything has ended."""
        signal.signal(signal.SIGTERM, self._request_stop)
        signal.signal(signal.SIGINT, self._request_stop)
        while not self._stop.is_set() and os.getppid() == self._parent:
            for worker in self.workers:
                worker.check(time.monotonic())
            self._stop.wait(0.5)
        return self._shut_down()

    def _shut_down(self) -> int:
        running = [w.process for w in self.workers if w.process and w.process.poll() is None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + stop_grace() + 4
        for process in running:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("Process %d did not end in time; killing it", process.pid)
                process.kill()
                process.wait()
        log.info("Stopped")
        return 0
