"""Nothing of Vault's where it can be read: values, the host's secret id, unseal keys, tokens."""

from __future__ import annotations

import re

import pytest
from find_secrets import TOKEN, needles
from lab import Lab, secret_values
from test_leaks import scan
from vaulted import RUNTIME, ask, deploy, values

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

pytestmark = pytest.mark.usefixtures("moved")


@pytest.fixture(scope="module")
def known(lab: Lab) -> dict[str, str]:
    """What must not be found: every value and what opens Vault."""
    keys = dict(ask(lab, _KEYS))
    assert len(keys) >= 3
    found = secret_values(values(lab))
    assert len(found) >= 12
    return found | keys


def test_tokens_have_the_form_that_is_searched_for(lab: Lab) -> None:
    token = ask(lab, _HOLD_A_TOKEN)
    assert TOKEN.fullmatch(token.encode())
    assert not TOKEN.search(b"settings.verify s.AccessorOfSomethingLonger0x vedfolnir.stack")


def test_a_planted_token_is_found(lab: Lab) -> None:
    token = ask(lab, _HOLD_A_TOKEN)
    lab.run("cat > /srv/vedfolnir/planted && chmod 0644 /srv/vedfolnir/planted", stdin=token)
    try:
        found = scan(lab, {"none": "x" * 40}, "--without-images --tokens")
    finally:
        lab.run("rm /srv/vedfolnir/planted")
    assert found == ["/srv/vedfolnir/planted: a token of Vault"]


def test_nothing_on_the_host(lab: Lab, known: dict[str, str]) -> None:
    """Journal, inspect, arguments, environments, files that everybody may read."""
    assert [line for line in scan(lab, known, "--without-images --tokens") if line] == []


def test_nothing_in_the_output_of_a_delivery(lab: Lab, known: dict[str, str]) -> None:
    """At -vvv with --diff, in a run in which every agent works."""
    lab.run(f"find {RUNTIME} -type f -delete")
    run = deploy(lab, "-vvv", "--diff").check()
    said = run.output.encode()
    assert [name for name, value in needles(known).items() if value in said] == []
    assert [match[:6] for match in TOKEN.findall(said)] == []
    assert re.search(r"changed_files|censored", run.output), "the run was not verbose"
