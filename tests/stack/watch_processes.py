"""The arguments of every process on the lab host while something works.

As a program it runs on the host: it notes them until standard input ends and then prints them.
"""

from __future__ import annotations

import contextlib
import glob
import json
import pathlib
import select
import subprocess
import sys
import typing as t

if t.TYPE_CHECKING:
    from lab import Lab

PAUSE_SECONDS = 0.02
"""Short beside the life of a process that does something."""


def main() -> None:
    """Watch, and print a JSON list of different command lines."""
    seen: set[bytes] = set()
    while not select.select([sys.stdin], [], [], PAUSE_SECONDS)[0]:
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            with contextlib.suppress(OSError), open(path, "rb") as handle:
                seen.add(handle.read())
    json.dump(
        sorted(line.replace(b"\0", b" ").decode(errors="replace") for line in seen), sys.stdout
    )


@contextlib.contextmanager
def watching(lab: Lab) -> t.Iterator[list[str]]:
    """Give a list that holds, after the block, every command line seen during it.

    Proves with a process of its own, near the end of the block, that the watch was at work.
    """
    script = "/root/watch_processes.py"
    lab.run(
        f"cat > {script} && chmod 0600 {script}", stdin=pathlib.Path(__file__).read_text("utf-8")
    )
    seen: list[str] = []
    argv = lab.ssh_argv(f"exec python3 {script}")
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield seen
            lab.run("(exec -a watched-process sleep 0.5)")
        finally:
            output, errors = process.communicate()
            lab.run(f"rm -f {script}")
    assert process.returncode == 0, errors
    seen += json.loads(output)
    assert any(line.startswith("watched-process ") for line in seen), "the watch saw nothing"


if __name__ == "__main__":
    main()
