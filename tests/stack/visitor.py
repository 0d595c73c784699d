"""What a person does at the deployed site, and the fake platform that answers for the internet."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import time
import typing as t
import uuid

import requests
from lab import Lab

LOGIN = "/user-management/login"
PREFIX = "test-"
TASK_SECONDS = 240


@dataclasses.dataclass(frozen=True)
class Platform:
    """A fake platform: its address for the application, and that of its control calls for us."""

    url: str
    control_url: str
    token: str = "stand-in-token"

    @classmethod
    def of(cls, lab: Lab, name: str) -> Platform:
        """Find a platform among the lab's neighbours by its name on their network."""
        for neighbour in lab.variables["lab_neighbours"]:
            if name in neighbour.get("aliases", []):
                address, outer, inner = neighbour["ports"][0].split(":")
                return cls(f"http://{name}:{inner}", f"http://{address}:{outer}")
        raise KeyError(name)

    def control(self, call: str, body: t.Any = None) -> t.Any:
        """Look (without a body) or set the scene (with one)."""
        url = f"{self.control_url}/_control/{call}"
        method = "GET" if body is None else "POST"
        answer = requests.request(method, url, json=body, timeout=30)
        assert answer.ok, answer.text
        return answer.json()

    def publish(self) -> str:
        """Publish a post with one image that has no description; return the image's id.

        Other hosts may use the platform at the same time, so nothing is reset.
        """
        content = f"{PREFIX}{uuid.uuid4().hex}"
        self.control("posts", [{"content": content, "media": [{}]}])
        (post,) = [post for post in self.control("posts") if post["content"] == content]
        return str(post["media"][0]["id"])

    def image(self, medium: str) -> bytes:
        """Return the bytes of an image."""
        answer = requests.get(f"{self.control_url}/media/{medium}.png", timeout=30)
        assert answer.ok
        return answer.content

    def description(self, medium: str) -> str | None:
        """Return the description that an image has now."""
        media = [item for post in self.control("posts") for item in post["media"]]
        (found,) = [item["description"] for item in media if item["id"] == medium]
        return t.cast("str | None", found)

    def puts(self, medium: str) -> list[t.Any]:
        """Return what was written to an image."""
        path = f"/api/v1/media/{medium}"
        return [put["body"] for put in self.control("puts") if put["path"] == path]


class Visitor:
    """A logged-in person, with the calls that the pages make."""

    def __init__(self, lab: Lab, name: str, password: str) -> None:
        """Log in."""
        self.lab, self.name = lab, name
        self.session = lab.session()
        form = {"username_or_email": name, "password": password}
        self.login_answer = self.request("POST", LOGIN, data=form)

    def request(self, method: str, path: str, **options: t.Any) -> requests.Response:
        """Send a request; a redirect is not followed, as it leads to the public port."""
        return self.session.request(
            method, self.lab.https + path, timeout=120, allow_redirects=False, **options
        )

    def call(self, method: str, path: str, **options: t.Any) -> t.Any:
        """Send a request that must succeed, and return its JSON answer."""
        answer = self.request(method, path, **options)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    def add_platform(self, url: str, token: str, kind: str = "pixelfed") -> int:
        """Connect a platform, make it the current one, and return its number."""
        connection = {
            "name": f"{PREFIX}{uuid.uuid4().hex[:8]}",
            "platform_type": kind,
            "instance_url": url,
            "username": "tester",
            "access_token": token,
        }
        answer = self.call("POST", "/api/add_platform", json=connection)
        number = int(answer["platform_id"])
        assert self.call("POST", f"/api/switch_platform/{number}")["success"]
        return number

    def export(self) -> dict[str, t.Any]:
        """Return what the application gives a person of their own data."""
        return t.cast("dict[str, t.Any]", self.call("GET", "/user-management/profile/export"))

    def remove_platforms(self) -> None:
        """Delete the platforms that tests made, and with them posts, images and tasks."""
        for connection in self.export()["user_profile"]["platform_connections"]:
            if connection["name"].startswith(PREFIX):
                assert self.call("DELETE", f"/api/delete_platform/{connection['id']}")["success"]

    def caption(self) -> str:
        """Start a caption task, wait until a worker has done it, and return its number."""
        started = self.call("POST", "/caption/start", data={"max_posts_per_run": "10"})
        task = str(started["data"]["task_id"])
        end = time.monotonic() + TASK_SECONDS
        status: dict[str, t.Any] = {}
        while time.monotonic() < end:
            status = self.call("GET", f"/caption/api/status/{task}")["status"]
            if status["status"] in ("completed", "failed", "cancelled"):
                break
            time.sleep(1)
        assert status["status"] == "completed", status
        return task

    def approve(self, image: int, caption: str) -> bool:
        """Approve a caption; tell whether it was posted."""
        answer = self.call("POST", f"/api/approve_and_post/{image}", json={"caption": caption})
        assert answer["success"]
        return bool(answer["posted"])


@functools.cache
def administrator(lab: Lab) -> Visitor:
    """Return the one session of the administrator: attempts to log in are rationed."""
    name = lab.variables.get("app_admin_username", "admin")
    password = lab.run("cat /run/vedfolnir/secrets/app-admin/admin_password").strip()
    visitor = Visitor(lab, name, password)
    assert visitor.login_answer.status_code == 302, visitor.login_answer.text[:500]
    return visitor


def stored_name(platform: Platform, medium: str) -> str:
    """Return the name under which the application keeps an image."""
    url = f"{platform.url}/media/{medium}.png"
    return hashlib.md5(url.encode(), usedforsecurity=False).hexdigest()[:12] + ".png"


def image_numbers(lab: Lab, medium: str) -> list[int]:
    """Return the application's numbers of an image; it has one, however many workers there are."""
    query = (
        "SELECT i.id FROM vedfolnir.images i JOIN vedfolnir.platform_connections c"  # noqa: S608
        f" ON c.id = i.platform_connection_id WHERE c.name LIKE '{PREFIX}%'"
        f" AND i.image_post_id = '{medium}'"
    )
    command = f'MYSQL_PWD="$(cat /run/secrets/root_password)" mysql -uroot -N -e "{query}"'
    result = lab.exec("mysql", command)
    assert result.returncode == 0, result.stderr
    return [int(line) for line in result.stdout.split()]


@dataclasses.dataclass(frozen=True)
class Caption:
    """A caption that has arrived."""

    task: str
    medium: str
    text: str


def caption_arrives(visitor: Visitor, platform: Platform) -> Caption:
    """Take an image from the platform to the model, the review and back; check what arrives."""
    medium = platform.publish()
    assert platform.description(medium) is None
    visitor.add_platform(platform.url, platform.token)
    task = visitor.caption()
    (number,) = image_numbers(visitor.lab, medium)
    (image,) = [item for item in visitor.export()["images"] if item["image_id"] == number]
    text = image["generated_caption"]
    assert text
    assert visitor.approve(number, text)
    assert platform.puts(medium) == [{"description": text}]
    assert platform.description(medium) == text
    return Caption(task, medium, text)
