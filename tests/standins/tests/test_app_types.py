"""The stand-in application is typed; only here, because only here are its packages installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from standin_services import APP_SOURCE


def test_mypy_finds_nothing(python: Path, tmp_path: Path) -> None:
    config = str(APP_SOURCE.parent / "mypy.ini")
    argv = [sys.executable, "-m", "mypy", "--config-file", config, "--cache-dir", str(tmp_path)]
    argv += ["--python-executable", str(python), "."]
    done = subprocess.run(argv, cwd=APP_SOURCE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
