# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who may read what in Vault: per consumer a policy that names its paths, and an AppRole with it.

The policies follow from the consumers' files. The first functions are pure; ``converge_access``
brings Vault into their state.
"""

from __future__ import annotations

import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import secrets as provider
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_kv import Caller

PREFIX = "vedfolnir-agent-"
"""Of the names of consumers' policies and AppRoles; what begins so and is not wanted is removed."""
TOKEN_SECONDS = 300
"""Life of an agent's token. An agent reads its secrets and ends within seconds."""
POLICIES = "sys/policies/acl"
ROLES = "auth/approle/role"


def role_name(consumer: str) -> str:
    """Return the name of a consumer's policy and AppRole."""
    return PREFIX + consumer


def secrets_of(spec: t.Mapping[str, t.Any]) -> list[str]:
    """Return the names of the secrets that a consumer's files mention."""
    return sorted(
        {
            match["name"]
            for template in spec["files"].values()
            for match in provider.PLACEHOLDER.finditer(template)
            if match["name"]
        }
    )


def policy_text(mount: str, names: t.Sequence[str]) -> str:
    """Return the policy that lets its bearer read these secrets and nothing else."""
    return "".join(
        f'path "{mount}/data/{name}" {{\n  capabilities = ["read"]\n}}\n' for name in names
    )


def role_settings(name: str, cidrs: t.Sequence[str]) -> dict[str, t.Any]:
    """Return the settings of a consumer's AppRole.

    A secret id serves once, soon, and from the stack's own network; so does the token.
    """
    return {
        "bind_secret_id": True,
        "secret_id_bound_cidrs": list(cidrs),
        "secret_id_num_uses": 1,
        "secret_id_ttl": TOKEN_SECONDS,
        "token_bound_cidrs": list(cidrs),
        "token_explicit_max_ttl": TOKEN_SECONDS,
        "token_max_ttl": TOKEN_SECONDS,
        "token_no_default_policy": True,
        "token_policies": [name],
        "token_ttl": TOKEN_SECONDS,
    }


def differs(present: t.Mapping[str, t.Any] | None, wanted: t.Mapping[str, t.Any]) -> bool:
    """Tell whether one of the wanted settings is not the present one."""
    return present is None or any(
        _comparable(present.get(key)) != _comparable(value) for key, value in wanted.items()
    )


def _comparable(value: t.Any) -> t.Any:
    """Return a setting as it can be compared: lists are sets, and none is an empty one."""
    if isinstance(value, (list, tuple)) or value is None:
        return sorted(str(entry) for entry in value or [])
    return value


def converge_access(
    api: Caller,
    mount: str,
    files: t.Mapping[str, t.Any],
    cidrs: t.Sequence[str],
    check: bool = False,
) -> list[str]:
    """Bring policies and AppRoles into the state that the consumers' files ask for.

    Returns:
        What changed (``check``: would change), as paths.
    """
    wanted = {role_name(consumer): secrets_of(spec) for consumer, spec in files.items()}
    changed: list[str] = []
    for name, names in sorted(wanted.items()):
        text = policy_text(mount, names)
        path = f"{POLICIES}/{name}"
        if _data(api, path).get("policy", "").strip() != text.strip():
            changed.append(path)
            if not check:
                api.call("PUT", path, {"policy": text})
        settings = role_settings(name, cidrs)
        path = f"{ROLES}/{name}"
        if differs(_data(api, path) or None, settings):
            changed.append(path)
            if not check:
                api.call("POST", path, settings)
    # The AppRole first: a role that outlives its policy gives nothing, the reverse is no harm.
    for base in (ROLES, POLICIES):
        for name in _stale(api, base, wanted):
            changed.append(f"{base}/{name}")
            if not check:
                api.call("DELETE", f"{base}/{name}")
    return changed


def _data(api: Caller, path: str) -> dict[str, t.Any]:
    return dict((api.call("GET", path) or {}).get("data") or {})


def _stale(api: Caller, base: str, wanted: t.Collection[str]) -> list[str]:
    listed = (api.call("LIST", base) or {}).get("data") or {}
    names = {str(name) for name in listed.get("keys") or [] if str(name).startswith(PREFIX)}
    return sorted(names - set(wanted))
