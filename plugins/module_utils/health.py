# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a Compose project is as healthy as it should be: what to ask, and what to make of it."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import ssl
import subprocess
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import engine

_EXPIRED = 10
_WRONG_NAME = 62
_DEFECTS = (_EXPIRED, _WRONG_NAME)
"""What is wrong with a certificate wherever one stands; an authority may just be unknown here."""
_LONGEST = 300
_SECONDS = 20
_KNOCK_SECONDS = 3


class Site(t.TypedDict):
    """Where the page of the project is asked for."""

    name: str
    path: str
    port: int
    authorities: str
    address: t.NotRequired[str]
    """Whom to ask, whatever the name resolves to; this host if it is left out."""


class ProjectError(Exception):
    """The project cannot be looked at."""


def look(
    docker: str,
    directory: str,
    project: str,
    page: t.Mapping[str, t.Any] | None,
    doors: t.Sequence[t.Mapping[str, t.Any]] = (),
) -> dict[str, t.Any]:
    """Return the report: ``healthy``, ``problems``, ``services``, ``inside`` and ``site``.

    Args:
        docker: Path of the engine's client.
        directory: The Compose project's.
        project: Its name.
        page: What is asked for: ``name``, ``path``, ``authorities``, and ``service`` and ``port``
            that publish it.
        doors: See :func:`knock`.

    Raises:
        ProjectError: when Compose or the engine cannot be asked.
    """
    names = _compose(docker, directory, "config", "--services").split()
    containers = parse_containers(_compose(docker, directory, "ps", "--all", "--format", "json"))
    services = judge(names, containers)
    site: dict[str, t.Any] = {}
    if page:
        port = published_port(containers, str(page["service"]), int(page["port"]))
        site = ask(
            {
                "name": page["name"],
                "path": page["path"],
                "port": port or 0,
                "authorities": page.get("authorities") or "",
            }
        )
    inside = {}
    if doors:
        try:
            inside = knock(engine.containers(project), doors)
        except engine.EngineError as exc:
            raise ProjectError(str(exc)) from exc
    found = problems(services, site, inside)
    return {
        "healthy": not found,
        "problems": found,
        "services": services,
        "inside": inside,
        "site": site,
    }


def _compose(docker: str, directory: str, *argv: str) -> str:
    done = subprocess.run(
        [docker, "compose", *argv],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
    )
    if done.returncode != 0:
        raise ProjectError(f"docker compose {argv[0]} failed in {directory}: {done.stderr.strip()}")
    return done.stdout


def knock(
    containers: t.Iterable[engine.Container], doors: t.Sequence[t.Mapping[str, t.Any]]
) -> dict[str, str]:
    """Return what is wrong at each door, by service; nothing where somebody opens.

    Args:
        containers: As the engine lists them.
        doors: ``service``, ``network`` and ``port``; each replica of the service is asked, on its
            own address in that network, which this host is a part of.
    """
    found = {}
    for container in containers:
        name = str(container["Labels"].get(engine.SERVICE, ""))
        for door in doors:
            if container["State"] != "running" or re.sub(r"-[0-9]+$", "", name) != door["service"]:
                continue
            networks = container["NetworkSettings"]["Networks"]
            own = [one for key, one in networks.items() if key.endswith(f"_{door['network']}")]
            address = (own[0]["IPAddress"] if own else "") or ""
            found[name] = _knock(address, int(door["port"])) if address else "has no address"
    return dict(sorted(found.items()))


def _knock(address: str, port: int) -> str:
    try:
        with socket.create_connection((address, port), timeout=_KNOCK_SECONDS):
            return ""
    except OSError as error:
        return f"does not answer at {address}:{port}: {error}"


def parse_containers(text: str) -> list[dict[str, t.Any]]:
    """Return the containers that ``docker compose ps --format json`` lists.

    One object per line; Compose before 2.21 printed a list.
    """
    found: list[dict[str, t.Any]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        content = json.loads(line)
        found += content if isinstance(content, list) else [content]
    return found


def judge(
    wanted: t.Iterable[str], containers: t.Iterable[t.Mapping[str, t.Any]]
) -> dict[str, dict[str, t.Any]]:
    """Return for each service its ``state``, ``health`` and whether it is ``ok``.

    Args:
        wanted: Services that have to run.
        containers: What :func:`parse_containers` returns. A container of a service that nobody
            wants is left over from an earlier state and not ok.
    """
    seen = {str(container["Service"]): container for container in containers}
    wanted = set(wanted)
    report = {}
    for name in sorted(wanted | set(seen)):
        container = seen.get(name, {})
        state = str(container.get("State") or "missing")
        health = str(container.get("Health") or "")
        report[name] = {
            "state": state if name in wanted else "left over",
            "health": health,
            "exit_code": int(container.get("ExitCode") or 0),
            "ok": name in wanted and state == "running" and health in ("", "healthy"),
        }
    return report


def published_port(
    containers: t.Iterable[t.Mapping[str, t.Any]], service: str, target: int
) -> int | None:
    """Return the host's port under which a port of a service's container is published."""
    for container in containers:
        if container.get("Service") != service:
            continue
        for publisher in container.get("Publishers") or []:
            if publisher.get("TargetPort") == target and publisher.get("PublishedPort"):
                return int(publisher["PublishedPort"])
    return None


def problems(
    services: t.Mapping[str, t.Mapping[str, t.Any]],
    site: t.Mapping[str, t.Any],
    inside: t.Mapping[str, str] | None = None,
) -> list[str]:
    """Return what is wrong, one sentence each."""
    found = []
    for name, service in services.items():
        if service["ok"]:
            continue
        what = service["state"]
        if what == "running":
            what = f"running, but {service['health']}"
        elif what == "exited":
            what = f"exited with status {service['exit_code']}"
        found.append(f"{name} is {what}")
    found += [f"{name} {what}" for name, what in (inside or {}).items() if what]
    if site and not site["ok"]:
        found.append(f"{site['url']} {site['error']}")
    return found


def ask(site: Site) -> dict[str, t.Any]:
    """Ask the page over HTTPS under its public name.

    The certificate is judged as a browser does it that knows the authorities in the given file
    beside its own. One from an authority that is unknown on this host is reported, but a defect
    only when it has expired or is for another name.
    """
    result: dict[str, t.Any] = {
        "url": f"https://{site['name']}:{site['port']}{site['path']}",
        "status": 0,
        "answer": "",
        "certificate": "trusted",
        "error": "" if site["port"] else "cannot be asked, because no port is published",
    }
    if not site["port"]:
        return result | {"ok": False}
    try:
        try:
            status, answer = _get(site, _trusting(site["authorities"]))
        except ssl.SSLCertVerificationError as error:
            result["certificate"] = error.verify_message
            if error.verify_code in _DEFECTS:
                result["error"] = f"shows a certificate that is not valid: {error.verify_message}"
            status, answer = _get(site, _unverified())
        result |= {"status": status, "answer": answer[:_LONGEST]}
        if status != http.client.OK:
            result["error"] = f"answers {status}: {answer[:_LONGEST]}".strip()
    except (OSError, http.client.HTTPException) as error:
        result["error"] = f"does not answer: {error}"
    result["ok"] = not result["error"]
    return result


def _trusting(authorities: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    # The file is only there when the stack has an authority of its own.
    if authorities:
        with contextlib.suppress(OSError):
            context.load_verify_locations(cafile=authorities)
    return context


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _get(site: Site, context: ssl.SSLContext) -> tuple[int, str]:
    """Return status and body."""
    connection = http.client.HTTPConnection(site["name"], site["port"], timeout=_SECONDS)
    whom = site.get("address") or "127.0.0.1"
    plain = socket.create_connection((whom, site["port"]), timeout=_SECONDS)
    try:
        connection.sock = context.wrap_socket(plain, server_hostname=site["name"])
        connection.request("GET", site["path"], headers={"Host": site["name"]})
        response = connection.getresponse()
        return response.status, response.read(65536).decode(errors="replace").strip()
    finally:
        plain.close()
        connection.close()
