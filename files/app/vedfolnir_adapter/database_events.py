"""What the application's statements tell: lockouts and audit events; and they are traced."""

from __future__ import annotations

import typing as t

import redis
from prometheus_client import Counter

from vedfolnir_adapter import request_ids, traces
from vedfolnir_adapter.settings import Settings

#: Actions of the table user_audit_log that are about logging in; all others are one.
ACTIONS: t.Final = (
    "user_login_success",
    "login_attempt_invalid_user",
    "login_attempt_locked_account",
    "login_denied",
)
OTHER: t.Final = "other"
TASKS: t.Final = "caption_generation_tasks"
AUDIT: t.Final = "user_audit_log"
USERS: t.Final = "users"


def _table(row: t.Any) -> str:
    """Return the name of a row's table; models are declared with a name or with a table."""
    return str(getattr(getattr(row, "__table__", None), "name", ""))


class DatabaseEvents:
    """Looks at what the application writes."""

    def __init__(self, client: redis.Redis) -> None:
        """Create the series, so that they are there before the first event."""
        self._client = client
        self.audit = Counter(
            "vedfolnir_audit_events",
            "Rows written to the application's audit log.",
            ("action",),
            registry=None,
        )
        self.lockouts = Counter(
            "vedfolnir_account_lockouts",
            "Accounts locked after too many wrong passwords.",
            registry=None,
        )
        for action in (*ACTIONS, OTHER):
            self.audit.labels(action)

    def written(self, session: t.Any) -> None:
        """Look at the rows of a flush."""
        from sqlalchemy import inspect

        for row in session.new:
            table = _table(row)
            if table == AUDIT:
                self.audit.labels(row.action if row.action in ACTIONS else OTHER).inc()
            elif table == TASKS:
                # Before the row can be seen by others, so that the worker finds it.
                request_ids.remember(self._client, str(row.id))
                traces.remember(self._client, str(row.id))
        for row in session.dirty:
            if _table(row) == USERS and True in (
                inspect(row).attrs.account_locked.history.added or ()
            ):
                self.lockouts.inc()

    def install(self) -> None:
        """Listen to all engines and sessions."""
        from sqlalchemy import event
        from sqlalchemy.engine import Engine
        from sqlalchemy.orm import Session

        def comment(
            _connection: t.Any, _cursor: t.Any, statement: str, parameters: t.Any,
            context: t.Any, executemany: bool,
        ) -> tuple[str, t.Any]:  # fmt: skip
            if traces.installed():
                context.vedfolnir_span = traces.part(*traces.statement(statement))
            # PyMySQL would not recognise a commented INSERT as one that takes many rows.
            return (statement if executemany else request_ids.commented(statement)), parameters

        def end(
            _connection: t.Any, _cursor: t.Any, _statement: str, _parameters: t.Any,
            context: t.Any, _executemany: bool,
        ) -> None:  # fmt: skip
            getattr(context, "vedfolnir_span", traces.NOTHING).end()

        def fail(failed: t.Any) -> None:
            span = getattr(failed.execution_context, "vedfolnir_span", traces.NOTHING)
            span.fail(type(failed.original_exception).__name__)
            span.end()

        event.listen(Engine, "before_cursor_execute", comment, retval=True)
        event.listen(Engine, "after_cursor_execute", end)
        event.listen(Engine, "handle_error", fail)
        event.listen(Session, "after_flush", lambda session, _context: self.written(session))


def install(settings: Settings) -> DatabaseEvents:
    """Listen from now on."""
    client = redis.Redis.from_url(
        settings.redis_url, socket_connect_timeout=1, socket_timeout=1, retry=None
    )
    events = DatabaseEvents(client)
    events.install()
    return events
