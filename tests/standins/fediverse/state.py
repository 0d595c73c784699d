"""What the server remembers: account, posts, media, what was written, failures to come."""

from __future__ import annotations

import dataclasses
import re
import threading
import time
import typing as t

_SOFTWARE = ("pixelfed", "mastodon")
_LOG_LIMIT = 1000


@dataclasses.dataclass
class Medium:
    """An attachment of a post."""

    id: str
    post_id: str
    description: str | None = None
    edge: int = 64


@dataclasses.dataclass
class Post:
    """A status."""

    id: str
    content: str
    media: list[Medium]
    created_at: str = "2025-01-01T00:00:00.000Z"


@dataclasses.dataclass
class Failure:
    """An answer to give instead of the real one, for the next ``remaining`` matching calls."""

    status: int
    remaining: int
    path: re.Pattern[str]
    method: str | None = None
    delay: float = 0.0
    headers: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Put:
    """A description or status that a client wrote."""

    path: str
    body: t.Any
    time: float


class StateError(ValueError):
    """A control call asks for something impossible."""


class State:
    """Everything in memory, guarded by one lock."""

    def __init__(self, token: str, posts: int = 3, software: str = "pixelfed") -> None:
        self.lock = threading.RLock()
        self._token, self._posts, self._software = token, posts, software
        self.reset({})

    def reset(self, seed: dict[str, t.Any]) -> None:
        """Start over, with the seed's values where given and those of the start elsewhere.

        Keys: ``token``, ``username``, ``software``, ``posts``: a number of posts with one
        image each, or a list of ``{content, media: [{description, edge}]}``.
        """
        unknown = set(seed) - {"token", "username", "software", "posts"}
        if unknown:
            msg = f"unknown keys: {', '.join(sorted(unknown))}"
            raise StateError(msg)
        software = seed.get("software", self._software)
        if software not in _SOFTWARE:
            msg = f"software must be one of {', '.join(_SOFTWARE)}"
            raise StateError(msg)
        wanted = seed.get("posts", self._posts)
        if isinstance(wanted, int):
            wanted = [{"content": f"Post {n}", "media": [{}]} for n in range(1, wanted + 1)]
        with self.lock:
            self.token: str = seed.get("token", self._token)
            self.username: str = seed.get("username", "tester")
            self.software: str = software
            self.account_id = "100"
            self.posts: list[Post] = []
            self.media: dict[str, Medium] = {}
            self.puts: list[Put] = []
            self.failures: list[Failure] = []
            self.requests: list[str] = []
            for entry in wanted:
                self._add_post(entry)

    def _add_post(self, entry: dict[str, t.Any]) -> None:
        number = len(self.posts) + 1
        post_id = str(1000 + number)
        media = [
            Medium(f"{post_id}{index}", post_id, medium.get("description"), medium.get("edge", 64))
            for index, medium in enumerate(entry.get("media", [{}]), start=1)
        ]
        self.posts.append(Post(post_id, entry.get("content", f"Post {number}"), media))
        self.media.update({medium.id: medium for medium in media})

    def add_posts(self, entries: list[dict[str, t.Any]]) -> None:
        """Add posts, newest last."""
        with self.lock:
            for entry in entries:
                self._add_post(entry)

    def newest_first(self, limit: int, max_id: str | None, only_media: bool) -> list[Post]:
        """Return a page of posts older than ``max_id``."""
        with self.lock:
            posts = [
                post
                for post in reversed(self.posts)
                if (max_id is None or int(post.id) < int(max_id)) and (post.media or not only_media)
            ]
        return posts[:limit]

    def find_post(self, post_id: str) -> Post | None:
        """Return a post by its id."""
        return next((post for post in self.posts if post.id == post_id), None)

    def record_put(self, path: str, body: t.Any) -> None:
        """Remember what a client wrote."""
        with self.lock:
            self.puts.append(Put(path, body, time.time()))

    def record_request(self, line: str) -> None:
        """Remember a request line, the last thousand of them."""
        with self.lock:
            self.requests.append(line)
            del self.requests[:-_LOG_LIMIT]

    def add_failure(self, order: dict[str, t.Any]) -> None:
        """Take an order ``{status, count, path, method, delay, retry_after}``."""
        status = int(order["status"])
        headers: dict[str, str] = {}
        if status == 429:
            retry = int(order.get("retry_after", 1))
            headers = {
                "X-RateLimit-Limit": "300",
                "X-RateLimit-Remaining": "0",
                "X-RateLimit-Reset": str(int(time.time()) + retry),
                "Retry-After": str(retry),
            }
        failure = Failure(
            status=status,
            remaining=int(order.get("count", 1)),
            path=re.compile(order.get("path", "")),
            method=order.get("method"),
            delay=float(order.get("delay", 0)),
            headers=headers,
        )
        with self.lock:
            self.failures.append(failure)

    def take_failure(self, method: str, path: str) -> Failure | None:
        """Return the failure to answer a call with, and count it."""
        with self.lock:
            for failure in self.failures:
                if failure.method in (None, method) and failure.path.search(path):
                    failure.remaining -= 1
                    if failure.remaining <= 0:
                        self.failures.remove(failure)
                    return failure
        return None
