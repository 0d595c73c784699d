"""Environment: Ollama's own variables, and two of the stand-in."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

_PORT = 11434


def listen_address() -> tuple[str, int]:
    """Return host and port of ``OLLAMA_HOST`` (``host``, ``host:port``, ``:port`` or a URL)."""
    text = os.getenv("OLLAMA_HOST", "").strip() or "127.0.0.1"
    parts = urlsplit(text if "://" in text else f"//{text}")
    return parts.hostname or "127.0.0.1", parts.port or _PORT


def server_url() -> str:
    """Return where the command line finds the server."""
    host, port = listen_address()
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def models_dir() -> Path:
    """Return where models are kept: ``OLLAMA_MODELS``, or a directory under ``HOME``."""
    directory = os.getenv("OLLAMA_MODELS")
    return Path(directory) if directory else Path.home() / ".ollama" / "models"


def pull_bytes_per_second() -> int:
    """Return the speed of a pull (``OLLAMA_STANDIN_PULL_RATE``); 0 means no limit."""
    return int(os.getenv("OLLAMA_STANDIN_PULL_RATE", "0"))


def generate_seconds() -> float:
    """Return how long an answer takes (``OLLAMA_STANDIN_GENERATE_SECONDS``)."""
    return float(os.getenv("OLLAMA_STANDIN_GENERATE_SECONDS", "0"))
