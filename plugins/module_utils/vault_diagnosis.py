# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say why Vault does not work, and what to do: the state of its container, disks that are full.

What Vault itself answers then is an "internal error" or nothing.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import subprocess
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_server import VaultError

WRITTEN = ("data/vault", "logs/vault")
"""Where Vault writes, below the project's directory."""
FULL_BYTES = 1024 * 1024
"""A disk with less room than that is full: the next entry of the audit log may not fit."""
_DOCKER = ("/usr/bin/docker",)
_VAULT = ("--filter=label=com.docker.compose.service=vault",)


class ExplainedError(VaultError):
    """A :class:`VaultError` whose message has the explanation in it."""


def container_state(project_src: str, what: t.Literal["Status", "Image", "ID"] = "Status") -> str:
    """Return what the engine says of Vault's container, such as ``Exited (137) 2 minutes ago``.

    Empty when there is no container, and a question mark when the engine does not answer.
    """
    filters = [*_VAULT, f"--filter=label=com.docker.compose.project.working_dir={project_src}"]
    said = _docker("ps", "--all", *filters, f"--format={{{{.{what}}}}}")
    return "?" if said is None else (said.splitlines() or [""])[0]


def started_at(project_src: str) -> float:
    """Return when Vault's container was last started, as Unix time; 0 when it never was."""
    name = container_state(project_src, "ID")
    said = _docker("inspect", "--format={{.State.StartedAt}}", name) if name else None
    # With nanoseconds, whose zeros at the end are left out.
    moment, _dot, fraction = (said or "").strip().rstrip("Z").partition(".")
    try:
        parsed = datetime.datetime.strptime(moment, "%Y-%m-%dT%H:%M:%S")
    except ValueError:
        return 0.0
    return parsed.replace(tzinfo=datetime.UTC).timestamp() + float(f"0.{fraction or 0}")


def _docker(*arguments: str) -> str | None:
    """Return what the engine answers, nothing when it does not."""
    try:
        result = subprocess.run(
            [*_DOCKER, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def full_disks(project_src: str) -> list[str]:
    """Return the directories that Vault writes to and that have no room."""
    full: list[str] = []
    for name in WRITTEN:
        path = os.path.join(project_src, name)
        try:
            room = os.statvfs(path)
        except OSError:
            continue
        if room.f_bavail * room.f_frsize < FULL_BYTES or (room.f_files and not room.f_favail):
            full.append(path)
    return full


def explanation(project_src: str, reason: str) -> str:
    """Return what is seen on this host that can be the cause, with the remedy; may be empty."""
    full = full_disks(project_src)
    found = [
        f"The disk of {path} is full: make room there, Vault refuses everything that it cannot "
        "write down"
        for path in full
    ]
    if reason == "down":
        state = container_state(project_src)
        what = f"is in the state: {state}" if state else "is not there"
        found.append(
            f"Its container {what}. `systemctl start vedfolnir-vault-keep` starts it and unseals "
            "it as far as this host can, and so does site.yml"
        )
    return ". ".join(found)


@contextlib.contextmanager
def explained(project_src: str) -> t.Iterator[None]:
    """Add the explanation to the error of a block.

    Raises:
        VaultError: the one of the block, explained.
    """
    try:
        yield
    except ExplainedError:
        raise
    except VaultError as exc:
        if exc.reason not in ("down", "refused"):
            raise
        more = explanation(project_src, exc.reason)
        if not more:
            raise
        raise ExplainedError(exc.reason, f"{exc}. {more}") from exc
