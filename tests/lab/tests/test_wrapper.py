"""The shell wrapper, with programs of our own before the real ones on PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
NO_ROOT = "root is needed to start an engine and hosts. Run: sudo ./lab"
MAKE_ROOM = "Make room (./lab down --images removes all that the lab has made), then run it again."


def memory(megabytes: int) -> str:
    """Return an awk that finds so much memory and is the real one otherwise."""
    return f'case "$*" in *MemTotal*) echo {megabytes} ;; *) exec /usr/bin/awk "$@" ;; esac'


def free(here: int = 99999, engine: int = 99999) -> str:
    """Return a df that finds so much room."""
    row = "printf 'header\\n/dev/x 1 1 %s 1 /\\n'"
    return f'case "$*" in *.) {row} {here} ;; *) {row} {engine} ;; esac'


# A machine that has all that the lab needs, whatever the one is that runs the tests.
FIT = {
    "id": "echo 0",
    "apt-get": "exit 0",
    "df": free(),
    "awk": memory(8000),
    "docker": "echo /",
    **dict.fromkeys(("dockerd", "iptables", "debootstrap", "ssh", "git", "rsync"), "exit 0"),
}


def reachable(checkout: Path) -> None:
    """Put a program into the lab's place that says what it was called with."""
    (checkout / "tests/lab/requirements.txt").write_text("")
    package = checkout / "tests/lab/vedfolnir_lab"
    package.mkdir()
    (package / "__main__.py").write_text("import sys\nprint('reached', *sys.argv[1:])\n")


def a_venv(checkout: Path) -> None:
    """Make a .venv that lacks only the stamp, without the seconds that a real one takes."""
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\n[ "$2" = pip ] || exec /usr/bin/python3 "$@"\n')
    python.chmod(0o755)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "lab", tmp_path / "lab")
    (tmp_path / "tests" / "lab").mkdir(parents=True)
    shutil.copy(ROOT / "tests/lab/requirements.txt", tmp_path / "tests/lab/requirements.txt")
    (tmp_path / "bin").mkdir()
    for name, body in FIT.items():
        program(tmp_path, name, body)
    return tmp_path


def program(checkout: Path, name: str, body: str) -> None:
    path = checkout / "bin" / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def lab(
    checkout: Path, *arguments: str, path: str = os.environ["PATH"], **programs: str
) -> subprocess.CompletedProcess[str]:
    for name, body in programs.items():
        program(checkout, name, body)
    return subprocess.run(
        ["/bin/sh", str(checkout / "lab"), *arguments],
        env={"PATH": f"{checkout / 'bin'}:{path}", "HOME": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("command", ["up", "test", "bench"])
@pytest.mark.parametrize(
    ("programs", "message"),
    [
        ({"id": "echo 1000"}, f"{NO_ROOT} {{}}"),
        ({"awk": memory(5999)}, "this machine has 5999 MB of memory, the lab needs 6000."),
        (
            {"df": free(here=900)},
            f"only 900 MB are free in this directory, the lab needs 3072. {MAKE_ROOM}",
        ),
        (
            {"df": free(engine=15359)},
            "only 15359 MB are free where Docker keeps its data (/), the lab needs 15360. "
            + MAKE_ROOM,
        ),
    ],
)
def test_an_unfit_machine_is_told_what_it_lacks(
    checkout: Path, command: str, programs: dict[str, str], message: str
) -> None:
    done = lab(checkout, command, **programs)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"lab: ERROR: {message.format(command)}\n"


def test_a_linux_without_apt_is_told_so(checkout: Path) -> None:
    (checkout / "bin" / "apt-get").unlink()
    (checkout / "bin" / "dirname").symlink_to(str(shutil.which("dirname")))
    done = lab(checkout, "up", path="")
    assert done.stderr == (
        "lab: ERROR: this is not a Debian-like Linux (no apt-get). "
        "Run the lab on Debian 12, 13 or a relative.\n"
    )
    assert done.returncode == 1


def test_less_room_is_enough_once_the_images_are_there(checkout: Path) -> None:
    assert lab(checkout, "up", df=free(engine=5120)).returncode == 1
    (checkout / ".lab" / "images").mkdir(parents=True)
    (checkout / ".lab" / "images" / "0123.tar").touch()
    reachable(checkout)
    a_venv(checkout)
    done = lab(checkout, "up", df=free(engine=5120))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "reached up")
    assert "needs 5120" in lab(checkout, "up", df=free(engine=5119)).stderr


def test_room_can_be_made_on_a_full_disk(checkout: Path) -> None:
    """Nothing is checked, installed or downloaded on the way to `down`."""
    reachable(checkout)
    a_venv(checkout)
    full = {"df": free(0, 0), "awk": memory(100), "docker": "exit 1", "apt-get": "exit 9"}
    (checkout / "tests/lab/requirements.txt").write_text("# changed: pip would have work to do\n")
    done = lab(checkout, "down", "--images", **full)
    assert (done.returncode, done.stdout) == (0, "reached down --images\n"), done.stderr
    done = lab(checkout, "down", id="echo 1000")
    assert done.stderr == f"lab: ERROR: {NO_ROOT} down\n"


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("up", "--help")])
def test_help_needs_nothing(checkout: Path, arguments: tuple[str, ...]) -> None:
    """Not root, no room, no .venv, and a Python that has none of the lab's packages."""
    shutil.copytree(ROOT / "tests/lab/vedfolnir_lab", checkout / "tests/lab/vedfolnir_lab")
    programs = {"id": "echo 1000", "df": free(0, 0), "awk": memory(100), "apt-get": "exit 9"}
    programs["python3"] = 'exec /usr/bin/python3 -S "$@"'
    done = lab(checkout, *arguments, **programs)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ./lab")
    assert not (checkout / ".venv").exists()


def test_ssh_without_a_lab_says_how_to_get_one(checkout: Path) -> None:
    done = lab(checkout, "ssh")
    assert (done.returncode, done.stderr) == (
        1,
        "lab: ERROR: there is no lab yet. ./lab up makes one.\n",
    )


def test_a_venv_that_was_killed_half_way_is_made_anew(checkout: Path) -> None:
    """No pip in it and no stamp: made again; pip itself is replaced to spare the download."""
    reachable(checkout)
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").write_text("#!/bin/sh\nexit 1\n")
    (checkout / ".venv" / "bin" / "python").chmod(0o755)
    done = lab(checkout, "up")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "reached up"), done.stderr
    stamp = (checkout / ".venv" / "lab-requirements.sha256").read_text()
    assert lab(checkout, "up").stdout == "reached up\n"
    (checkout / "tests/lab/requirements.txt").write_text("# changed\n")
    assert "installing the Python tools" in lab(checkout, "up").stdout
    assert (checkout / ".venv" / "lab-requirements.sha256").read_text() != stamp
