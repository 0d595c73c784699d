"""No secret of the manifest anywhere it can be read; the list of exceptions is empty."""

from __future__ import annotations

import json
import pathlib

import pytest
from find_secrets import needles
from lab import Lab

SCANNER = pathlib.Path(__file__).with_name("find_secrets.py")


def scan(lab: Lab, secrets: dict[str, str], options: str = "") -> list[str]:
    """Run the scanner on the host; the values travel on standard input."""
    script = "/root/find_secrets.py"
    lab.run(f"cat > {script} && chmod 0600 {script}", stdin=SCANNER.read_text("utf-8"))
    try:
        output = lab.run(f"python3 {script} {options}", stdin=json.dumps(secrets), timeout=900)
        return output.split("\n")[:-1]
    finally:
        lab.run(f"rm -f {script}")


@pytest.fixture(scope="module")
def secrets(lab: Lab) -> dict[str, str]:
    """Every value, enough of them that the test is worth something, no two alike."""
    values = {name: value for name, value in lab.secrets().items() if not name.startswith("__")}
    assert len(values) >= 12
    assert len(set(values.values())) == len(values)
    return values


def test_no_secret_on_the_host(lab: Lab, secrets: dict[str, str]) -> None:
    """Journal, docker inspect, process arguments, image layers, files that everybody may read."""
    assert [line for line in scan(lab, secrets) if line] == []


def test_the_scanner_finds_what_is_planted(lab: Lab) -> None:
    """Else the test above would prove nothing: the same scanner, a value in three places."""
    value = "planted-" + "x3F9" * 8
    lab.run(
        f"echo {value} > /srv/vedfolnir/planted; chmod 0644 /srv/vedfolnir/planted; "
        f"logger {value}; (exec -a {value} sleep 60 </dev/null >/dev/null 2>&1 &)",
    )
    try:
        found = scan(lab, {"planted": value}, "--without-images")
    finally:
        lab.run("rm -f /srv/vedfolnir/planted; journalctl --rotate --quiet; journalctl --sync")
    places = {line.split(" ")[0].rstrip(":") for line in found}
    assert {"journal", "arguments", "/srv/vedfolnir/planted"} <= places


def test_no_secret_in_the_output_of_ansible(lab: Lab, secrets: dict[str, str]) -> None:
    """At -vvv with --diff, in a run that replaces a service and gets a value from the operator."""
    given = {"stack_secrets_given": {"app_admin_password": secrets["app_admin_password"]}}
    run = lab.playbook(
        "site.yml",
        "-vvv",
        "--diff",
        variables={**given, "redis_maxmemory_percent": 55},
    ).check()
    lab.playbook("site.yml").check()
    # The test itself hands the value over on the command line, which Ansible echoes only at -vvvv.
    assert [name for name, value in needles(secrets).items() if value.decode() in run.output] == []
