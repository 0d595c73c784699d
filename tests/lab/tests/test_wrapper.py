"""The shell wrapper, with programs of our own before the real ones on PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "lab", tmp_path / "lab")
    (tmp_path / "tests" / "lab").mkdir(parents=True)
    shutil.copy(ROOT / "tests/lab/requirements.txt", tmp_path / "tests/lab/requirements.txt")
    (tmp_path / "bin").mkdir()
    return tmp_path


def lab(checkout: Path, *arguments: str, **programs: str) -> subprocess.CompletedProcess[str]:
    for name, body in programs.items():
        program = checkout / "bin" / name.replace("_", "-")
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
    return subprocess.run(
        ["sh", str(checkout / "lab"), *arguments],
        env={"PATH": f"{checkout / 'bin'}:{os.environ['PATH']}", "HOME": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("programs", "message"),
    [
        ({"id": "echo 1000"}, "root is needed to start an engine and hosts. Run: sudo ./lab up"),
        (
            {"df": "printf 'h\\n/ 1 1 900 1 /\\n'"},
            "only 900 MB are free here, the lab needs 15360. Make room, then run it again.",
        ),
    ],
)
def test_an_unfit_machine_is_told_what_it_lacks(
    checkout: Path, programs: dict[str, str], message: str
) -> None:
    done = lab(checkout, "up", **programs)
    assert done.returncode == 1
    assert done.stderr == f"lab: ERROR: {message}\n"


def test_ssh_without_a_lab_says_how_to_get_one(checkout: Path) -> None:
    done = lab(checkout, "ssh")
    assert (done.returncode, done.stderr) == (
        1,
        "lab: ERROR: there is no lab yet. ./lab up makes one.\n",
    )


def test_a_venv_that_was_killed_half_way_is_made_anew(checkout: Path) -> None:
    """No pip in it and no stamp: made again; pip itself is replaced to spare the download."""
    (checkout / "tests/lab/requirements.txt").write_text("")
    package = checkout / "tests/lab/vedfolnir_lab"
    package.mkdir()
    (package / "__main__.py").write_text("print('reached')\n")
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").write_text("#!/bin/sh\nexit 1\n")
    (checkout / ".venv" / "bin" / "python").chmod(0o755)
    done = lab(checkout, "up")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "reached"), done.stderr
    stamp = (checkout / ".venv" / "lab-requirements.sha256").read_text()
    assert lab(checkout, "up").stdout == "reached\n"
    (checkout / "tests/lab/requirements.txt").write_text("# changed\n")
    assert "installing the Python tools" in lab(checkout, "up").stdout
    assert (checkout / ".venv" / "lab-requirements.sha256").read_text() != stamp
