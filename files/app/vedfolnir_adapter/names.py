"""Ask for the address of a name each time, as everybody else in a container does.

eventlet has a resolver of its own with a cache: a name that Docker did not know while a container
was away stays unknown for five minutes, and the former address of one that was made anew for ten.
Docker's name server is on the same host, so nothing is lost without it.
"""

from __future__ import annotations

from eventlet.support import greendns


def install() -> None:
    """Let eventlet forget what it was answered; before the first connection."""
    greendns.resolver._resolver.cache = None
