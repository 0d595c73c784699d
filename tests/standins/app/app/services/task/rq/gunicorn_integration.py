"""Upstream's integrated RQ workers. The file is broken there; here importing it fails alike."""

from __future__ import annotations


def cleanup() -> None:
    """Never reached: the import fails first."""


MESSAGE = "unexpected indent (gunicorn_integration.py, line 324)"
raise IndentationError(MESSAGE)
