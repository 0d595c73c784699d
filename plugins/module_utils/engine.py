# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ask the container engine over its socket; nothing is ever changed.

Reference: docs.docker.com/reference/api/engine
"""

from __future__ import annotations

import http.client
import json
import socket
import typing as t
from urllib.parse import urlencode

SOCKET = "/var/run/docker.sock"
SERVICE = "com.docker.compose.service"
_SECONDS = 30

Container = dict[str, t.Any]


class EngineError(Exception):
    """The engine did not answer, or with an error."""


class _Connection(http.client.HTTPConnection):
    """HTTP over a socket of the file system."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Open the connection."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def get(path: str, *, socket_path: str = SOCKET, **query: t.Any) -> t.Any:
    """Return what the engine answers.

    Args:
        path: Path of its API, without a version: that of the engine itself.
        socket_path: Where it listens.
        query: Parameters; what is no text is sent as JSON.

    Raises:
        EngineError: when it cannot be asked, or answers with an error.
    """
    given = {name: one if isinstance(one, str) else json.dumps(one) for name, one in query.items()}
    connection = _Connection(socket_path)
    try:
        connection.request("GET", f"{path}?{urlencode(given)}")
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as exc:
        raise EngineError(f"the engine does not answer at {socket_path}: {exc}") from exc
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise EngineError(f"the engine answers {response.status} to {path}: {text[:200].strip()}")
    return json.loads(text)


def containers(project: str, *, socket_path: str = SOCKET) -> list[Container]:
    """Return the services' containers of a Compose project, as the engine lists them.

    Raises:
        EngineError: when it cannot be asked.
    """
    labels = [f"com.docker.compose.project={project}", "com.docker.compose.oneoff=False"]
    found: list[Container] = get(
        "/containers/json", socket_path=socket_path, all="1", filters={"label": labels}
    )
    return found
