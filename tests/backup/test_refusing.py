"""A target that is full, refuses or is silent is given up in a bounded time, and told."""

from __future__ import annotations

import time
import typing as t

import kept
import pytest
import rest
from lab import Lab
from rest import Rest
from target import SMALL, USER, Target

TARGET = 6
PATIENCE = 20
MOST_SECONDS = 120
"""Twice the patience for one request, and all that is done before."""
AT_ONCE_SECONDS = 30
GIVEN_UP = f"; given up after {PATIENCE} s (backup_patience_seconds) (restic: "
_REFUSES = """
import http.server, sys
code, body = int(sys.argv[1]), b"<Error><Code>%s</Code><Message>%s</Message></Error>"
body %= (b"AccessDenied", b"Access Denied.") if code == 403 else (b"X", b"reduce your request rate")
class Refuses(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)
    do_PUT = do_HEAD = do_POST = do_DELETE = do_GET
http.server.ThreadingHTTPServer(("", int(sys.argv[2])), Refuses).serve_forever()
"""


class Small(Rest):
    """A rest-server on the disk that is soon full."""

    port = 8002

    @property
    def command(self) -> str:
        """How it is started."""
        return super().command.replace("/srv/backups/rest", SMALL).replace("--append-only ", "")


class Refuses(Rest):
    """A server that refuses all that it is asked."""

    install = "mkdir -p /root/tls"

    def __init__(self, target: Target, code: int) -> None:
        """Have it answer with an HTTP status."""
        self.port, self._code = 9000 + code, code
        super().__init__(target)

    @property
    def command(self) -> str:
        """How it is started."""
        return f"python3 -c '{_REFUSES}' {self._code} {self.port}"


@pytest.fixture
def disk(ready: Lab, target: Target) -> t.Iterator[Target]:
    """The second host, whose small disk is nearly full, and a host with much to save."""
    target.run(f"rm -rf {SMALL}/*; head -c 52000000 /dev/zero >{SMALL}/ballast; chmod 777 {SMALL}")
    ready.run(
        "cd /srv/vedfolnir/storage/images && head -c 30000000 /dev/urandom >big.bin && "
        "chown 1990:1990 big.bin"
    )
    yield target
    target.run(f"rm -rf {SMALL}/*")
    forget(ready)


def forget(lab: Lab) -> None:
    """Let the host forget the repository of a test."""
    lab.run("rm -rf /root/other.json /root/keys /srv/vedfolnir/.state/backup.json")


def refused(lab: Lab, settings: str, at: str, most: float) -> str:
    """Let a backup fail in a bounded time; return what it said."""
    before = lab.started()
    begun = time.monotonic()
    done = kept.program(lab, f"--settings {settings} backup")
    seconds = time.monotonic() - begun
    assert done.returncode == TARGET, done.stderr
    assert f" at {at}: " in done.stderr
    assert seconds < most, done.stderr
    assert kept.metric(lab, "last_exit_code") == TARGET
    assert lab.started() == before
    # Neither a process nor a lock of the host is left; the unit may begin at once.
    assert lab.ssh("pgrep -x restic").returncode == 1
    assert lab.ssh("flock --nonblock /run/vedfolnir/backup.lock true").returncode == 0
    return done.stderr


def room(lab: Lab, target: Target, settings: str, place: str) -> None:
    """Check that no lock was left at the target, make room there, and see that all is well."""
    assert target.run(f"ls {place}/locks").split() == []
    said = kept.program(lab, f"--settings {settings} list").stdout
    assert "there is no complete backup" in said
    target.run(f"rm {SMALL}/ballast")
    done = kept.program(lab, f"--settings {settings} backup")
    assert done.returncode == 0, done.stderr
    assert kept.metric(lab, "last_exit_code") == 0


def test_a_full_disk_of_the_second_host_by_sftp(ready: Lab, disk: Target) -> None:
    place = f"{SMALL}/repository"
    repository = f"sftp:{USER}@{disk.name}:{place}"
    settings = kept.other_settings(ready, repository=repository, patience_seconds=PATIENCE)
    said = refused(ready, settings, repository, AT_ONCE_SECONDS)
    assert "the target is full; make room there, or keep fewer backups (backup_keep_*)" in said
    room(ready, disk, settings, place)


def test_a_full_disk_of_the_second_host_by_rest(ready: Lab, disk: Target) -> None:
    server = Small(disk)
    server.start(ready)
    try:
        settings = served(ready, server)
        said = refused(ready, settings, server.repository, MOST_SECONDS)
        assert "often because it is full; make room there, or keep fewer backups" in said
        assert GIVEN_UP in said
        room(ready, disk, settings, f"{SMALL}/copy")
    finally:
        server.stop()


def test_a_server_that_is_silent(ready: Lab, disk: Target) -> None:
    server = Small(disk)
    server.start(ready)
    server.signal("STOP")
    try:
        settings = served(ready, server)
        assert GIVEN_UP in refused(ready, settings, server.repository, MOST_SECONDS)
    finally:
        server.signal("CONT")
        server.stop()


def served(lab: Lab, server: Small) -> str:
    """Return settings with a rest-server as the repository."""
    return kept.other_settings(
        lab,
        repository=server.repository,
        repository_user=rest.USER,
        repository_ca="/root/keys/ca.pem",
        secrets_directory=keys(lab, rest.PASSWORD, server.ca),
        patience_seconds=PATIENCE,
    )


def keys(lab: Lab, password: str, authority: str = "") -> str:
    """Keep the host's secrets beside, with the password of a server; return where."""
    lab.run(
        f"rm -rf /root/keys && cp -r {kept.SECRETS}/backup /root/keys && "
        "chmod -R u+w /root/keys && cat >/root/keys/repository_password",
        stdin=password,
    )
    lab.run("cat >/root/keys/ca.pem", stdin=authority)
    return "/root/keys"


@pytest.mark.parametrize(
    ("kind", "code", "most", "meaning"),
    [
        ("rest:http://{0}/x", 403, AT_ONCE_SECONDS, "the target refuses it to this login"),
        ("rest:http://{0}/x", 503, MOST_SECONDS, f"the target does not serve now{GIVEN_UP}"),
        ("s3:http://{0}/bucket/x", 403, MOST_SECONDS, "the target refuses the login"),
        ("s3:http://{0}/bucket/x", 503, MOST_SECONDS, f"the target has too much to do{GIVEN_UP}"),
    ],
)
def test_a_target_that_refuses_everything(
    ready: Lab, target: Target, kind: str, code: int, most: float, meaning: str
) -> None:
    server = Refuses(target, code)
    server.start(ready)
    repository = kind.format(f"{target.name}:{server.port}")
    try:
        settings = kept.other_settings(
            ready,
            repository=repository,
            repository_user="somebody",
            secrets_directory=keys(ready, "of-the-test-only-4"),
            patience_seconds=PATIENCE,
        )
        said = refused(ready, settings, repository, most)
        assert meaning in said
        assert "of-the-test-only-4" not in said
    finally:
        server.stop()
        forget(ready)
    assert kept.program(ready, "backup").returncode == 0
