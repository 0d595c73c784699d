# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep the secrets in Vault: adopt, make, allow, deliver.

Each step can be repeated, and what comes later in the order relies on what is before it: a run
that was killed anywhere is completed by the next.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import secrets as provider
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_access as access
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_deliver as delivery
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_kv as kv

file_moment = kv.file_moment


@dataclasses.dataclass
class Result:
    """What was (or would be) done, and all values."""

    store: dict[str, t.Any]
    generated: list[str]
    moved: list[str]
    access: list[str]
    files: list[str]


def settings_of(options: t.Mapping[str, t.Any], runtime_directory: str) -> delivery.Settings:
    """Return the settings of the delivery from the module's option ``vault``."""
    own = {field.name for field in dataclasses.fields(delivery.Settings)}
    given = {name: value for name, value in options.items() if name in own}
    given["compose_files"] = tuple(options["compose_files"])
    return delivery.Settings(**given, runtime_directory=runtime_directory)


def marker(store: t.Mapping[str, t.Any]) -> dict[str, list[str]]:
    """Return what the host keeps: which names Vault must have from now on."""
    return {provider.VAULT_MARKER: sorted(store)}


def converge(
    settings: delivery.Settings,
    manifest: t.Sequence[t.Mapping[str, t.Any]],
    files: t.Mapping[str, t.Any],
    given: t.Mapping[str, str],
    local: t.Mapping[str, t.Any],
    *,
    made_at: str,
    cidrs: t.Sequence[str],
    check: bool = False,
) -> Result:
    """Bring Vault and the consumers' files into the state of the manifest.

    Args:
        settings: Where Vault and the files are.
        manifest: The secrets.
        files: The consumers' templates.
        given: Values that the operator brings along.
        local: What the host keeps: the marker, or values that Vault takes over.
        made_at: When those values were made, at the latest.
        cidrs: Subnets that agents may log in from.
        check: Only predict.

    Raises:
        VaultError: when Vault is down or sealed, refuses, or lacks what it once had.
        SecretError: for a manifest or values that cannot be used.
    """
    with delivery.session(settings) as api:
        documents = kv.read_documents(api, settings.mount)
        values, moved = kv.merged(local, documents)
        store, generated = provider.converge_store(values, manifest, given)
        contents = provider.rendered_files(files, store)
        if not check:
            times = dict.fromkeys(set(moved) - set(generated), made_at)
            kv.write_documents(api, settings.mount, manifest, store, documents, times)
        allowed = access.converge_access(api, settings.mount, files, cidrs, check)
        # Before the local values go, every agent must have shown that the boot can rely on it.
        prove = provider.VAULT_MARKER not in local
        rendered = delivery.deliver(api, settings, files, contents, check, prove)
    return Result(store, generated, moved, allowed, rendered)
