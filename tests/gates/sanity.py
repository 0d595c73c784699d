"""Run ansible-test sanity and units on a copy of the collection, without containers.

ansible-test insists on a directory named ansible_collections/vedfolnir/stack, and fills virtual
environments of its own with pip. It fetches pip's bootstrap script from a server of its project;
the one given here uses the pip that comes with Python, so that only a package index is needed.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from pathlib import Path

import ansible_test
import gate_repo

# Tests that cannot find anything here, and why.
SKIPPED = {
    "pslint": "the collection has no PowerShell",
}

# Programs of the lab and their tests never run inside Ansible; ruff and mypy judge them
# (test_tools.py, and for the stand-in application the part standins).
_NOT_ANSIBLE = ("adapter", "gates", "lab", "stack", "standins")

_BOOTSTRAP = """\
import subprocess, sys
subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=subprocess.DEVNULL)
options = [part for part in sys.argv[1:] if part not in ("--no-setuptools", "--no-wheel")]
sys.exit(subprocess.run([sys.executable, "-m", "pip", "install", "-q", *options]).returncode)
"""


def prepare_home(home: Path) -> None:
    """Make a home directory in which ansible-test finds a bootstrap script and pip its settings."""
    source = Path(ansible_test.__file__).parent / "_internal" / "python_requirements.py"
    cache = home / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for version in re.findall(r"pip='([\d.]+)'", source.read_text(encoding="utf-8")):
        (cache / f"get_pip_{version.replace('.', '_')}.py").write_text(_BOOTSTRAP, "utf-8")
    for name in (".config/pip", ".pip"):
        there = Path.home() / name
        link = home / name
        if there.exists() and not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(there)


def commands(python: str) -> dict[str, list[str]]:
    """Return the arguments of each run of ansible-test."""
    venv = ["--venv", "--python", python, "--color", "no"]
    skips = [part for name in SKIPPED for part in ("--skip-test", name)]
    # Units come first: some start a stand-in, which the sanity tests are not to see.
    return {"units": venv, "sanity": [*venv, *skips]}


def main() -> int:
    """Run all, print what they say, and return the worst exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=f"{sys.version_info[0]}.{sys.version_info[1]}")
    options = parser.parse_args()
    for name, reason in SKIPPED.items():
        print(f"skipped: {name}: {reason}", flush=True)
    home = gate_repo.ROOT / ".lab" / "sanity-home"  # keeps the environments for the next run
    prepare_home(home)
    directory = Path(tempfile.mkdtemp(prefix="vedfolnir-sanity-"))
    try:
        collection = gate_repo.copy_to(directory)
        worst = 0
        for command, argv in commands(options.python).items():
            for name in _NOT_ANSIBLE if command == "sanity" else ():
                shutil.rmtree(collection / "tests" / name, ignore_errors=True)
            done = gate_repo.run("ansible-test", command, *argv, cwd=collection, HOME=str(home))
            print(done.stdout, flush=True)
            print(f"ansible-test {command}: exit {done.returncode}", flush=True)
            worst = max(worst, done.returncode)
        return worst
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
