"""The id that a request has from the proxy to the last line that it causes.

nginx gives it; Flask has it in a header.  A caption task keeps the id of the request that made it
in Redis, so that the worker's lines, statements and calls carry it, too.  It is a help for people:
where it cannot be read or written everything else goes on.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import re
import sys
import typing as t

if t.TYPE_CHECKING:
    import redis

log = logging.getLogger(__name__)

HEADER: t.Final = "X-Request-ID"
KEY: t.Final = "vedfolnir:request-id:"
KEEP_SECONDS: t.Final = 7 * 86400
#: Nothing that could end a comment, a header or a line.
_SAFE: t.Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_carried: contextvars.ContextVar[str | None] = contextvars.ContextVar("request_id", default=None)


def valid(text: str | None) -> str | None:
    """Return an id that may be written anywhere, or nothing."""
    return text if text and _SAFE.fullmatch(text) else None


def current() -> str | None:
    """Return the id of the request or the task that this code runs for, if there is one."""
    flask = sys.modules.get("flask")
    if flask is not None and flask.has_request_context():
        return valid(flask.request.headers.get(HEADER))
    return _carried.get()


@contextlib.contextmanager
def carry(identifier: str | None) -> t.Iterator[None]:
    """Let everything inside belong to a request."""
    token = _carried.set(valid(identifier))
    try:
        yield
    finally:
        _carried.reset(token)


def commented(statement: str) -> str:
    """Return the SQL with the id as a comment, which the server's logs show."""
    identifier = current()
    return f"{statement} /* request_id={identifier} */" if identifier else statement


def remember(client: redis.Redis, task_id: str) -> None:
    """Keep the present id for the worker that will do the task."""
    identifier = current()
    if identifier:
        try:
            client.set(KEY + task_id, identifier, ex=KEEP_SECONDS)
        except Exception as exc:
            log.warning("Task %s goes on without its id: %s", task_id, type(exc).__name__)
        else:
            log.info("Task %s belongs to this request", task_id)


def recall(client: redis.Redis, task_id: str) -> str | None:
    """Return the id of the request that made the task, if it is known."""
    try:
        found: t.Any = client.get(KEY + task_id)
    except Exception as exc:
        log.warning("Task %s goes on without its id: %s", task_id, type(exc).__name__)
        return None
    return valid(found.decode("ascii", "replace") if isinstance(found, bytes) else found)
