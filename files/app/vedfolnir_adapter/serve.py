"""Start gunicorn with the logs in place from its first line: `python -m vedfolnir_adapter.serve`.

Arguments are handed to gunicorn. With `VEDFOLNIR_RELOAD=true` (development image) the code is
read again whenever a file changes.
"""

from __future__ import annotations

import os
import sys
import warnings

DEFAULTS = ("--workers", "1", "--worker-class", "vedfolnir_adapter.web_worker.Worker")
# Inside a container; Compose publishes nothing of it.
ADDRESS = "0.0.0.0:5000"
CONFIG = "/app/gunicorn.conf.py"


def arguments(extra: list[str], environ: dict[str, str]) -> list[str]:
    """Return gunicorn's command line; later arguments win, except that binds add up."""
    config = environ.get("VEDFOLNIR_GUNICORN_CONFIG", CONFIG)
    if environ.get("VEDFOLNIR_RELOAD", "").lower() == "true":
        config = "python:vedfolnir_adapter.gunicorn_dev"
    bind = [] if "--bind" in extra else ["--bind", ADDRESS]
    return ["gunicorn", "--config", config, *DEFAULTS, *bind, *extra, "vedfolnir_adapter.wsgi:app"]


def main() -> None:
    """Patch, install the logs and become gunicorn."""
    # Every start would print it, before the logs are in place; gunicorn 23 needs eventlet.
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    import eventlet

    eventlet.monkey_patch()
    from vedfolnir_adapter import access_log, gunicorn_master, logs

    logs.install("app")
    access_log.install()
    gunicorn_master.install()
    from gunicorn.app.wsgiapp import run

    sys.argv = arguments(sys.argv[1:], dict(os.environ))
    run()


if __name__ == "__main__":
    main()
