"""The fake platform answers as clients of Pixelfed and Mastodon expect."""

from __future__ import annotations

import subprocess
import time
import typing as t
from pathlib import Path

import pytest
import requests

_TOKEN = {"Authorization": "Bearer stand-in-token"}


@pytest.fixture
def url(fediverse: str) -> t.Iterator[str]:
    """Return the URL of the platform, fresh for every test."""
    requests.post(f"{fediverse}/_control/reset", json={}, timeout=10)
    yield fediverse
    requests.post(f"{fediverse}/_control/reset", json={}, timeout=10)


def _get(url: str, path: str, **params: str | int) -> requests.Response:
    return requests.get(url + path, headers=_TOKEN, params=params, timeout=10)


def _reset(url: str, **seed: t.Any) -> requests.Response:
    return requests.post(f"{url}/_control/reset", json=seed, timeout=10)


def test_the_token_is_checked(url: str) -> None:
    path = f"{url}/api/v1/accounts/verify_credentials"
    wrong = {"Authorization": "Bearer wrong"}
    assert requests.get(path, timeout=10).status_code == 401
    assert requests.get(path, headers=wrong, timeout=10).status_code == 401
    assert requests.get(path, headers=_TOKEN, timeout=10).json()["username"] == "tester"
    _reset(url, token="another", username="zoe")
    assert requests.get(path, headers=_TOKEN, timeout=10).status_code == 401


def test_pages_of_statuses(url: str) -> None:
    _reset(url, posts=45)
    first = _get(url, "/api/v1/accounts/100/statuses", limit=40).json()
    assert len(first) == 40
    rest = _get(url, "/api/v1/accounts/100/statuses", limit=40, max_id=first[-1]["id"]).json()
    assert len(rest) == 5
    ids = [int(post["id"]) for post in first + rest]
    assert ids == sorted(set(ids), reverse=True)
    assert _get(url, "/api/v1/accounts/100/statuses", limit="x").status_code == 422
    assert _get(url, "/api/v1/accounts/7/statuses").status_code == 404


def test_images_are_valid_and_differ(url: str, python: Path) -> None:
    _reset(url, posts=[{"media": [{}, {"edge": 20}]}])
    media = _get(url, "/api/v1/accounts/100/statuses").json()[0]["media_attachments"]
    contents = [requests.get(medium["url"], timeout=10) for medium in media]
    assert [content.headers["Content-Type"] for content in contents] == ["image/png"] * 2
    assert contents[0].content != contents[1].content
    # Pillow is what the application checks images with.
    code = (
        "import sys, PIL.Image as p\n"
        "i = p.open(sys.stdin.buffer); i.load(); print(i.format, i.size)"
    )
    for content, edge in zip(contents, (64, 20), strict=True):
        seen = subprocess.run(
            [str(python), "-c", code], input=content.content, capture_output=True, check=True
        )
        assert seen.stdout.decode() == f"PNG ({edge}, {edge})\n"


def test_pixelfed_takes_descriptions_of_media(url: str) -> None:
    medium = requests.get(f"{url}/_control/posts", timeout=10).json()[0]["media"][0]["id"]
    path = f"{url}/api/v1/media/{medium}"
    body = {"description": "A cat"}
    assert requests.put(path, json=body, timeout=10).status_code == 401
    assert requests.put(path, json={}, headers=_TOKEN, timeout=10).status_code == 422
    assert requests.put(path, json=body, headers=_TOKEN, timeout=10).status_code == 200
    gone = requests.put(f"{url}/api/v1/media/999", json=body, headers=_TOKEN, timeout=10)
    assert gone.status_code == 404
    posts = requests.get(f"{url}/_control/posts", timeout=10).json()
    assert posts[0]["media"][0]["description"] == "A cat"
    (put,) = requests.get(f"{url}/_control/puts", timeout=10).json()
    assert (put["path"], put["body"]) == (f"/api/v1/media/{medium}", body)


def test_mastodon_takes_descriptions_with_the_status(url: str) -> None:
    _reset(url, software="mastodon", posts=1)
    (post,) = requests.get(f"{url}/_control/posts", timeout=10).json()
    medium = post["media"][0]["id"]
    refused = requests.put(
        f"{url}/api/v1/media/{medium}", json={"description": "x"}, headers=_TOKEN, timeout=10
    )
    assert refused.status_code == 404
    body = {
        "status": post["content"],
        "media_ids": [medium],
        "media_attributes": [{"id": medium, "description": "A dog"}],
    }
    path = f"{url}/api/v1/statuses/{post['id']}"
    answer = requests.put(path, json=body, headers=_TOKEN, timeout=10).json()
    assert answer["media_attachments"][0]["description"] == "A dog"
    wrong = body | {"media_attributes": [{"id": "0", "description": "A dog"}]}
    assert requests.put(path, json=wrong, headers=_TOKEN, timeout=10).status_code == 422


@pytest.mark.parametrize("software", ["pixelfed", "mastodon"])
def test_lookups_and_instance(url: str, software: str) -> None:
    _reset(url, software=software)
    assert _get(url, "/api/v1/accounts/lookup", acct="@tester").json()["id"] == "100"
    assert _get(url, "/api/v1/accounts/lookup", acct="nobody").status_code == 404
    found = _get(url, "/api/v2/search", q="tester", type="accounts", limit=5).json()
    assert len(found["accounts"]) == 1
    assert set(_get(url, "/api/v1/instance").json()) >= {"title", "version", "description"}
    links = _get(url, "/.well-known/nodeinfo").json()["links"]
    node = requests.get(links[0]["href"], timeout=10).json()
    assert node["software"]["name"] == software


def test_failures_to_order(url: str) -> None:
    order = {"status": 429, "count": 2, "path": "statuses", "retry_after": 5}
    requests.post(f"{url}/_control/fail", json=order, timeout=10)
    assert _get(url, "/api/v1/instance").status_code == 200
    answers = [_get(url, "/api/v1/accounts/100/statuses") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["X-RateLimit-Remaining"] == "0"
    assert int(answers[0].headers["X-RateLimit-Reset"]) >= time.time()
    requests.post(f"{url}/_control/fail", json={"status": 500, "count": 9}, timeout=10)
    assert _get(url, "/api/v1/instance").status_code == 500
    requests.delete(f"{url}/_control/fail", timeout=10)
    assert _get(url, "/api/v1/instance").status_code == 200


@pytest.mark.parametrize(
    ("call", "body"),
    [("reset", {"postz": 1}), ("reset", {"software": "x"}), ("fail", {}), ("posts", 3)],
)
def test_wrong_control_calls_are_refused(url: str, call: str, body: t.Any) -> None:
    answer = requests.post(f"{url}/_control/{call}", json=body, timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error"]
