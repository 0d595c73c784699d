"""Metrics of all processes of a container: each writes files, and whoever is asked adds them up.

prometheus_client does it if a variable names the directory before its first import.  It keeps the
files of every process that ever was; gunicorn replaces its workers every few hundred requests and
RQ has a process for each job.  So what processes that have ended counted is folded into one file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import typing as t
from pathlib import Path

if t.TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric

VARIABLE: t.Final = "PROMETHEUS_MULTIPROC_DIR"
#: In place of a process id: no process has it.
ARCHIVE: t.Final = "0"


def prepare() -> Path:
    """Name and make the directory; children inherit it."""
    if not os.environ.get(VARIABLE):
        own = f"{tempfile.gettempdir()}/vedfolnir-metrics-{os.getpid()}"
        # What an earlier process of the same number has left.
        shutil.rmtree(own, ignore_errors=True)
        os.environ[VARIABLE] = own
    path = Path(os.environ[VARIABLE])
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _ended(path: Path) -> list[Path]:
    """Return the files of processes that are not there any more."""
    pids = ((file, file.stem.rpartition("_")[2]) for file in sorted(path.glob("*_*.db")))
    return [file for file, pid in pids if pid != ARCHIVE and not Path(f"/proc/{pid}").exists()]


def fold(path: Path) -> None:
    """Add the counters of ended processes to the archive; their gauges are over."""
    from prometheus_client.mmap_dict import MmapedDict

    for file in _ended(path):
        kind = file.stem.rpartition("_")[0]
        if not kind.startswith("gauge"):
            archive = MmapedDict(str(path / f"{kind}_{ARCHIVE}.db"))
            for key, value, stamp, _position in MmapedDict.read_all_values_from_file(str(file)):
                archive.write_value(key, archive.read_value(key)[0] + value, stamp)
            archive.close()
        file.unlink()


@contextlib.contextmanager
def _locked(path: Path) -> t.Iterator[None]:
    with (path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Store:
    """Collects what all processes have counted."""

    def __init__(self, path: Path | None = None) -> None:
        """Use the directory of `prepare`."""
        self.path = path or prepare()

    def collect(self) -> t.Iterator[Metric]:
        """Yield the sums."""
        from prometheus_client.multiprocess import MultiProcessCollector

        with _locked(self.path):
            fold(self.path)
            found = list(MultiProcessCollector(None, path=str(self.path)).collect())
        yield from found


def registry() -> CollectorRegistry:
    """Return a registry that has the sums, and what the process itself takes."""
    from prometheus_client import CollectorRegistry, ProcessCollector

    result = CollectorRegistry()
    result.register(Store())  # type: ignore[arg-type, unused-ignore]
    ProcessCollector(registry=result)
    return result
