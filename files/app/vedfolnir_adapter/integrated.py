"""Keep one polling worker beside the web process (worker mode `integrated`).

A child process, because the worker runs asyncio and the web process is patched by eventlet.
It is started where this module is called: in gunicorn's master, since the application is
preloaded. Every replica starts one; a database lock lets a single one work.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import time
import typing as t

from vedfolnir_adapter.settings import clean_environment

STOP_SECONDS: t.Final = 20.0
_ARGV = ("-m", "vedfolnir_adapter.worker", "--mode", "integrated")


class Child:
    """The supervisor process of the integrated worker."""

    def __init__(self) -> None:
        """Start it without the secrets in its environment; it reads the files itself."""
        self.owner = os.getpid()
        # posix_spawn: nothing of the patched interpreter is copied into the child.
        self.pid = os.posix_spawn(
            sys.executable, [sys.executable, *_ARGV], clean_environment(os.environ)
        )

    def signal_stop(self) -> None:
        """Ask it to stop; a fork of the owner must not do this."""
        if os.getpid() == self.owner:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def wait(self) -> None:
        """Wait until it is gone, so that it is not killed together with process 1."""
        deadline = time.monotonic() + STOP_SECONDS
        while os.getpid() == self.owner and time.monotonic() < deadline:
            try:
                if os.waitpid(self.pid, os.WNOHANG)[0]:
                    return
            except ChildProcessError:
                return
            time.sleep(0.05)


def _hook_gunicorn(child: Child) -> None:
    from gunicorn.arbiter import Arbiter

    original = Arbiter.stop

    def stop(self: t.Any, graceful: bool = True) -> None:
        # First, so that it stops while the web workers drain their connections.
        child.signal_stop()
        original(self, graceful)
        child.wait()

    Arbiter.stop = stop


def start() -> Child:
    """Start the child and tie its end to gunicorn's."""
    child = Child()
    _hook_gunicorn(child)
    atexit.register(child.signal_stop)
    return child
