# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take a snapshot of Vault before it is run from another image.

A snapshot is encrypted as the data is: it can be read with the keys of its time and no others.
"""

from __future__ import annotations

import datetime
import os
import re
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_server as vault
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_setup as setup
from ansible_collections.vedfolnir.stack.plugins.module_utils.files import write_atomic
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_diagnosis import (
    container_state,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_host import Host

KEPT = 3
"""Snapshots that are kept, the newest."""
_SECONDS = 120


def directory(host: Host) -> str:
    """Return where the snapshots are."""
    return os.path.join(host.directory, "snapshots")


def images(host: Host) -> tuple[str, str]:
    """Return the image that Vault's container was made from, empty without one, and the wanted."""
    wanted = host.compose("config", "--images", "vault").split()
    return container_state(host.project_src, "Image"), (wanted or [""])[0]


def before_upgrade(host: Host) -> str:
    """Write a snapshot if the next start changes the image; return its path, or nothing.

    Raises:
        VaultError: when it cannot be taken.
    """
    present, wanted = images(host)
    if not present or present == wanted or not os.path.exists(_credentials(host)):
        return ""
    client = host.connect()
    vault.login(client, _credentials(host))
    content = snapshot(client)
    vault.ask(client, "post", "auth/token/revoke-self", what="log out")
    moment = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", present.rpartition("/")[2])
    os.makedirs(directory(host), mode=0o700, exist_ok=True)
    path = os.path.join(directory(host), f"{moment}-{name}.snap")
    write_atomic(path, content, uid=0, gid=0, mode=0o400)
    for old in sorted(os.listdir(directory(host)))[:-KEPT]:
        os.unlink(os.path.join(directory(host), old))
    return path


def snapshot(client: t.Any) -> bytes:
    """Return a snapshot of all of Vault's data.

    Raises:
        VaultError: when Vault does not give it.
    """
    with vault.asking("take a snapshot"):
        answer = client.session.get(
            f"{client.url}/v1/sys/storage/raft/snapshot",
            headers={"X-Vault-Token": client.token},
            timeout=_SECONDS,
        )
    if answer.status_code != 200 or not answer.content:
        raise vault.VaultError("refused", f"take a snapshot: Vault answers {answer.status_code}")
    return bytes(answer.content)


def _credentials(host: Host) -> str:
    return setup.credentials_path(host.directory)
