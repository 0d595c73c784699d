"""Docker from an archive of its own: its key is compared, and versions are what was asked for."""

from __future__ import annotations

import typing as t

import pytest
from authority import Authority
from lab import Lab, Run

PLACE = "/run/test-archive"
PORT = 8125
KEYRING = "/etc/apt/keyrings/vedfolnir-docker.asc"
MADE = [
    KEYRING,
    "/etc/apt/preferences.d/vedfolnir-docker.pref",
    "/etc/apt/sources.list.d/vedfolnir-docker.sources",
]
"""What exists only as long as Docker comes from an archive of its own."""
PACKAGE = "docker-buildx"
ROLE = ("site.yml", "--tags", "docker_host")

# Two versions of a package that apt cannot get elsewhere, and a key that signs them.
BUILD = f"""
set -eu
umask 022
cd {PLACE}
command -v gpg-agent >/dev/null ||
    apt-get install --yes --quiet --no-install-recommends gpg gpg-agent >&2
architecture=$(dpkg --print-architecture)
index=main/binary-$architecture
mkdir -p dists/stable/$index pool
for version in 98.1 99.1; do
    mkdir -p build/DEBIAN
    cat > build/DEBIAN/control <<END
Package: {PACKAGE}
Version: $version
Architecture: all
Maintainer: Tests <tests@example.org>
Description: stands in for the real one
END
    file=pool/$version.deb
    dpkg-deb --build build $file >&2
    {{
        dpkg-deb --field $file
        echo "Filename: $file"
        echo "Size: $(stat -c %s $file)"
        echo "SHA256: $(sha256sum $file | cut -d' ' -f1)"
        echo
    }} >> dists/stable/$index/Packages
done
cd dists/stable
cat > Release <<END
Origin: Test
Suite: stable
Codename: stable
Components: main
Architectures: $architecture
Date: $(date -Ru)
SHA256:
 $(sha256sum $index/Packages | cut -d' ' -f1) $(stat -c %s $index/Packages) $index/Packages
END
export GNUPGHOME={PLACE}/keys
mkdir -m 0700 $GNUPGHOME
gpg --batch --quiet --passphrase '' --quick-generate-key test@example.org ed25519 default never
gpg --batch --quiet --clearsign --output InRelease Release
gpg --armor --export > {PLACE}/key.asc
gpg --list-keys --with-colons | awk -F: '$1 == "fpr" {{print $10; exit}}'
"""
SERVE = f"""
import http.server, ssl
server = http.server.HTTPServer(("127.0.0.1", {PORT}), http.server.SimpleHTTPRequestHandler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("certificate.pem", "key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def version(lab: Lab) -> str:
    """Return the installed version of the package."""
    return lab.run(f"dpkg-query -W -f '${{Version}}' {PACKAGE}")


def existing(lab: Lab) -> list[str]:
    """Return which of the archive's files are there."""
    return lab.run(f"ls -d {' '.join(MADE)} 2>/dev/null; true").split()


def refusal(lab: Lab, options: dict[str, t.Any]) -> Run:
    """Ask for a version that there is not, and return the run, which must say so."""
    missing = {"docker_host_package_versions": {PACKAGE: "97.*"}}
    run = lab.playbook(*ROLE, variables=options | missing)
    said = " ".join(run.output.split())
    assert f"apt cannot install {PACKAGE}=97.*: Version '97.*' for '{PACKAGE}' was not" in said
    assert "Correct docker_host_package_versions" in said
    return run


@pytest.fixture
def archive(healthy: Lab) -> t.Iterator[dict[str, t.Any]]:
    """Options of the role that name an archive on the host itself."""
    lab = healthy
    real = version(lab)
    had_gpg = lab.ssh("command -v gpg-agent").returncode == 0
    authority = Authority("Authority of an archive")
    certificate, key = authority.issue("127.0.0.1")
    lab.run(f"mkdir -p {PLACE}")
    try:
        files = {"certificate.pem": certificate, "key.pem": key, "serve.py": SERVE}
        for name, content in files.items():
            lab.run(f"cat > {PLACE}/{name}", stdin=content)
        fingerprint = lab.run("sh -s", 600, stdin=BUILD).split()[-1]
        lab.run(
            "systemd-run --quiet --collect --unit=test-archive"
            f" --working-directory={PLACE} python3 serve.py"
        )
        yield {
            "docker_host_source": "docker",
            "docker_host_packages": ["docker.io", "docker-cli", "docker-compose", PACKAGE],
            "docker_host_repository_url": f"file:{PLACE}",
            "docker_host_repository_suite": "stable",
            "docker_host_repository_components": ["main"],
            "docker_host_repository_pin": "release o=Test",
            "docker_host_repository_key_url": f"https://127.0.0.1:{PORT}/key.asc",
            "docker_host_repository_key_fingerprint": fingerprint,
            "docker_host_ca_certificates": [
                *lab.variables.get("docker_host_ca_certificates", []),
                {"name": "test-archive", "content": authority.certificate},
            ],
        }
    finally:
        lab.playbook(*ROLE, variables={"docker_host_package_versions": {PACKAGE: real}}).check()
        unwanted = "" if had_gpg else "apt-get purge --yes --quiet gpg gpg-agent; "
        lab.run(f"systemctl stop test-archive; {unwanted}rm -r {PLACE}")
        assert version(lab) == real
        assert existing(lab) == []


def test_a_key_is_compared_and_a_version_is_held_to(lab: Lab, archive: dict[str, t.Any]) -> None:
    """A wrong key is not trusted, a missing version changes nothing, the asked one is installed."""
    before = version(lab)
    wanted: dict[str, t.Any] = {"docker_host_package_versions": {PACKAGE: "98.*"}}

    assert refusal(lab, {}).recap["changed"] == 0
    assert version(lab) == before

    foreign = {"docker_host_repository_key_fingerprint": "A" * 40}
    refused = lab.playbook(*ROLE, variables=archive | wanted | foreign)
    said = " ".join(refused.output.split())
    true = archive["docker_host_repository_key_fingerprint"]
    assert f"/key.asc offers {true}, but docker_host_repository_key_fingerprint is AAAA" in said
    assert existing(lab) == []
    assert version(lab) == before

    lab.playbook(*ROLE, variables=archive | wanted).check()
    assert version(lab) == "98.1"
    assert existing(lab) == sorted(MADE)
    assert PACKAGE in lab.run("apt-mark showhold").split()
    again = lab.playbook(*ROLE, variables=archive | wanted).check()
    assert again.recap["changed"] == 0, again.output[-4000:]

    packages = lab.run("dpkg-query -W -f '${Package} ${Version} ${db:Status-Abbrev}\\n'")
    assert refusal(lab, archive)
    assert lab.run("dpkg-query -W -f '${Package} ${Version} ${db:Status-Abbrev}\\n'") == packages

    key = lab.run(f"cat {KEYRING}")
    lab.run(f"cat > {KEYRING}", stdin="another key")
    newer = {"docker_host_package_versions": {PACKAGE: "99.*"}}
    lab.playbook(*ROLE, variables=archive | newer).check()
    assert version(lab) == "99.1"
    assert lab.run(f"cat {KEYRING}") == key
