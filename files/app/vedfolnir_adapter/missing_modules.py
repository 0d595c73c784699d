"""Stand in for modules that the application imports and its source does not contain."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import logging
import os
import sys
import types
import typing as t

#: Last part of a module's name -> name of the Flask blueprint it must expose.
MISSING_BLUEPRINTS: t.Final = {"docker_task_status_routes": "docker_task_status_bp"}

log = logging.getLogger(__name__)


class _Loader(importlib.abc.Loader):
    """Makes a module that exposes an empty blueprint."""

    def exec_module(self, module: types.ModuleType) -> None:
        """Fill the module."""
        from flask import Blueprint

        attribute = MISSING_BLUEPRINTS[module.__name__.rpartition(".")[2]]
        blueprint = Blueprint(attribute, module.__name__, root_path=os.path.dirname(__file__))
        setattr(module, attribute, blueprint)
        log.info("Provided the missing module %s", module.__name__)


class Finder(importlib.abc.MetaPathFinder):
    """Asked last, so that a module that exists is left alone."""

    def find_spec(
        self,
        fullname: str,
        path: t.Sequence[str] | None = None,  # noqa: ARG002 - the interface
        target: types.ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        """Offer a stand-in for the known missing modules, in whatever package they are sought."""
        if fullname.rpartition(".")[2] not in MISSING_BLUEPRINTS:
            return None
        return importlib.machinery.ModuleSpec(fullname, _Loader())


def install() -> None:
    """Add the finder once."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.append(Finder())
