# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring new secrets into what runs: each service does with them what its label says.

A deployment lets the services that stay read theirs (:func:`read_again`); a rotation does the rest
too (:func:`apply`). What was done is told from the containers' labels and from two small records,
so that a call that was killed is completed by the next.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import subprocess
import time
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import (
    containers,
    health,
    jobs,
    labels,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.files import write_atomic

Revisions = t.Mapping[str, str]
Services = dict[str, dict[str, str]]
"""The labels of each service by its name."""

EXEC_SECONDS = 60
JOB_SECONDS = 900


class ProjectError(Exception):
    """What is to read new secrets did not; the message names the service and what it said."""


@dataclasses.dataclass(frozen=True)
class Project:
    """The Compose project and its records."""

    src: str
    name: str
    read_record: str
    """File that remembers which revision the services that are not made anew have read."""
    jobs_record: str = ""
    """File of :mod:`jobs`."""
    wait_seconds: int = 600
    """Time for a new container to become healthy."""
    secrets_root: str = "/run/vedfolnir/secrets"
    """Directory of the consumers' files."""

    def compose(self, *arguments: str, timeout: float | None = None) -> str:
        """Run Compose and return its output, see :meth:`docker`."""
        return self.docker("compose", *arguments, timeout=timeout)

    def docker(self, *arguments: str, timeout: float | None = None) -> str:
        """Run the engine's client in the project's directory and return its output.

        Raises:
            ProjectError: with the end of what it said.
        """
        what = " ".join(arguments[:2])
        try:
            result = subprocess.run(
                [jobs.DOCKER, *arguments],
                cwd=self.src,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout,
                check=False,
                text=True,
            )
        except subprocess.TimeoutExpired as exc:
            raise ProjectError(f"{what} did not end within {timeout:.0f} s") from exc
        if result.returncode != 0:
            said = jobs.last_lines(f"{result.stdout}\n{result.stderr}", 5)
            raise ProjectError(f"{what} failed: {said}")
        return result.stdout

    def services(self) -> Services:
        """Return the labels of all services, jobs too."""
        config = json.loads(
            self.compose("--profile", "jobs", "config", "--format", "json", "--no-interpolate")
        )
        return {name: dict(item.get("labels") or {}) for name, item in config["services"].items()}

    def running(self) -> set[str]:
        """Return the services that run."""
        return set(self.compose("ps", "--services", "--status", "running").split())

    def has_read(self, name: str, consumer: str) -> bool:
        """Tell whether a running service was started after its secret files were written."""
        container = self.compose("ps", "--quiet", name).split()[0]
        said = self.docker("inspect", "--format", "{{.State.StartedAt}}", container)
        started = datetime.datetime.fromisoformat(said.strip()).timestamp()
        directory = os.path.join(self.secrets_root, consumer)
        files = [entry.stat().st_mtime for entry in os.scandir(directory)]
        return started > max(files, default=0)

    def containers(self) -> dict[str, dict[str, str]]:
        """Return what the services' containers are made of."""
        return containers.look(jobs.DOCKER, self.name)


def _command(own: t.Mapping[str, str]) -> list[str] | None:
    """Return the command with which a service reads new secrets, if it is one of those."""
    choice = own.get(labels.NEW_SECRETS, "nothing")
    return [str(part) for part in json.loads(choice)] if choice.startswith("[") else None


def unread(services: Services, revisions: Revisions, record: t.Mapping[str, str]) -> list[str]:
    """Return the services that have a command to read their secrets and have not read these."""
    return [
        name
        for name, own in services.items()
        if _command(own) and record.get(name) != revisions.get(own[labels.CONSUMER])
    ]


def read_again(
    project: Project,
    services: Services,
    revisions: Revisions,
    check: bool = False,
    without: t.Collection[str] = (),
) -> list[str]:
    """Let running services that can do so read their new secrets; return those that did.

    A service reads them when it starts: one that does not run will, and one that was started after
    they were written has. What the project has no more is forgotten.

    Args:
        project: The project.
        services: The labels of all its services.
        revisions: Revision of the secret files by consumer.
        check: Whether only to tell.
        without: Services that are not to be asked.

    Raises:
        ProjectError: when a service could not.
    """
    record = jobs.read_record(project.read_record)
    late = [name for name in unread(services, revisions, record) if name not in without]
    running = project.running() if late else set()
    read: list[str] = []
    for name in late:
        consumer = services[name][labels.CONSUMER]
        if name in running and not project.has_read(name, consumer):
            read.append(name)
            if not check:
                _read(project, name, _command(services[name]) or [])
        if not check:
            jobs.remember(project.read_record, name, revisions[consumer])
    if not check:
        jobs.forget(project.read_record, set(record) - set(services))
    return read


def _read(project: Project, name: str, command: t.Sequence[str]) -> None:
    try:
        project.compose("exec", "--no-TTY", name, *command, timeout=EXEC_SECONDS)
    except ProjectError as exc:
        raise ProjectError(f"{name} could not read its new secrets: {exc}") from exc


def forget(project: Project, services: Services) -> None:
    """Let servers be told anew, by :func:`read_again` and :func:`run_jobs`, what they accept."""
    for name, own in services.items():
        if own.get(labels.NEW_SECRETS) == "run":
            jobs.remember(project.jobs_record, name, "")
        elif _command(own):
            jobs.remember(project.read_record, name, "")


def run_jobs(project: Project, services: Services, revisions: Revisions) -> list[str]:
    """Run the jobs that bring new secrets to a server; return those that ran.

    Raises:
        ProjectError: when one failed.
    """
    late = _not_run(services, revisions, jobs.read_record(project.jobs_record))
    for name, digest in late.items():
        try:
            jobs.run(project.src, project.name, name, JOB_SECONDS)
        except jobs.JobError as exc:
            raise ProjectError(str(exc)) from exc
        jobs.remember(project.jobs_record, name, digest)
    return list(late)


def _not_run(
    services: Services, revisions: Revisions, record: t.Mapping[str, str]
) -> dict[str, str]:
    """Return the jobs that have not run with these secrets, each with its digest."""
    digests = {
        name: labels.job_digest(own, revisions) if own.get(labels.DIGEST) else ""
        for name, own in services.items()
        if own.get(labels.NEW_SECRETS) == "run"
    }
    return {name: digest for name, digest in digests.items() if record.get(name) != digest}


def outdated(
    services: Services, revisions: Revisions, running: t.Mapping[str, t.Mapping[str, str]]
) -> list[str]:
    """Return the services whose containers are gone or were started with other secrets."""
    return [
        name
        for name, own in services.items()
        if own.get(labels.NEW_SECRETS) == "recreate"
        and not (name in running and labels.has_present_secrets(running[name], own, revisions))
    ]


def late(project: Project, services: Services, revisions: Revisions) -> list[str]:
    """Return the services that have not got these secrets, as far as labels and records tell.

    A server that was started after its files were written is among them until it is next asked.
    A project that somebody took down has nothing that could be late.
    """
    running = project.containers()
    if not running:
        return []
    return [
        *unread(services, revisions, jobs.read_record(project.read_record)),
        *_not_run(services, revisions, jobs.read_record(project.jobs_record)),
        *outdated(services, revisions, running),
    ]


def replace(
    project: Project, services: Services, revisions: Revisions, say: t.Callable[[str], None]
) -> list[str]:
    """Make the containers anew that were started with other secrets, one after the other.

    Each must be healthy before the next one goes.

    Returns:
        The services that were made anew.

    Raises:
        ProjectError: when one does not become healthy.
    """
    late = outdated(services, revisions, project.containers())
    # Without dependencies Compose would count the service as another one (see converge.yml).
    options = ("--detach", "--no-build", "--wait")
    seconds = ("--wait-timeout", str(project.wait_seconds))
    for name in late:
        say(f"replace {name}")
        try:
            project.compose("up", *options, *seconds, name)
        except ProjectError as exc:
            raise ProjectError(f"{name} did not become healthy: {exc}") from exc
    return late


def with_revisions(text: str, revisions: Revisions) -> str:
    """Return the text of an ``.env`` file with the revisions in the place of those in it.

    The role ``stack`` writes the same lines (roles/stack/templates/env.j2).
    """
    prefix = labels.secrets_variable("")
    kept = [line for line in text.splitlines() if not line.startswith(prefix)]
    lines = [
        f"{labels.secrets_variable(consumer)}={revision}"
        for consumer, revision in sorted(revisions.items())
    ]
    return "\n".join([*kept, *lines]) + "\n"


def set_revisions(project: Project, revisions: Revisions) -> None:
    """Write the revisions into the project's ``.env``."""
    path = os.path.join(project.src, ".env")
    with open(path, encoding="utf-8") as handle:
        present = handle.read()
    wanted = with_revisions(present, revisions)
    if wanted != present:
        write_atomic(path, wanted.encode(), uid=0, gid=0, mode=0o644)


def wait_for_health(project: Project, seconds: float = 90) -> list[str]:
    """Return the services that are not well, after they had some time to become so."""
    names = project.compose("config", "--services").split()
    end = time.monotonic() + seconds
    while True:
        found = health.parse_containers(project.compose("ps", "--all", "--format", "json"))
        judged = health.judge(names, found)
        ill = sorted(name for name, seen in judged.items() if not seen["ok"])
        if not ill or time.monotonic() > end:
            return ill
        time.sleep(2)
