"""Signs of life of worker processes: the age of a file. Standard library only, and fast."""

from __future__ import annotations

import os
import time

DEFAULT_DIRECTORY = "/tmp/vedfolnir-heartbeat"  # noqa: S108 - private to the container
MAX_AGE = 120.0

#: The processes whose signs a worker container must show, by worker mode.
EXPECTED = {
    "polling": ("polling",),
    "integrated": ("polling",),
    "rq": ("rq-dispatcher", "rq-worker"),
}


def directory() -> str:
    """Return where the files are."""
    return os.environ.get("VEDFOLNIR_HEARTBEAT_DIR") or DEFAULT_DIRECTORY


def beat(name: str) -> None:
    """Leave a sign of life."""
    os.makedirs(directory(), exist_ok=True)
    path = os.path.join(directory(), name)
    with open(path, "w", encoding="ascii"):
        pass
    os.utime(path)


def stale(mode: str) -> list[str]:
    """Return a complaint for every process that shows no recent sign of life."""
    complaints = []
    for name in EXPECTED[mode]:
        try:
            age = time.time() - os.stat(os.path.join(directory(), name)).st_mtime
        except FileNotFoundError:
            complaints.append(f"{name} has never reported")
            continue
        if age > MAX_AGE:
            complaints.append(f"{name} reported {age:.0f} s ago")
    return complaints
