"""No secret anywhere it can be read; the list of exceptions is empty.

Secrets are every value of the manifest, and what opens Vault: its unseal keys, the host's secret
id, and whatever has the form of a token.
"""

from __future__ import annotations

import gzip
import io
import json
import pathlib
import re
import secrets as random
import typing as t

import pytest
from find_secrets import has_token, needles, search_member
from lab import RUNTIME, Lab
from watch_processes import watching

SCANNER = pathlib.Path(__file__).with_name("find_secrets.py")
PLACES = (
    *("journal", "docker inspect", "image layers", "arguments", "environment"),
    *("/usr/share/planted", "/dev/shm/planted"),
)
TOKEN = "/usr/share/planted-token"
# The image is nothing but a layer with a file that only its owner may read.
PLANT = """set -e
for path in /usr/share/planted /dev/shm/planted; do : > $path; chmod 0644 $path; done
echo '{/usr/share/planted}' > /usr/share/planted
echo '{/dev/shm/planted}' > /dev/shm/planted
logger '{journal}'
cd "$(mktemp -d)"
(umask 077; echo '{image layers}' > planted)
tar --create planted | docker import - planted:test
rm -r "$PWD"
docker create --name planted --env 'PLANTED={docker inspect}' planted:test /planted
exec </dev/null >/dev/null 2>&1
(exec -a '{arguments}' sleep 600) & echo $! > /run/planted
(PLANTED='{environment}' exec sleep 600) & echo $! >> /run/planted
"""
_KEYS = """
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_credential
with open(settings.credentials_file) as handle:
    found = {"the host's secret id": json.load(handle)["secret_id"]}
for number, share in enumerate(vault_credential.unsealed("/etc/vedfolnir/vault")):
    found[f"unseal key {number}"] = share
print(json.dumps(found))
"""
_HOLD_A_TOKEN = """
with vault_deliver.session(settings) as api:
    print(json.dumps(api._client.token))
"""
UPROOT = """kill $(cat /run/planted)
rm -f /usr/share/planted /dev/shm/planted /run/planted
docker rm planted; docker image rm planted:test"""


def scan(lab: Lab, secrets: dict[str, str]) -> list[str]:
    """Run the scanner on the host; the values travel on standard input."""
    script = "/root/find_secrets.py"
    lab.run(f"cat > {script} && chmod 0600 {script}", stdin=SCANNER.read_text("utf-8"))
    try:
        output = lab.run(f"python3 {script}", stdin=json.dumps(secrets), timeout=900)
        return output.split("\n")[:-1]
    finally:
        lab.run(f"rm -f {script}")


@pytest.fixture(scope="module")
def secrets(lab: Lab) -> dict[str, str]:
    """Every secret, enough of them that the test is worth something, no two alike."""
    values, keys = lab.secrets(), dict(lab.ask_vault(_KEYS))
    assert len(values) >= 12
    assert len(keys) >= 3
    found = values | keys
    assert len(set(found.values())) == len(found)
    return found


@pytest.fixture
def planted(lab: Lab) -> t.Iterator[dict[str, str]]:
    """A value of its own in every kind of place, by the place's name in a find."""
    value = {place: f"planted-{random.token_hex(20)}" for place in PLACES}
    token = lab.ask_vault(_HOLD_A_TOKEN)
    try:
        lab.run(PLANT.format_map(value))
        lab.run(f"cat > {TOKEN} && chmod 0644 {TOKEN}", stdin=token)
        yield value
    finally:
        lab.run(f"rm -f {TOKEN}; {UPROOT}; journalctl --rotate --quiet; journalctl --sync")


def test_the_scanner_finds_what_is_planted(lab: Lab, planted: dict[str, str]) -> None:
    """Else the next test would prove nothing; each value is in its place and in no other."""
    found = [re.sub(r" of process \d+", "", line) for line in scan(lab, planted)]
    expected = [*(f"{place}: {place}" for place in PLACES), f"{TOKEN}: a token of Vault"]
    assert sorted(set(found) - {""}) == sorted(expected)


@pytest.mark.parametrize(
    "text",
    [
        b"settings.verify",
        b"s.AccessorOfSomethingLonger0x",
        b"vedfolnir.stack.s",
        b"is.A1b2C3d4E5f6G7h8I9j0K1l2",
    ],
)
def test_what_is_no_token_is_not_taken_for_one(text: bytes) -> None:
    assert not has_token(text)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_layer_is_read_as_the_engine_wrote_it(pack: t.Callable[[bytes], bytes]) -> None:
    layer = io.BytesIO(pack(b"x" * 9_000_000 + b"planted"))
    assert search_member(layer, {"it": b"planted"}) == {"image layers: it"}


def test_no_secret_on_the_host(lab: Lab, secrets: dict[str, str]) -> None:
    """Journal, docker inspect, process arguments, image layers, files that everybody may read."""
    assert [line for line in scan(lab, secrets) if line] == []


def test_no_secret_while_ansible_works(lab: Lab, secrets: dict[str, str]) -> None:
    """In what it prints at -vvv with --diff, and in the arguments of the host's processes.

    The run replaces a service, gets a value from the operator and lets every agent of Vault
    deliver; tests/stack/fresh has the first run of all.
    """
    lab.run(f"find {RUNTIME} -type f -delete")
    given = {"stack_secrets_given": {"app_admin_password": secrets["app_admin_password"]}}
    with watching(lab) as seen:
        run = lab.playbook(
            "site.yml",
            "-vvv",
            "--diff",
            variables={**given, "redis_maxmemory_percent": 55},
        )
    run.check()
    lab.playbook("site.yml").check()
    wanted = {name: value.decode() for name, value in needles(secrets).items()}
    # The test itself hands the value over on the command line, which Ansible echoes only at -vvvv.
    assert [name for name, value in wanted.items() if value in run.output] == []
    assert not has_token(run.output.encode())
    assert [name for name, value in wanted.items() if any(value in line for line in seen)] == []
    assert not has_token("\n".join(seen).encode())
