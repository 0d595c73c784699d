"""The site serves during a backup; how much slower it is meanwhile is printed."""

from __future__ import annotations

import dataclasses
import statistics
import threading
import time
import typing as t

import bare
import kept
import pytest
import requests
from kept import Deploy
from lab import Lab

PATHS = ("/user-management/login", "/health/ready")
VISITORS = 3
BEFORE_SECONDS = 15
LEAST_SECONDS = 5


@dataclasses.dataclass
class Seen:
    """What visitors have seen."""

    seconds: list[float] = dataclasses.field(default_factory=list)
    wrong: list[str] = dataclasses.field(default_factory=list)

    @property
    def median(self) -> float:
        """Median of the answers, in milliseconds."""
        return 1000 * statistics.median(self.seconds)


class Visitors:
    """People who ask for pages, one after the other, until the end of a block."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.seen = lab, Seen()
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._visit) for _one in range(VISITORS)]

    def _visit(self) -> None:
        session = self.lab.session()
        while not self._end.is_set():
            for path in PATHS:
                begun = time.monotonic()
                try:
                    status = session.get(self.lab.https + path, timeout=60).status_code
                except requests.RequestException as exc:
                    self.seen.wrong.append(f"{path}: {exc!r}")
                else:
                    self.seen.seconds.append(time.monotonic() - begun)
                    if status != 200:
                        self.seen.wrong.append(f"{path}: {status}")
            time.sleep(0.1)

    def __enter__(self) -> Seen:
        for thread in self._threads:
            thread.start()
        return self.seen

    def __exit__(self, *_exc: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def full(ready: Lab, deploy: Deploy) -> t.Iterator[Lab]:
    """The host with enough data that a backup takes a while."""
    assert deploy
    bare.rows(ready)
    yield ready
    kept.sql(ready, "DROP TABLE backup_bulk")


def test_no_request_fails(full: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    with Visitors(full) as before:
        time.sleep(BEFORE_SECONDS)
    begun = time.monotonic()
    with Visitors(full) as during:
        done = kept.program(full, "backup")
    seconds = time.monotonic() - begun
    assert done.returncode == 0, done.stderr
    slower = during.median / before.median
    with capsys.disabled():
        print(
            f"\na backup of {bare.MEGABYTES} MB takes {seconds:.0f} s: "
            f"{len(during.seconds)} requests, "
            f"{len(during.wrong)} failed; median {during.median:.0f} ms instead of "
            f"{before.median:.0f} ms, {slower:.2f} times"
        )
    assert seconds > LEAST_SECONDS
    assert len(during.seconds) > VISITORS * LEAST_SECONDS
    assert before.wrong == during.wrong == []
