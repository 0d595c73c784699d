"""What the stack is for: log in, connect a platform, have an image captioned, see it posted."""

from __future__ import annotations

import json
import secrets
import time
import typing as t

import pytest
import requests
import visitor
from lab import Lab, redis_cli
from visitor import LOGIN, Platform, Visitor


@pytest.fixture
def pixelfed(lab: Lab) -> Platform:
    return Platform.of(lab, "fediverse.lab")


def test_the_site_is_ready_over_verified_tls(lab: Lab) -> None:
    answer = lab.session().get(f"{lab.https}/health/ready", timeout=60)
    assert answer.status_code == 200
    body = answer.json()
    assert body["ready"] is True
    assert set(body["checks"]) == {"database", "redis"}
    stranger = requests.Session()
    stranger.trust_env = False
    with pytest.raises(requests.exceptions.SSLError, match="certificate verify failed"):
        stranger.get(f"{lab.https}/health/ready", timeout=60)


def test_the_administrator_logs_in(admin: Visitor) -> None:
    assert admin.login_answer.headers["Location"] == "/"
    assert {cookie.name for cookie in admin.session.cookies} >= {"session", "vedfolnir_route"}
    state = admin.call("GET", "/api/session/state")
    assert (state["username"], state["role"]) == (admin.name, "admin")
    page = admin.request("GET", "/")
    assert "Dashboard" in page.text
    assert admin.request("GET", "/admin/").status_code == 200


def test_nobody_else_gets_in(lab: Lab, admin: Visitor) -> None:
    stranger = Visitor(lab, admin.name, secrets.token_urlsafe())
    assert stranger.login_answer.status_code == 200
    assert "Dashboard" not in stranger.request("GET", "/").text
    assert stranger.request("GET", "/api/session/state").status_code == 401
    assert stranger.request("GET", "/admin/").headers["Location"].startswith(LOGIN)


def test_a_caption_is_posted_and_its_image_served(
    healthy: Lab, admin: Visitor, pixelfed: Platform
) -> None:
    caption = visitor.caption_arrives(admin, pixelfed)
    assert admin.request("GET", "/").text.count("posted: ") >= 1
    path = f"/images/{visitor.stored_name(pixelfed, caption.medium)}"
    for session in (admin.session, healthy.session()):
        served = session.get(healthy.https + path, timeout=60)
        assert served.status_code == 200
        assert served.headers["Content-Type"] == "image/png"
        assert served.content == pixelfed.image(caption.medium)


def test_a_caption_for_mastodon_is_approved(healthy: Lab, admin: Visitor) -> None:
    """The application cannot post there (contract, section 8): it says so and keeps the caption."""
    mastodon = Platform.of(healthy, "mastodon.lab")
    medium = mastodon.publish()
    admin.add_platform(mastodon.url, mastodon.token, "mastodon")
    admin.caption()
    (number,) = visitor.image_numbers(healthy, medium)
    assert admin.approve(number, "A cat on a sill") is False
    (image,) = [item for item in admin.export()["images"] if item["image_id"] == number]
    assert (image["status"], image["final_caption"]) == ("approved", "A cat on a sill")
    assert mastodon.description(medium) is None


def test_a_wrong_token_fails_the_task(admin: Visitor, pixelfed: Platform) -> None:
    admin.add_platform(pixelfed.url, "not-the-token")
    with pytest.raises(AssertionError, match="401"):
        admin.caption()


def _written_since(lab: Lab, start: str) -> dict[str, str]:
    """Return what the containers, the journal and the application's log files say."""
    return {
        "docker logs": lab.compose(f"logs --no-color --no-log-prefix --since {start}"),
        "journal": lab.run(f"journalctl --no-pager --all --output=cat --since=@{start}"),
        "files": lab.run("find /srv/vedfolnir/logs -type f -newermt @" + start + " -exec cat {} +"),
    }


def test_a_platforms_token_reaches_redis_and_no_log(lab: Lab, admin: Visitor) -> None:
    """The application prints it with every page; that Redis holds it in clear is documented."""
    start = lab.run("date +%s").strip()
    time.sleep(1)
    token = f"tok-{secrets.token_hex(16)}"
    number = admin.add_platform("http://fediverse.lab:8080", token)
    views = [admin.request("GET", "/") for _number in range(4)]
    assert [view.status_code for view in views] == [200] * 4
    assert token not in "".join(view.text for view in views)
    cached = json.loads(redis_cli(lab, f"--raw GET platform:{number}"))
    assert cached["access_token"] == token
    time.sleep(2)
    written = _written_since(lab, start)
    for place in ("docker logs", "journal"):
        printed = [
            line
            for line in written[place].splitlines()
            if "Current platform dict" in line and cached["name"] in line
        ]
        # The line is there, and of this platform: else nothing would be proven.
        assert len(printed) >= len(views)
        assert all("[redacted]" in line for line in printed)
    assert [place for place, text in written.items() if token in text] == []


def test_the_token_is_encrypted_in_the_database(lab: Lab, admin: Visitor) -> None:
    number = admin.add_platform("http://fediverse.lab:8080", "tok-in-the-database")
    query = f"SELECT access_token FROM vedfolnir.platform_connections WHERE id={number}"  # noqa: S608
    password = 'MYSQL_PWD="$(cat /run/secrets/root_password)"'
    stored = lab.exec("mysql", f'{password} mysql -uroot -N -e "{query}"').stdout.strip()
    assert stored.startswith("gAAAA")
    assert "tok-in-the-database" not in stored


@pytest.fixture(autouse=True)
def _tidy(admin: Visitor) -> t.Iterator[None]:
    """A test that was cut off leaves platforms behind, and the first one is the default."""
    admin.remove_platforms()
    yield
    admin.remove_platforms()
