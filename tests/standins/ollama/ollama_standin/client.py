"""What the command line says to the server."""

from __future__ import annotations

import http.client
import json
import typing as t
from urllib.parse import urlsplit

from ollama_standin import settings
from ollama_standin.store import Json

_CUT_OFF = "unexpected EOF"


class ClientError(Exception):
    """The server is away, or refused."""


def _request(method: str, path: str, body: Json | None) -> http.client.HTTPResponse:
    parts = urlsplit(settings.server_url())
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=600)
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None)
        response = connection.getresponse()
    except OSError as exc:
        msg = "could not connect to ollama server, run 'ollama serve' to start it"
        raise ClientError(msg) from exc
    if response.status >= 400:
        text = response.read().decode()
        try:
            raise ClientError(json.loads(text)["error"])
        except (ValueError, KeyError, TypeError):
            raise ClientError(text) from None
    return response


def call(method: str, path: str, body: Json | None = None) -> Json:
    """Return the answer to a call."""
    answer: Json = json.loads(_request(method, path, body).read() or b"{}")
    return answer


def stream(path: str, body: Json) -> t.Iterator[Json]:
    """Yield the lines of an answer; an error line, or an end without success, is an error."""
    response = _request("POST", path, body)
    event: Json = {}
    try:
        for line in response:
            event = json.loads(line)
            if "error" in event:
                raise ClientError(event["error"])
            yield event
    except (OSError, ValueError, http.client.HTTPException) as exc:
        raise ClientError(_CUT_OFF) from exc
    # http.client takes the loss of the server in the middle of an answer for its end.
    if event.get("status") != "success":
        raise ClientError(_CUT_OFF)
