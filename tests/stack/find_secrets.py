"""Runs on the lab host: find secret values where they must not be.

Reads a JSON object (name to value) from standard input, so that no value is in an argument, and
prints one line ``place: name`` for each find. Places: the journal, ``docker inspect`` of
containers, images and networks, arguments and environment of processes, layers and configurations
of every image, and files that everybody may read. Whatever has the form of a token of Vault is
found too, whichever it is.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import stat
import subprocess
import sys
import tarfile
import typing as t

ROOTS = ("/", "/dev/shm")
PRUNED = {"/dev", "/proc", "/sys", "/var/lib/docker"}
"""What is no file, and what the layers of the images and the inspection of containers show."""
GZIP, ZSTANDARD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
CHUNK = 8 * 2**20
TOKENS = (
    re.compile(rb"s\.[A-Za-z0-9]{24}(?![\w.])"),
    re.compile(rb"hv[sbr]\.[\w-]{24,}(?![\w.])"),
)
"""A token of OpenBao or Vault."""
RANDOM = (re.compile(rb"[0-9]"), re.compile(rb"[A-Z]"), re.compile(rb"[a-z]"))
"""What a random text of that length has all of."""


def needles(secrets: dict[str, str]) -> dict[str, bytes]:
    """Return what to search for: the value, or the second line of a key in PEM form."""
    return {
        name: (value.splitlines()[1] if value.startswith("-----BEGIN") else value).encode()
        for name, value in secrets.items()
    }


def has_token(text: bytes) -> bool:
    """Tell whether a token of Vault is in a text."""
    return any(
        not re.match(rb"[\w.]", text[match.start() - 1 : match.start()])
        and all(kind.search(match[0].partition(b".")[2]) for kind in RANDOM)
        for form in TOKENS
        for match in form.finditer(text)
    )


def search_stream(place: str, stream: t.IO[bytes], wanted: dict[str, bytes]) -> set[str]:
    """Search a stream piece by piece; values across two pieces are found too."""
    longest = max(len(value) for value in wanted.values())
    found: set[str] = set()
    tail = b""
    while piece := stream.read(CHUNK):
        text = tail + piece
        found |= {f"{place}: {name}" for name, value in wanted.items() if value in text}
        if has_token(text):
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


def readable_files() -> t.Iterator[str]:
    """Return every regular file that others may read and whose directories let them in."""
    waiting = list(ROOTS)
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:
            continue
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISDIR(status.st_mode):
                if status.st_mode & stat.S_IXOTH and entry.path not in PRUNED:
                    waiting.append(entry.path)
            elif stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IROTH:
                yield entry.path


def search_files(wanted: dict[str, bytes]) -> set[str]:
    """Search every file that everybody may read; one that vanishes meanwhile is none."""
    found: set[str] = set()
    for path in readable_files():
        try:
            with open(path, "rb") as handle:
                found |= search_stream(path, handle, wanted)
        except OSError:
            continue
    return found


def search_images(images: list[str], wanted: dict[str, bytes]) -> set[str]:
    """Search the layers and configurations of images, in one archive, because they share layers."""
    found: set[str] = set()
    argv = ["docker", "save", *images]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with tarfile.open(fileobj=process.stdout, mode="r|", bufsize=CHUNK) as archive:
            for member in archive:
                if content := archive.extractfile(member):
                    found |= search_member(content, wanted)
    if process.returncode != 0:
        raise SystemExit("docker save failed")
    return found


def search_member(content: t.IO[bytes], wanted: dict[str, bytes]) -> set[str]:
    """Search a member of an image's archive; some engines compress the layers."""
    reader = io.BufferedReader(t.cast("io.RawIOBase", content))
    start = reader.peek(len(ZSTANDARD))
    if start.startswith(ZSTANDARD):
        raise SystemExit("a layer is compressed in a way that cannot be read here")
    if start.startswith(GZIP):
        with gzip.GzipFile(fileobj=reader) as plain:
            return search_stream("image layers", t.cast("t.IO[bytes]", plain), wanted)
    return search_stream("image layers", reader, wanted)


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
    found |= search_images(images, wanted)
    print("\n".join(sorted(found)))


if __name__ == "__main__":
    main()
