# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The two calls of Ollama's API that a deployment needs: what is there, and pull what is not.

Source of the format: github.com/ollama/ollama, docs/api.md ("List Local Models", "Pull a Model").
"""

from __future__ import annotations

import http.client
import json
import time
import typing as t
import urllib.error
import urllib.request

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Ollama is on this host or its network: a proxy of the environment must not get the call."""


_BROKEN = (OSError, ValueError, http.client.HTTPException)
"""What an absent server or a connection that is cut off raises."""


class OllamaError(Exception):
    """Ollama cannot be reached or refuses; the message says what it answered."""


def full_name(model: str) -> str:
    """Return a model's name with its tag, as /api/tags lists it."""
    return model if ":" in model.rsplit("/", 1)[-1] else f"{model}:latest"


def _open(url: str, path: str, *, timeout: float, body: t.Any = None) -> t.Any:
    request = urllib.request.Request(  # noqa: S310 - the caller names an http address
        f"{url}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    return _OPENER.open(request, timeout=timeout)


def missing_models(url: str, models: t.Sequence[str]) -> list[str]:
    """Return those of ``models`` that Ollama does not have, in their order.

    Raises:
        OllamaError: when Ollama does not answer.
    """
    try:
        with _open(url, "/api/tags", timeout=20) as response:
            present = {item["name"] for item in json.load(response)["models"]}
    except (*_BROKEN, KeyError, TypeError) as exc:
        raise OllamaError(f"Ollama does not answer at {url}/api/tags: {exc}") from exc
    return [model for model in models if full_name(model) not in present]


def pull(url: str, model: str, seconds: float) -> tuple[bool, str]:
    """Pull a model for at most ``seconds``; return whether it is complete, and the progress.

    A pull that is broken off continues where it was with the next call: Ollama keeps the parts it
    has.

    Raises:
        OllamaError: when Ollama refuses, for instance because it knows no such model.
    """
    end = time.monotonic() + seconds
    progress = "starting"
    wanted = {"model": model, "stream": True}
    try:
        with _open(url, "/api/pull", timeout=60, body=wanted) as response:
            for line in response:
                event = json.loads(line)
                if "error" in event:
                    raise OllamaError(f"Ollama cannot pull {model}: {event['error']}")
                progress = describe(event)
                if event.get("status") == "success":
                    return True, "complete"
                if time.monotonic() > end:
                    return False, progress
    except urllib.error.HTTPError as exc:
        raise OllamaError(
            f"Ollama cannot pull {model}: {exc.code} {exc.read().decode(errors='replace')[:200]}"
        ) from exc
    except _BROKEN as exc:
        # The registry or the network may fail for a moment; what has been pulled is kept.
        return False, f"interrupted ({exc}), trying again"
    return False, progress


def describe(event: t.Mapping[str, t.Any]) -> str:
    """Return one progress event of a pull as a text for people."""
    total, completed = int(event.get("total") or 0), int(event.get("completed") or 0)
    status = str(event.get("status", ""))
    if not total:
        return status
    return f"{status}: {100 * completed // total} % of {total / 1e9:.2f} GB"
