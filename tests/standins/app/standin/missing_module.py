"""The module that the upstream revision imports and does not contain."""

from __future__ import annotations

import sys
import types

from flask import Blueprint

NAME = "app.blueprints.api.docker_task_status_routes"


def provide() -> None:
    """Put an empty module in its place, which is all that booting needs."""
    module = types.ModuleType(NAME)
    module.docker_task_status_bp = Blueprint(  # type: ignore[attr-defined]
        "docker_task_status", NAME
    )
    sys.modules[NAME] = module
