"""Keep gunicorn's master on the real `os`, `select` and `time`.

The application is preloaded, so eventlet patches these modules in the master as well. Its main
loop would then wait in eventlet's hub, where a signal handler may not write to the wake-up pipe:
now and then SIGTERM ended the master with "do not call blocking functions from the mainloop".
"""

from __future__ import annotations

from eventlet import patcher


def install() -> None:
    """Give the arbiter unpatched modules; its workers are not affected."""
    from gunicorn import arbiter

    for name in ("os", "select", "time"):
        setattr(arbiter, name, patcher.original(name))
