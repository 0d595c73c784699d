"""The application's gunicorn settings, with reload instead of preload (development only)."""

from __future__ import annotations

import os
import runpy

_CONFIG = os.environ.get("VEDFOLNIR_GUNICORN_CONFIG", "/app/gunicorn.conf.py")
globals().update(
    {name: value for name, value in runpy.run_path(_CONFIG).items() if not name.startswith("_")}
)
preload_app = False
reload = True
