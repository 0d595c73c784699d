"""Calls under ``/_control/`` with which a test sets the scene and looks at the outcome."""

from __future__ import annotations

import dataclasses
import re

from fediverse.platform_api import NOT_FOUND, Reply, Request
from fediverse.state import State, StateError


def _show_posts(state: State, _: Request) -> Reply:
    with state.lock:
        return Reply(200, [dataclasses.asdict(post) for post in state.posts])


def _show_puts(state: State, _: Request) -> Reply:
    with state.lock:
        return Reply(200, [dataclasses.asdict(put) for put in state.puts])


def _show_requests(state: State, _: Request) -> Reply:
    with state.lock:
        return Reply(200, list(state.requests))


def _reset(state: State, request: Request) -> Reply:
    state.reset(request.body or {})
    return Reply(200, {"posts": len(state.posts)})


def _add_posts(state: State, request: Request) -> Reply:
    state.add_posts(request.body)
    return Reply(200, {"posts": len(state.posts)})


def _fail(state: State, request: Request) -> Reply:
    state.add_failure(request.body)
    return Reply(200, {"failures": len(state.failures)})


def _heal(state: State, _: Request) -> Reply:
    state.failures.clear()
    return Reply(200, {"failures": 0})


def _health(_state: State, _: Request) -> Reply:
    return Reply(200, {"ok": True})


_CALLS = {
    ("GET", "health"): _health,
    ("GET", "posts"): _show_posts,
    ("POST", "posts"): _add_posts,
    ("GET", "puts"): _show_puts,
    ("GET", "requests"): _show_requests,
    ("POST", "reset"): _reset,
    ("POST", "fail"): _fail,
    ("DELETE", "fail"): _heal,
}


def answer(state: State, request: Request) -> Reply:
    """Answer a control call; a wrong body gives 400 and the reason."""
    call = _CALLS.get((request.method, request.path.removeprefix("/_control/")))
    if call is None:
        return NOT_FOUND
    try:
        return call(state, request)
    except (StateError, KeyError, TypeError, ValueError, AttributeError, re.error) as exc:
        return Reply(400, {"error": f"{type(exc).__name__}: {exc}"})
