"""A certificate from an ACME authority on the lab host: Pebble, the test server of RFC 8555."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
from authority import Authority, shown
from lab import Lab, wait_until

PORT = 14000
PLACE = "/run/test-pebble"
TRUSTED = "/usr/local/share/ca-certificates/test-pebble.crt"
FETCH = f"""
import urllib.request
print(urllib.request.urlopen("https://localhost:{PORT + 1}/roots/0").read().decode())
"""
MADE = [
    "/etc/letsencrypt/live/vedfolnir-nginx",
    "/etc/letsencrypt/archive/vedfolnir-nginx",
    "/etc/letsencrypt/renewal/vedfolnir-nginx.conf",
    "/srv/vedfolnir/data/nginx",
    "/usr/local/lib/vedfolnir/nginx-certificate",
]
"""What exists only as long as the certificate comes from an ACME authority."""


@pytest.fixture
def pebble(healthy: Lab) -> t.Iterator[Lab]:
    """The lab host with an authority on it, which finds the site as the Internet would: by name."""
    lab = healthy
    authority = Authority("Authority of Pebble's own address")
    certificate, key = authority.issue("localhost", "127.0.0.1")
    settings = {
        "listenAddress": f"127.0.0.1:{PORT}",
        "managementListenAddress": f"127.0.0.1:{PORT + 1}",
        "certificate": f"{PLACE}/certificate.pem",
        "privateKey": f"{PLACE}/key.pem",
        "httpPort": 80,
        "tlsPort": 443,
    }
    files = {
        f"{PLACE}/certificate.pem": certificate,
        f"{PLACE}/key.pem": key,
        f"{PLACE}/pebble.json": json.dumps({"pebble": settings}),
        TRUSTED: authority.certificate,
    }
    name = lab.variables["stack_domain"]
    address = "ip -4 -o addr show eth0 | awk '{print $4}' | cut -d/ -f1"
    try:
        install = "apt-get install --yes --quiet --no-install-recommends pebble"
        lab.run(f"command -v pebble >/dev/null || {install}", 600)
        lab.run(f"mkdir -p {PLACE}")
        for path, content in files.items():
            lab.run(f"cat > {path}", stdin=content)
        lab.run("update-ca-certificates")
        # A container's /etc/hosts is a mount, which cannot be replaced but written.
        lab.run(f"cp /etc/hosts {PLACE}/hosts && echo $({address}) {name} >> /etc/hosts")
        lab.run(
            "systemd-run --quiet --collect --unit=test-pebble --setenv=PEBBLE_VA_NOSLEEP=1"
            f" pebble -config {PLACE}/pebble.json"
        )
        yield lab
    finally:
        lab.run(
            f"systemctl stop test-pebble; cat {PLACE}/hosts > /etc/hosts; rm -rf {PLACE} {TRUSTED}"
            f" /etc/letsencrypt/accounts/localhost:{PORT}; update-ca-certificates --fresh"
        )


def test_a_certificate_is_obtained_renewed_and_given_up(pebble: Lab) -> None:
    """Shown by nginx, kept by a second run, renewed by what the timer runs, removed by own_ca."""
    own_authority = pathlib.Path(pebble.ca).read_text(encoding="utf-8")
    options = {
        "nginx_tls_source": "acme",
        "nginx_acme_email": "operator@example.org",
        "nginx_acme_directory_url": f"https://localhost:{PORT}/dir",
        # An authority gives a certificate for public names only.
        "nginx_extra_names": [],
    }
    had_certbot = pebble.ssh("command -v certbot").returncode == 0
    try:
        pebble.playbook(variables=options).check()
        root = pebble.run("python3 -", stdin=FETCH)
        first = shown(pebble, root)
        assert pebble.run("systemctl is-active certbot.timer").strip() == "active"
        assert pebble.run("systemctl is-enabled certbot.timer").strip() == "enabled"

        before = pebble.started()
        again = pebble.playbook(variables=options).check()
        assert again.recap["changed"] == 0, again.output[-4000:]
        assert shown(pebble, root) == first

        # The timer's own command, for a certificate that it would leave alone for weeks.
        renew = "certbot -q renew --no-random-sleep-on-renew"
        service = pebble.run("systemctl cat certbot.service")
        assert "certbot -q renew" in service
        pebble.run(renew)
        assert shown(pebble, root) == first
        pebble.run(f"{renew} --force-renewal")
        # A reload is a signal; nginx answers with the old certificate until it has read the new.
        wait_until(lambda: shown(pebble, root) != first, 20, "the renewed one is not shown")
        assert pebble.started() == before
    finally:
        pebble.playbook().check()
    assert shown(pebble, own_authority)
    assert pebble.run(f"ls -d {' '.join(MADE)} 2>/dev/null; true").split() == []
    assert (pebble.ssh("command -v certbot").returncode == 0) == had_certbot
