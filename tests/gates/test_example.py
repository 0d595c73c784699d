"""The example inventory is what an operator copies.

It passes preflight but for what must be filled in, and shows true defaults.
"""

from __future__ import annotations

import json
import re
import typing as t
from pathlib import Path

import gate_repo
import pytest
import test_specs

EXAMPLE = Path("inventories/example")
MAIN = EXAMPLE / "group_vars" / "all" / "main.yml"
# A commented line that is YAML: an option, or what belongs to the option above it.
_OPTION = re.compile(r"^# (?=[a-z_]+: [^|]|[a-z_]+:$|  - \{)")
HOST = {
    "distribution": "Debian",
    "distribution_major_version": "13",
    "distribution_version": "13.2",
    "vedfolnir_host": {
        "addresses": [],
        "memory_mb": 32768,
        "disk_free_mb": 200000,
        "listeners": [],
    },
}


Preflight = t.Callable[..., tuple[int, str]]


def uncommented() -> dict[str, t.Any]:
    """Return the example with every option that it only mentions."""
    lines = (gate_repo.text(MAIN) or "").splitlines()
    shown = [_OPTION.sub("", line) for line in lines if _OPTION.match(line)]
    found: dict[str, t.Any] = gate_repo.load_text("\n".join(shown))
    return found


@pytest.fixture
def preflight(tmp_path: Path) -> Preflight:
    """Run the preflight as an operator would, on a host that is large enough."""
    play = {
        "hosts": "vedfolnir",
        "gather_facts": False,
        "tasks": [{"name": "Check", "vedfolnir.stack.preflight": {"roles": test_specs.ROLES}}],
    }
    playbook = tmp_path / "preflight.yml"
    playbook.write_text(json.dumps([play]))

    def run(**extra: t.Any) -> tuple[int, str]:
        values = json.dumps({"ansible_facts": HOST, **extra})
        argv = ("ansible-playbook", "-i", str(EXAMPLE), str(playbook), "--extra-vars", values)
        done = gate_repo.run(*argv)
        return done.returncode, done.stdout

    return run


def test_ansible_reads_it() -> None:
    said = gate_repo.must_pass("ansible-inventory", "-i", str(EXAMPLE), "--list")
    hosts = json.loads(said[said.index("{") :])["_meta"]["hostvars"]
    assert [variables["stack_domain"] for variables in hosts.values()] == ["captions.example.org"]


OPERATORS = {"vault_operators": [{"name": "alice", "passphrase": "Hg7_tQ9wLpZ2x-k4"}]}
"""What the example leaves to the operator."""


def test_preflight_finds_nothing(preflight: Preflight) -> None:
    code, said = preflight(**OPERATORS)
    assert code == 0, said


def test_preflight_asks_for_what_must_be_filled_in(preflight: Preflight) -> None:
    code, said = preflight()
    assert code != 0
    assert "1 problem for vedfolnir-1" in said
    assert "1. vault_operators is empty" in said


def test_preflight_would_find_a_slip(preflight: Preflight) -> None:
    code, said = preflight(stack_domian="x.example.org", mysql_memory_mb=90000, **OPERATORS)
    assert code != 0
    assert "2 problems for vedfolnir-1" in said
    assert "did you mean stack_domain?" in said


def test_what_is_commented_out_can_be_used(preflight: Preflight) -> None:
    given = {"stack_secrets_given": {"app_mail_password": "k4-Hg7_tQ9wLpZ2x"}}
    code, said = preflight(**uncommented() | OPERATORS | given)
    assert code == 0, said


def test_every_option_that_is_mentioned_exists() -> None:
    known = {name for role in test_specs.ROLES for name in test_specs.options(role)}
    mentioned = uncommented()
    assert len(mentioned) > 20
    assert sorted(set(mentioned) - known) == []


# Shown as an example, and the text beside it says so.
EXAMPLES = {
    "app_mail_sender",
    "app_mail_server",
    "app_mail_username",
    "backup_repository",
    "backup_ssh_known_hosts",
    "docker_host_ca_certificates",
    "docker_host_firewall_allow",
    "docker_host_image_archives",
    "docker_host_unattended_upgrades_reboot_time",
    "observability_email_server",
    "observability_email_to",
    "ollama_managed",
    "ollama_url",
    "vault_operators",
}


def test_the_others_show_the_default() -> None:
    defaults = {
        n: v for role in test_specs.ROLES for n, v in gate_repo.role_main(role, "defaults").items()
    }
    mentioned = uncommented()
    wrong = {name for name, value in mentioned.items() if value != defaults.get(name)}
    assert wrong == EXAMPLES
