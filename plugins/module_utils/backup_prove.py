# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Prove that restored data serve: somebody logs in, images have files, credentials open."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import typing as t
import urllib.parse

from ansible_collections.vedfolnir.stack.plugins.module_utils import health
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import (
    BackupError,
    DamagedError,
    Settings,
    output,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_take import compose

LOGIN = "/user-management/login"
_SECONDS = 60
Found = dict[str, t.Any]


def replica(settings: Settings) -> str:
    """Return the name of the application's first replica.

    Raises:
        BackupError: when there is none.
    """
    names = output(compose(settings, "config", "--services")).split()
    found = sorted(name for name in names if name == "app" or name.startswith("app-"))
    if not found:
        raise BackupError("the project has no application; run site.yml")
    return found[0]


def look(exec_argv: t.Sequence[str]) -> Found:
    """Let the application look at its data; the argument runs a program in its container.

    Raises:
        BackupError: when it cannot.
    """
    said = output([*exec_argv, "python3", "-m", "vedfolnir_adapter.prove"])
    return dict(json.loads(said.strip().splitlines()[-1]))


def judge(found: Found) -> str:
    """Return in words what was found.

    Raises:
        DamagedError: when credentials do not open, or images have no file.
    """
    credentials, images = found["credentials"], found["images"]
    if credentials["unreadable"]:
        raise DamagedError(
            f"{credentials['unreadable']} of {credentials['values']} stored credentials do not "
            f"open with the present keys: {', '.join(credentials['where'])}"
        )
    if images["missing"]:
        raise DamagedError(
            f"{images['missing']} of {images['rows']} images have no file: "
            f"{', '.join(images['where'])}"
        )
    return (
        f"{found['users']} users, {credentials['values']} stored credentials open, "
        f"{images['rows']} images have their files"
    )


def log_in(site: health.Site, username: str, password: str) -> None:
    """Log in at the site as a person does, over HTTPS on this host.

    Raises:
        BackupError: when the site does not let them in.
    """
    form = urllib.parse.urlencode({"username_or_email": username, "password": password})
    try:
        status = _post(site, form)
    except (OSError, http.client.HTTPException) as exc:
        raise BackupError(f"login: the site does not answer: {exc}") from exc
    if status != http.client.FOUND:
        raise BackupError(
            f"login: the site does not let {username} in (it answers {status}). If the password "
            "was changed since the first deployment, give it with -e restore_login_password=…, or "
            "log in yourself; all else is proven"
        )


def _post(site: health.Site, form: str) -> int:
    """Send a form to the page of the login, as a browser does, and return the status.

    The certificate is not judged: on a host that has just come back a public one may be missing.
    """
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    headers = {"Host": site["name"], "Content-Type": "application/x-www-form-urlencoded"}
    connection = http.client.HTTPConnection(site["name"], site["port"])
    # This host, whatever the name resolves to.
    plain = socket.create_connection(("127.0.0.1", site["port"]), timeout=_SECONDS)
    try:
        connection.sock = context.wrap_socket(plain, server_hostname=site["name"])
        connection.request("POST", LOGIN, body=form, headers=headers)
        return connection.getresponse().status
    finally:
        plain.close()
        connection.close()
