# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Give up a target that refuses again and again.

restic tries each request for a quarter of an hour, and no option of it changes that. But it tells
each failure and when it tries again, and when it is asked to end it takes its lock away.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
import typing as t

_LOOK_SECONDS = 0.5
_GRACE_SECONDS = 20.0
_AGAIN = re.compile(r"(?P<what>.+?) returned error, retrying after (?P<delay>\S+): .+")
_WELL = re.compile(r"(?P<what>.+?) operation successful after \d+ retries")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def seconds(duration: str) -> float:
    """Return a duration that Go has printed, as ``1m3.2s``."""
    return sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(duration))


class Patience:
    """For how long each request may fail again and again."""

    def __init__(self, most: float) -> None:
        """Begin with requests that have never failed.

        Args:
            most: After how many seconds no other try of a request may begin.
        """
        self._most = most
        self._since: dict[str, float] = {}
        self.lost = ""
        """What restic said when it was given up."""

    def hear(self, line: str, now: float) -> None:
        """Take notice of what restic says."""
        if well := _WELL.fullmatch(line):
            self._since.pop(well["what"], None)
        elif again := _AGAIN.fullmatch(line):
            begun = self._since.setdefault(again["what"], now)
            if now + seconds(again["delay"]) - begun > self._most:
                self.lost = self.lost or line


@contextlib.contextmanager
def watch(
    child: subprocess.Popen[bytes], said: t.Callable[[], str], most: float
) -> t.Iterator[Patience]:
    """Watch what restic says inside; it is ended when a request fails for too long.

    Args:
        child: The process of restic, the first of its session.
        said: Returns all that it has said on its standard error.
        most: See :class:`Patience`.

    Yields:
        Tells whether it was given up.
    """
    patience, over = Patience(most), threading.Event()

    def look() -> None:
        heard = 0
        while not patience.lost:
            if over.wait(_LOOK_SECONDS):
                return
            lines = said().split("\n")[:-1]
            for line in lines[heard:]:
                patience.hear(line.strip(), time.monotonic())
            heard = len(lines)
        child.send_signal(signal.SIGINT)
        if not over.wait(_GRACE_SECONDS):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield patience
    finally:
        over.set()
        watcher.join()
