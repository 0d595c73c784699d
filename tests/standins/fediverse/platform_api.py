"""The platform's calls: a table of routes and a function each."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from fediverse import documents as docs
from fediverse.png import make_png
from fediverse.state import State

_PAGE_LIMIT = 40


@dataclasses.dataclass
class Request:
    """What a route needs to know of a call."""

    method: str
    path: str
    query: dict[str, str]
    body: t.Any
    base: str


@dataclasses.dataclass
class Reply:
    """What to answer: JSON, or bytes with a content type."""

    status: int
    body: t.Any
    content_type: str = "application/json"
    headers: dict[str, str] = dataclasses.field(default_factory=dict)


Handler = t.Callable[[State, Request, str], Reply]

NOT_FOUND = Reply(404, {"error": "Record not found"})
UNAUTHORIZED = Reply(401, {"error": "The access token is invalid"})
UNPROCESSABLE = Reply(422, {"error": "Unprocessable"})


def _account(state: State, request: Request, _: str) -> Reply:
    return Reply(200, docs.account_json(state, request.base))


def _account_by_id(state: State, request: Request, account_id: str) -> Reply:
    if account_id != state.account_id:
        return NOT_FOUND
    return _account(state, request, account_id)


def _lookup(state: State, request: Request, _: str) -> Reply:
    name = request.query.get("acct", "").lstrip("@").partition("@")[0]
    return _account(state, request, "") if name == state.username else NOT_FOUND


def _search(state: State, request: Request, _: str) -> Reply:
    name = request.query.get("q", "").lstrip("@").partition("@")[0]
    found = [docs.account_json(state, request.base)] if name == state.username else []
    return Reply(200, {"accounts": found, "statuses": [], "hashtags": []})


def _statuses(state: State, request: Request, account_id: str) -> Reply:
    if account_id != state.account_id:
        return NOT_FOUND
    limit = request.query.get("limit", "20")
    max_id = request.query.get("max_id")
    if not limit.isdecimal() or not (max_id or "0").isdecimal():
        return UNPROCESSABLE
    only_media = request.query.get("only_media") == "true"
    posts = state.newest_first(min(int(limit), _PAGE_LIMIT), max_id, only_media)
    return Reply(200, [docs.status_json(state, post, request.base) for post in posts])


def _status(state: State, request: Request, post_id: str) -> Reply:
    post = state.find_post(post_id)
    return Reply(200, docs.status_json(state, post, request.base)) if post else NOT_FOUND


def _put_medium(state: State, request: Request, medium_id: str) -> Reply:
    # Mastodon changes a medium only until its post is published; all of ours are.
    if state.software == "mastodon" or medium_id not in state.media:
        return NOT_FOUND
    description = _field(request.body, "description")
    if not isinstance(description, str):
        return UNPROCESSABLE
    state.media[medium_id].description = description
    state.record_put(request.path, request.body)
    return Reply(200, docs.medium_json(state.media[medium_id], request.base))


def _put_status(state: State, request: Request, post_id: str) -> Reply:
    post = state.find_post(post_id)
    if post is None or state.software != "mastodon":
        return NOT_FOUND
    attributes = _field(request.body, "media_attributes") or []
    known = {medium.id: medium for medium in post.media}
    if not all(isinstance(item, dict) and item.get("id") in known for item in attributes):
        return UNPROCESSABLE
    for item in attributes:
        known[item["id"]].description = item.get("description")
    post.content = _field(request.body, "status") or post.content
    state.record_put(request.path, request.body)
    return Reply(200, docs.status_json(state, post, request.base))


def _field(body: t.Any, name: str) -> t.Any:
    return body.get(name) if isinstance(body, dict) else None


def _image(state: State, _: Request, medium_id: str) -> Reply:
    medium = state.media.get(medium_id)
    if medium is None:
        return NOT_FOUND
    return Reply(200, make_png(medium.id, medium.edge), "image/png")


# method, path, needs a token, what answers
_ROUTES: tuple[tuple[str, re.Pattern[str], bool, Handler], ...] = tuple(
    (method, re.compile(path), token, handler)
    for method, path, token, handler in (
        ("GET", r"/api/v1/accounts/verify_credentials()", True, _account),
        ("GET", r"/api/v1/accounts/lookup()", True, _lookup),
        ("GET", r"/api/v1/accounts/(\d+)", True, _account_by_id),
        ("GET", r"/api/v1/accounts/(\d+)/statuses", True, _statuses),
        ("GET", r"/api/v2/search()", True, _search),
        ("GET", r"/api/v1/statuses/(\d+)", True, _status),
        ("PUT", r"/api/v1/statuses/(\d+)", True, _put_status),
        ("PUT", r"/api/v1/media/(\d+)", True, _put_medium),
        ("GET", r"/media/(\d+)\.png", False, _image),
        ("GET", r"/api/v1/instance()", False, lambda s, _r, _a: Reply(200, docs.instance_json(s))),
        (
            "GET",
            r"/\.well-known/nodeinfo()",
            False,
            lambda _s, r, _a: Reply(200, docs.nodeinfo_links(r.base)),
        ),
        ("GET", r"/nodeinfo/2\.0()", False, lambda s, _r, _a: Reply(200, docs.nodeinfo_json(s))),
    )
)


def answer(state: State, request: Request, authorization: str | None) -> Reply:
    """Answer a call of a client."""
    for method, path, needs_token, handler in _ROUTES:
        match = path.fullmatch(request.path)
        if match and method == request.method:
            if needs_token and authorization != f"Bearer {state.token}":
                return UNAUTHORIZED
            return handler(state, request, match.group(1))
    return NOT_FOUND
