# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which one-shot services are due: a small record of the digests that have run to their end."""

from __future__ import annotations

import json
import os
import subprocess
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils.files import write_atomic

DOCKER = "docker"


class JobError(Exception):
    """A job that failed; the message has the end of its output."""

    def __init__(self, message: str, status: int | None = None) -> None:
        """Keep the exit status, nothing for a job that did not end in time."""
        super().__init__(message)
        self.status = status


def run(project_src: str, project_name: str, job: str, timeout: float) -> str:
    """Run a job to its end and return the last lines of its output.

    Args:
        project_src: Directory of the Compose project.
        project_name: Its name, which the job's container has in its own.
        job: The Compose service.
        timeout: Seconds that the job, with the start of what it depends on, may take.

    Raises:
        JobError: when it fails or does not end in time.
    """
    container = f"{project_name}-job-{job}"
    # A run that was killed may have left its container at work; two of a kind must not meet.
    _remove(container)
    argv = [DOCKER, "compose", "run", "--rm", "--no-TTY", "--quiet-pull", "--name", container]
    try:
        result = subprocess.run(
            [*argv, job],
            cwd=project_src,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
            text=True,
        )
    except subprocess.TimeoutExpired as exc:
        _remove(container)
        output = exc.output or ""
        text = output.decode(errors="replace") if isinstance(output, bytes) else output
        raise JobError(
            f"The job {job} did not end within {timeout:.0f} s:\n{last_lines(text)}"
        ) from exc
    if result.returncode != 0:
        raise JobError(
            f"The job {job} failed with exit status {result.returncode}:\n"
            f"{last_lines(result.stdout)}",
            result.returncode,
        )
    return last_lines(result.stdout)


def _remove(container: str) -> None:
    """Remove a container, running or not; one that is not there is fine."""
    subprocess.run(
        [DOCKER, "container", "rm", "--force", container],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )


def remember(path: str, job: str, digest: str) -> None:
    """Note in the record with which digest a job has run."""
    _write(path, read_record(path) | {job: digest})


def forget(path: str, names: t.Collection[str]) -> None:
    """Drop names from the record; those that it does not have are fine."""
    record = read_record(path)
    kept = {name: digest for name, digest in record.items() if name not in names}
    if kept != record:
        _write(path, kept)


def _write(path: str, record: t.Mapping[str, str]) -> None:
    os.makedirs(os.path.dirname(path), mode=0o750, exist_ok=True)
    text = json.dumps(record, indent=2, sort_keys=True)
    write_atomic(path, text.encode(), uid=0, gid=0, mode=0o640)


def read_record(path: str) -> dict[str, str]:
    """Return the recorded digest of each job; without a readable record every job is due."""
    try:
        with open(path, encoding="utf-8") as handle:
            record = json.load(handle)
    except (OSError, ValueError):
        return {}
    return (
        {str(name): str(value) for name, value in record.items()}
        if isinstance(record, dict)
        else {}
    )


def due(jobs: t.Sequence[t.Mapping[str, str]], record: t.Mapping[str, str]) -> list[dict[str, str]]:
    """Return the jobs whose digest is not the recorded one, in their order."""
    return [dict(job) for job in jobs if record.get(job["name"]) != job["digest"]]


def last_lines(text: str, count: int = 30) -> str:
    """Return the end of a program's output, which is where it says why it failed."""
    return "\n".join(text.strip().splitlines()[-count:])
