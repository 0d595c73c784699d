"""Settings of the stand-in itself. Upstream knows none of them; a deployment sets none."""

from __future__ import annotations

import os
from pathlib import Path


def _on(name: str) -> bool:
    return os.getenv(name, "").lower() == "true"


def app_root() -> Path:
    """Return the directory upstream hard-codes as ``/app`` (tests put it elsewhere)."""
    return Path(os.getenv("STANDIN_APP_ROOT", "/app"))


def provide_missing_module() -> bool:
    """Return whether to make up the module that is missing from the upstream revision."""
    return _on("STANDIN_PROVIDE_MISSING")


def rq_repaired() -> bool:
    """Return whether to behave as if upstream's integrated RQ workers worked."""
    return _on("STANDIN_RQ_REPAIRED")
