"""Runs on the lab host: find secret values where they must not be.

Reads a JSON object (name to value) from standard input, so that no value is in an argument, and
prints one line ``place: name`` for each find. Places: the journal, ``docker inspect`` of
containers, images and networks, arguments and environment of processes, layers of every image, and
files that everybody may read. With ``--tokens`` whatever has the form of a token of Vault is found
too, whichever it is.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import typing as t

ROOTS = (
    *("/etc", "/home", "/opt", "/root", "/run", "/srv", "/tmp", "/usr/local"),
    *("/var/log", "/var/tmp"),
)
CHUNK = 8 * 2**20
TOKEN = re.compile(
    rb"(?<![\w.])(?=[\w.-]*[0-9])(?=[\w.-]*[A-Z])(?=[\w.-]*[a-z])"
    rb"(?:s\.[A-Za-z0-9]{24}|hv[sbr]\.[\w-]{24,})(?![\w.])"
)
"""A token of OpenBao or Vault, long enough to be random."""


def needles(secrets: dict[str, str]) -> dict[str, bytes]:
    """Return what to search for: the value, or the second line of a key in PEM form."""
    return {
        name: (value.splitlines()[1] if value.startswith("-----BEGIN") else value).encode()
        for name, value in secrets.items()
    }


def search_stream(place: str, stream: t.IO[bytes], wanted: dict[str, bytes]) -> set[str]:
    """Search a stream piece by piece; values across two pieces are found too."""
    longest = max(len(value) for value in wanted.values())
    found: set[str] = set()
    tail = b""
    while piece := stream.read(CHUNK):
        text = tail + piece
        found |= {f"{place}: {name}" for name, value in wanted.items() if value in text}
        if "--tokens" in sys.argv and TOKEN.search(text):
            found.add(f"{place}: a token of Vault")
        tail = text[-longest:]
    return found


def search_command(place: str, argv: list[str], wanted: dict[str, bytes]) -> set[str]:
    """Search the output of a command, which must succeed."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        found = search_stream(place, process.stdout, wanted)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(argv)} failed")
    return found


def lines(argv: list[str]) -> list[str]:
    """Return the lines of a command's output."""
    return subprocess.run(argv, stdout=subprocess.PIPE, check=True, text=True).stdout.split()


def search_processes(wanted: dict[str, bytes]) -> set[str]:
    """Search the arguments and the environment of every process."""
    found: set[str] = set()
    places = {"cmdline": "arguments", "environ": "environment"}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        for file, place in places.items():
            try:
                with open(f"/proc/{entry}/{file}", "rb") as handle:
                    found |= search_stream(f"{place} of process {entry}", handle, wanted)
            except OSError:
                continue
    return found


def search_files(wanted: dict[str, bytes]) -> set[str]:
    """Search every regular file that others may read and whose directories let them in."""
    found: set[str] = set()
    for root in ROOTS:
        for directory, subdirectories, names in os.walk(root):
            subdirectories[:] = [
                name
                for name in subdirectories
                if not os.path.islink(f"{directory}/{name}")
                and os.stat(f"{directory}/{name}").st_mode & stat.S_IXOTH
            ]
            for name in names:
                path = f"{directory}/{name}"
                try:
                    status = os.lstat(path)
                    if not stat.S_ISREG(status.st_mode) or not status.st_mode & stat.S_IROTH:
                        continue
                    with open(path, "rb") as handle:
                        found |= search_stream(path, handle, wanted)
                except OSError:
                    continue
    return found


def main() -> None:
    """Search all places and print the finds."""
    wanted = needles(json.load(sys.stdin))
    found = search_command("journal", ["journalctl", "--output", "export", "--no-pager"], wanted)
    containers = lines(["docker", "ps", "--all", "--quiet"])
    images = sorted(set(lines(["docker", "image", "ls", "--quiet"])))
    networks = lines(["docker", "network", "ls", "--quiet"])
    inspect = ["docker", "inspect", *containers, *images, *networks]
    found |= search_command("docker inspect", inspect, wanted)
    found |= search_processes(wanted) | search_files(wanted)
    if "--without-images" not in sys.argv:
        # In one archive, because images share layers.
        found |= search_command("image layers", ["docker", "save", *images], wanted)
    print("\n".join(sorted(found)))


if __name__ == "__main__":
    main()
