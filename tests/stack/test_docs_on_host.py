"""The commands of the documentation that need a deployed host, on the one that the lab has."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import ANSIBLE, INVENTORIES, ROOT, Lab, ansible_environment

sys.path.insert(0, str(ROOT / "tests" / "gates"))

from doc_blocks import checkout, pages, script, to_run

_MARK = "/run/vedfolnir-docs-began"


@pytest.fixture
def leaves_nothing(healthy: Lab) -> Iterator[Lab]:
    """The lab host, from which the backups that a page makes are removed again."""
    healthy.run(f"touch {_MARK}")
    yield healthy
    healthy.run(f"find /srv/vedfolnir/backups -type f -newer {_MARK} -delete; rm {_MARK}")


@pytest.mark.parametrize("page", pages("lab"), ids=str)
def test_the_commands_of_a_page_run_on_a_host(leaves_nothing: Lab, page: Path) -> None:
    # A file and not the input of the shell: that belongs to the commands.
    leaves_nothing.run("cat > /run/vedfolnir-docs.sh", stdin=script(to_run(page, "lab")))
    done = leaves_nothing.ssh(
        "bash /run/vedfolnir-docs.sh; code=$?; rm /run/vedfolnir-docs.sh; exit $code", stdin=""
    )
    assert done.returncode == 0, f"{done.stderr}\n{done.stdout[-3000:]}"


@pytest.mark.parametrize("page", pages("lab-controller"), ids=str)
def test_the_commands_of_a_page_run_against_a_host(
    healthy: Lab, page: Path, tmp_path: Path
) -> None:
    inventory = " ".join(f"-i {path}" for path in INVENTORIES)
    text = script(to_run(page, "lab-controller"))
    assert "-i inventories/production " in text
    text = text.replace("-i inventories/production ", f"{inventory} --limit {healthy.name} ")
    where = checkout(tmp_path)
    environment = ansible_environment()
    environment["ANSIBLE_CONFIG"] = str(where / "ansible.cfg")
    environment["PATH"] = f"{ANSIBLE}{os.pathsep}{environment['PATH']}"
    argv = ["timeout", "600", "bash", "-c", text]
    done = subprocess.run(
        argv, cwd=where, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stderr}\n{done.stdout[-5000:]}"
