"""The page of the host's directories names every place that a role writes to."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

import gate_repo
import pytest
import test_specs

PAGE = Path("docs/directories.md")
_ROW = re.compile(r"^\| ((?:`[^`]+`(?:, )?)+) \|", re.MULTILINE)
# Absolute, and not the end of a longer path (an expression or an address comes before that).
_PATH = re.compile(r"(?<![\w.}/-])/(?:etc|opt|root|run|srv|usr|var)/[\w./-]+")

# What only the containers see: the official images' own places, and mounts.
IN_CONTAINERS = (
    "/etc/alertmanager",
    "/etc/alertmanager/*",
    "/etc/blackbox_exporter",
    "/etc/blackbox_exporter/*",
    "/etc/grafana",
    "/etc/grafana/*",
    "/etc/mysql/*",
    "/etc/nginx",
    "/etc/prometheus",
    "/etc/prometheus/*",
    "/run/secrets",
    "/run/secrets/*",
    "/run/vault-ca.pem",
    "/srv/acme",
    "/srv/static",
    "/srv/status",
    "/srv/tls",
    "/usr/local/etc/redis",
    "/usr/share/grafana",
    "/usr/local/etc/redis/*",
    "/var/cache/nginx",
    "/var/lib/grafana",
    "/var/lib/grafana/*",
    "/var/lib/binlogs",
    "/var/lib/mysql",
    "/var/lib/mysql/*",
    "/var/run/mysqld",
    "/var/run/mysqld/*",
    "/etc/alloy/*",
    "/etc/alloy",
    "/etc/loki/*",
    "/etc/loki",
    "/loki",
    "/loki/*",
    "/var/lib/alloy/*",
    "/var/log/mysql",
    "/var/log/mysql/*",
    "/var/log/vault",
)
# What belongs to Debian: read or run, never written.
READ = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/usr/bin/*",
    "/usr/sbin/*",
    "/var/log/journal",
)


def listed() -> set[str]:
    """Return the page's paths as patterns: a place holder in capitals is any name."""
    paths = [path for row in _ROW.findall(gate_repo.text(PAGE) or "") for path in row.split("`")]
    absolute = [path.replace("…/", "/srv/vedfolnir/") for path in paths if "/" in path]
    return {re.sub(r"\b[A-Z]{2,}\b", "*", path) for path in absolute}


def is_listed(path: str, patterns: set[str]) -> bool:
    """Say whether a path is on the page, lies in a directory there, or only leads to one."""
    return any(
        fnmatch.fnmatchcase(path, pattern)
        or (pattern.endswith("/") and fnmatch.fnmatchcase(path + "/", pattern + "*"))
        or pattern.startswith(path.rstrip("/") + "/")
        for pattern in patterns
    )


def written(role: str) -> set[str]:
    """Return the absolute paths that a role's values and tasks mention."""
    found: set[str] = set()
    for path in gate_repo.matching(f"roles/{role}/**/*.yml"):
        if path.parts[2] in ("defaults", "vars", "tasks", "handlers"):
            for text in test_specs._texts(gate_repo.load(path)):
                found.update(_PATH.findall(text))
    others = (*IN_CONTAINERS, *READ)
    return {path for path in found if not any(fnmatch.fnmatchcase(path, o) for o in others)}


@pytest.mark.parametrize("role", gate_repo.roles())
def test_every_place_is_on_the_page(role: str) -> None:
    patterns = listed()
    assert sorted(path for path in written(role) if not is_listed(path, patterns)) == []


def test_the_roles_are_read() -> None:
    assert {"/etc/docker/daemon.json", "/etc/nftables.d/vedfolnir.nft"} <= written("docker_host")
    assert "/etc/logrotate.d/vedfolnir-vault" in written("vault")


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("/etc/a", True),
        ("/etc/b/c", True),
        ("/etc/b", True),
        ("/run/nginx/x", True),
        ("/var/lib/x.json", True),
        ("/var/lib", True),
        ("/etc/aa", False),
        ("/etc/a/b", False),
        ("/opt/x", False),
    ],
)
def test_what_the_page_covers(path: str, there: bool) -> None:
    assert is_listed(path, {"/etc/a", "/etc/b/", "/run/*/", "/var/lib/x.json"}) is there
