"""Stand in for modules that the application imports and its source does not contain."""

from __future__ import annotations

import importlib.util
import logging
import sys
import types

#: Module name -> name of the Flask blueprint it must expose.
MISSING_BLUEPRINTS = {"docker_task_status_routes": "docker_task_status_bp"}


def install() -> None:
    """Provide each module that cannot be found; one that exists is left alone."""
    from flask import Blueprint

    for module_name, attribute in MISSING_BLUEPRINTS.items():
        if importlib.util.find_spec(module_name) is not None:
            continue
        module = types.ModuleType(module_name, "Empty stand-in for a module missing upstream.")
        setattr(module, attribute, Blueprint(attribute, module_name))
        sys.modules[module_name] = module
        logging.getLogger(__name__).info("Provided the missing module %s", module_name)
