"""The site's certificate from elsewhere than the stack's own authority."""

from __future__ import annotations

import json
import pathlib

import requests
from authority import Authority, shown
from lab import Lab

HOLDERS = ["/etc/vedfolnir/secrets/manifest.json", "/run/vedfolnir/secrets/nginx/site.pem"]
"""Where a given key lies: with what a boot renders the secrets from, and where nginx reads it."""


def test_given_files_are_served_and_taken_back(healthy: Lab, tmp_path: pathlib.Path) -> None:
    """By a reload only, and without the key in the output or where others could read it."""
    names = [healthy.variables["stack_domain"], *healthy.variables["nginx_extra_names"]]
    authority = Authority("Authority of the operator")
    certificate, key = authority.issue(*names)
    options = tmp_path / "options.json"
    given = {
        "nginx_tls_source": "files",
        "nginx_tls_certificate": certificate,
        "nginx_tls_private_key": key,
    }
    options.write_text(json.dumps(given), encoding="utf-8")
    own_authority = pathlib.Path(healthy.ca).read_text(encoding="utf-8")
    own = shown(healthy, own_authority)
    before = healthy.started()
    try:
        run = healthy.playbook("site.yml", "--diff", "--extra-vars", f"@{options}").check()
        assert shown(healthy, authority.certificate) == certificate
        trusted = tmp_path / "authority.pem"
        trusted.write_text(authority.certificate, encoding="utf-8")
        ready = requests.get(f"{healthy.https}/health/ready", verify=str(trusted), timeout=60)
        assert ready.status_code == 200
        middle = key.splitlines()[2]
        assert middle not in run.output
        held = f"grep -rlsF -- {middle} /etc /srv/vedfolnir /run /var/lib/vedfolnir; true"
        found = healthy.run(held).split()
        assert sorted(found) == HOLDERS
        readable = f"find {' '.join(found)} -perm /077"
        assert healthy.run(readable) == ""
        again = healthy.playbook("site.yml", "--check", "--extra-vars", f"@{options}").check()
        assert again.recap["changed"] == 0, again.output[-4000:]
    finally:
        healthy.playbook().check()
    assert shown(healthy, own_authority) == own
    after = healthy.started()
    # What looks at the site from outside reads at its start which authority it trusts.
    for started in (before, after):
        started.pop("blackbox-exporter", None)
    assert after == before
