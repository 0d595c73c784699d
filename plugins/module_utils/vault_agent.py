# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a consumer's agent is made of: its templates, its configuration, its Compose service.

An agent logs in, renders its consumer's files and ends. Nothing of it is left on the host.
"""

from __future__ import annotations

import json
import re
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import secrets as provider
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_access import role_name

STATE = "/run/agent"
"""Where an agent finds its configuration, the CA and what it logs in with."""
OUTPUT = "/run/rendered"
"""Where an agent writes its consumer's files."""
FILTERS: dict[str | None, str] = {
    None: "",
    "sha256": " | sha256Hex",
    "sql": r""" | replaceAll "\\" "\\\\" | replaceAll "'" "''" """.rstrip(),
    "cnf": r""" | replaceAll "\\" "\\\\" | replaceAll "\"" "\\\"" """.rstrip(),
}
"""The filters of placeholders in the language of the agents' templates."""
BINARIES = {"openbao": "bao", "vault": "vault"}


def agent_template(template: str, mount: str) -> str:
    """Translate a consumer's template into that of an agent; both render to the same text.

    Raises:
        SecretError: for a filter that is not there.
    """
    parts: list[str] = []
    end = 0
    for match in provider.PLACEHOLDER.finditer(template):
        parts += [_literal(template[end : match.start()]), _placeholder(match, mount)]
        end = match.end()
    return "".join([*parts, _literal(template[end:])])


def _literal(text: str) -> str:
    return text.replace("{{", '{{ "{{" }}')


def _placeholder(match: re.Match[str], mount: str) -> str:
    if match["escaped"]:
        return "$"
    if match["filter"] not in FILTERS:
        raise provider.SecretError(
            f"there is no filter {match['filter']!r}; there are sha256, sql and cnf"
        )
    field = f".Data.data.{match['part'] or 'value'}{FILTERS[match['filter']]}"
    return f'{{{{ with secret "{mount}/data/{match["name"]}" }}}}{{{{ {field} }}}}{{{{ end }}}}'


def agent_config(consumer: str, spec: t.Mapping[str, t.Any], address: str, mount: str) -> str:
    """Return the configuration of a consumer's agent, which ends after it has rendered once.

    It can have text in it that the operator keeps secret (a private key of the site that is
    given as a file), therefore it is kept like a secret.
    """
    role = role_name(consumer)
    method = {
        "type": "approle",
        "mount_path": "auth/approle",
        "config": {
            "role_id_file_path": f"{STATE}/role_id",
            "secret_id_file_path": f"{STATE}/secret_id",
            "secret_id_response_wrapping_path": f"auth/approle/role/{role}/secret-id",
            "remove_secret_id_file_after_reading": True,
        },
    }
    config = {
        "vault": {"address": address, "ca_cert": f"{STATE}/ca.pem", "retry": {"num_retries": 3}},
        "auto_auth": {"method": [method]},
        "exit_after_auth": True,
        "template_config": {"exit_on_retry_failure": True},
        "template": [
            {
                "contents": agent_template(template, mount),
                "destination": f"{OUTPUT}/{name}",
                "perms": "0400",
                "create_dest_dirs": False,
                "error_on_missing_key": True,
            }
            for name, template in sorted(spec["files"].items())
        ],
    }
    return json.dumps(config, indent=2, sort_keys=True) + "\n"


def service_name(consumer: str) -> str:
    """Return the Compose service of a consumer's agent."""
    return f"agent-{consumer}"


def agent_services(
    files: t.Mapping[str, t.Any],
    image: str,
    distribution: str,
    secrets_root: str,
    agents_root: str,
) -> dict[str, t.Any]:
    """Return the service dictionaries of all agents, see docs/add-a-service.md.

    Each runs as its consumer's user and sees its own two directories of the tmpfs, no other's.
    """
    return {
        service_name(consumer): {
            "image": image,
            "job": True,
            "user": str(spec["owner"]),
            "entrypoint": [BINARIES[distribution]],
            "command": ["agent", f"-config={STATE}/agent.json"],
            "networks": ["internal"],
            "volumes": [
                {"source": f"{agents_root}/{consumer}", "target": STATE},
                {"source": f"{secrets_root}/{consumer}", "target": OUTPUT},
            ],
            "tmpfs": ["/tmp"],  # noqa: S108
            "limits": {"memory": "256m", "cpus": 1, "pids": 50},
        }
        for consumer, spec in sorted(files.items())
    }
