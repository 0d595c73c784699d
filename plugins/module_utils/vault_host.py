# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The host's program around Vault: start and unseal it at boot, keep it unsealed and certified.

Modules and the units ``vedfolnir-vault`` and ``vedfolnir-vault-keep`` run the same code; what it
works on is in ``/etc/vedfolnir/vault/settings.json``, which holds no secret.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_credential as credential
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_server as vault
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_setup as setup
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_tls import (
    Certificate,
    is_served,
)

SETTINGS = "/etc/vedfolnir/vault/settings.json"
DELIVERY = "/etc/vedfolnir/secrets/vault.json"
"""Is there once the services' secrets are in Vault; before, they start without it."""
_REMIND_SECONDS = 300


@dataclasses.dataclass(frozen=True)
class Host:
    """Vault as this host runs it."""

    address: str
    directory: str
    project_src: str
    unseal: setup.Unseal
    names: t.Sequence[str]
    uid: int
    gid: int
    port: int = vault.URL_PORT

    @classmethod
    def read(cls, path: str = SETTINGS) -> Host:
        """Return the settings in a file."""
        with open(path, encoding="utf-8") as handle:
            return cls(**json.load(handle))

    @property
    def url(self) -> str:
        """Where Vault is reached from this host."""
        return f"https://{self.address}:{self.port}"

    @property
    def ca(self) -> str:
        """The authority that Vault's certificate must be from."""
        return os.path.join(self.directory, "ca.pem")

    @property
    def certificate(self) -> Certificate:
        """Vault's certificate."""
        return Certificate(self.directory, self.names, self.uid, self.gid)

    def connect(self) -> t.Any:
        """Return a client."""
        return vault.connect(self.url, self.ca)

    @property
    def has_keys(self) -> bool:
        """Tell whether keys are sealed to this host."""
        return os.path.exists(credential.path(self.directory))

    def forget_keys(self, check: bool = False) -> bool:
        """Remove keys that are sealed to this host and should not be (any more)."""
        if self.unseal == "sealed" or not self.has_keys:
            return False
        if not check:
            os.unlink(credential.path(self.directory))
        return True

    def compose(self, *arguments: str) -> str:
        """Run Compose on the fragment of Vault alone and return what it says.

        Raises:
            VaultError: with the last line of what it said.
        """
        files = ["-f", "compose.yml", "-f", "compose.d/vault.yml"]
        result = subprocess.run(
            ["/usr/bin/docker", "compose", *files, *arguments],
            cwd=self.project_src,
            env={**os.environ, "COMPOSE_IGNORE_ORPHANS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            last = (result.stdout.strip().splitlines() or ["(nothing said)"])[-1]
            raise vault.VaultError("down", f"docker compose {arguments[0]} vault: {last}")
        return result.stdout

    def start(self) -> bool:
        """Start the container, in its present definition; return whether it had to be."""
        said = self.compose("up", "--detach", "--no-build", "vault")
        return any(word in said for word in (" Started", " Created", " Recreated"))

    def stop(self) -> None:
        """Stop the container."""
        self.compose("stop", "vault")

    def reload_stale(self, check: bool = False) -> bool:
        """Let the server read its certificate again if it presents an older one."""
        if is_served(self.address, self.port, self.certificate.served):
            return False
        if not check:
            self.compose("kill", "--signal", "HUP", "vault")
        return True

    def unseal_with_credential(self, client: t.Any) -> vault.Status:
        """Unseal Vault with the keys that are sealed to this host.

        Raises:
            VaultError, CredentialError: when that does not work.
        """
        status = vault.unseal(client, credential.unsealed(self.directory))
        if status.sealed:
            raise vault.VaultError(
                "sealed",
                "the keys that are sealed to this host do not unseal Vault (any more); run "
                "playbooks/unseal.yml with the operators' keys",
            )
        return status


def ready(host: Host, say: t.Callable[[str], None], pause: float = 2.0) -> None:
    """Return when Vault is unsealed and works: by itself where it can be, else after waiting.

    Raises:
        VaultError, CredentialError: when waiting does not help.
    """
    client = host.connect()
    status = vault.wait_for_answer(client, setup.START_SECONDS)
    if not status.initialized:
        raise vault.VaultError("missing", "Vault is not initialised; run site.yml")
    if status.sealed and host.unseal == "sealed":
        status = host.unseal_with_credential(client)
    reminded = float("-inf")
    while status.sealed:
        if time.monotonic() - reminded > _REMIND_SECONDS:
            say(waiting_for(status, host))
            reminded = time.monotonic()
        time.sleep(pause)
        status = vault.wait_for_answer(client, setup.START_SECONDS)
    vault.wait_until_active(client, setup.ACTIVE_SECONDS)


def waiting_for(status: vault.Status, host: Host) -> str:
    """Return what a sealed Vault waits for, and what to do."""
    if host.unseal == "auto":
        return f"Vault is sealed and waits for its seal ({status.kind}) to answer"
    return (
        f"Vault is sealed and waits for {status.threshold - status.progress} of "
        f"{status.threshold} keys; the stack starts after it. Operators: run playbooks/unseal.yml"
    )


def boot(host: Host, say: t.Callable[[str], None]) -> None:
    """Start Vault and return when it works, or at once while no service depends on it."""
    host.certificate.ensure()
    host.start()
    if not os.path.exists(DELIVERY):
        say("Vault does not have the secrets yet, nothing waits for it; run site.yml")
        return
    ready(host, say)
    say("Vault is unsealed and works")


def keep(host: Host, say: t.Callable[[str], None]) -> None:
    """Renew the certificate in time, and unseal a server that came back sealed."""
    renewed = host.certificate.ensure()
    if host.reload_stale():
        say("the server has read its new certificate")
    elif renewed:
        say("the certificate was renewed")
    if host.unseal != "sealed":
        return
    client = host.connect()
    if vault.status(client).sealed:
        host.unseal_with_credential(client)
        say("Vault had come back sealed and was unsealed")


def main(argv: t.Sequence[str]) -> int:
    """Run ``boot`` or ``keep``."""

    def say(text: str) -> None:
        sys.stdout.write(f"vedfolnir vault: {text}\n")
        sys.stdout.flush()

    try:
        {"boot": boot, "keep": keep}[argv[0]](Host.read(), say)
    except (OSError, ValueError, vault.VaultError, credential.CredentialError) as exc:
        say(str(exc))
        return int(argv[0] != "boot" or os.path.exists(DELIVERY))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
