# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the containers of a Compose project were made of, read from their labels."""

from __future__ import annotations

import subprocess

from ansible_collections.vedfolnir.stack.plugins.module_utils import labels

_LABELS = ("com.docker.compose.service", labels.FRAGMENT, labels.DIGEST, labels.SECRETS)
_FORMAT = "\t".join(f'{{{{.Label "{name}"}}}}' for name in _LABELS)
"""One line per container, see :func:`read`."""


def read(text: str) -> dict[str, dict[str, str]]:
    """Return ``fragment``, ``digest`` and ``secrets`` of each service's container, by service.

    They are the labels in the lines of the form :data:`_FORMAT`.

    A replacement that was killed leaves two containers of one service. That service has no digest,
    so that it counts as changed.
    """
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        service, fragment, digest, secrets = line.split("\t")
        if service in found:
            digest = ""
        found[service] = {"fragment": fragment, "digest": digest, "secrets": secrets}
    return found


def look(docker: str | None, project: str, timeout: float = 60) -> dict[str, dict[str, str]]:
    """Return what :func:`read` finds; without an engine that answers there are no containers.

    Args:
        docker: Path of the client, if there is one.
        project: Name of the Compose project.
        timeout: Seconds that the engine has for its answer.
    """
    if docker is None:
        return {}
    labels = (f"com.docker.compose.project={project}", "com.docker.compose.oneoff=False")
    filters = [argument for label in labels for argument in ("--filter", f"label={label}")]
    try:
        result = subprocess.run(
            [docker, "ps", "--all", *filters, "--format", _FORMAT],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
            text=True,
            timeout=timeout,
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return read(result.stdout) if result.returncode == 0 else {}
