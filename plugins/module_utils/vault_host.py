# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The host's program around Vault: start and unseal it at boot, keep it unsealed and certified.

Modules and the units ``vedfolnir-vault`` and ``vedfolnir-vault-keep`` run the same code; what it
works on is in ``/etc/vedfolnir/vault/settings.json``, which holds no secret.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_credential as credential
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_diagnosis as diagnosis
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_server as vault
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_setup as setup
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_tls import (
    Certificate,
    is_served,
)

SETTINGS = "/etc/vedfolnir/vault/settings.json"
DELIVERY = "/etc/vedfolnir/secrets/vault.json"
"""Is there once the services' secrets are in Vault; before, they start without it."""
LOCK = "/run/vedfolnir/vault.lock"
_REMIND_SECONDS = 300
_SEAL_SECONDS = 20
"""For which a server that unseals itself is waited for before that is said."""


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
    seal: str = ""
    """Type of the seal outside of this host, also of one that Vault is to be moved away from."""
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

    @property
    def seal_directory(self) -> str:
        """Where the server reads how its seal outside of this host is reached."""
        return os.path.join(self.directory, "seal")

    def forget_seal(self, check: bool = False) -> bool:
        """Remove what a seal needed that is not used any more."""
        if self.seal or not os.path.exists(self.seal_directory):
            return False
        if not check:
            shutil.rmtree(self.seal_directory)
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

    @contextlib.contextmanager
    def alone(self, wait: bool = True) -> t.Iterator[bool]:
        """Let one at a time stop and start the server; give whether this is the one."""
        os.makedirs(os.path.dirname(LOCK), mode=0o711, exist_ok=True)
        with open(LOCK, "w", encoding="utf-8") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
            else:
                yield True

    def start(self, recreate: bool = True) -> bool:
        """Start the container, in its present definition; return whether it had to be.

        Without ``recreate`` one that is there is started as it is.
        """
        options = [] if recreate else ["--no-recreate"]
        if recreate and self._seal_is_newer():
            options = ["--force-recreate"]
        said = self.compose("up", "--detach", "--no-build", *options, "vault")
        return any(word in said for word in (" Started", " Created", " Recreated"))

    def _seal_is_newer(self) -> bool:
        """Tell whether the server runs with another seal than is written: it reads it once."""
        try:
            names = os.listdir(self.seal_directory)
        except FileNotFoundError:
            return False
        written = [os.stat(os.path.join(self.seal_directory, name)).st_mtime for name in names]
        return 0 < diagnosis.started_at(self.project_src) < max(written, default=0)

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
        status = self._try(client, credential.unsealed(self.directory))
        if status.sealed:
            # A rekey was broken off just after its keys had come into force.
            for keys in credential.candidates(self.directory)[1:]:
                status = self._try(client, keys)
                if not status.sealed:
                    credential.promote(self.directory)
        if status.sealed:
            raise vault.VaultError(
                "sealed",
                "the keys that are sealed to this host do not unseal Vault (any more); run "
                "playbooks/unseal.yml with the operators' keys",
            )
        return status

    @staticmethod
    def _try(client: t.Any, keys: t.Sequence[str]) -> vault.Status:
        """Hand keys over; return the state, also when they are not the right ones."""
        try:
            return vault.unseal(client, keys)
        except vault.VaultError as exc:
            if exc.reason != "refused":
                raise
        return vault.status(client)


def answer(host: Host, client: t.Any) -> vault.Status | None:
    """Return the server's state, nothing of one that does not start until its seal answers.

    Raises:
        VaultError: when it does not start though nothing outside of this host is needed for it.
    """
    alone = host.unseal != "auto"
    try:
        return vault.wait_for_answer(client, setup.START_SECONDS if alone else _SEAL_SECONDS)
    except vault.VaultError as exc:
        if alone or exc.reason != "down":
            raise
        return None


def ready(host: Host, say: t.Callable[[str], None], pause: float = 2.0) -> None:
    """Return when Vault is unsealed and works: by itself where it can be, else after waiting.

    Raises:
        VaultError, CredentialError: when waiting does not help.
    """
    client = host.connect()
    status = answer(host, client)
    if status and not status.initialized:
        raise vault.VaultError("missing", "Vault is not initialised; run site.yml")
    if status and status.sealed and host.unseal == "sealed" and not status.migration:
        status = host.unseal_with_credential(client)
    reminded = float("-inf")
    while status is None or status.sealed:
        if time.monotonic() - reminded > _REMIND_SECONDS:
            say(waiting_for(status, host, "the stack starts after it"))
            reminded = time.monotonic()
        time.sleep(pause)
        status = answer(host, client)
    vault.wait_until_active(client, setup.ACTIVE_SECONDS)


def waiting_for(
    status: vault.Status | None, host: Host, stack: str = "what runs keeps running"
) -> str:
    """Return what a sealed Vault, or one that does not start, waits for, and what to do."""
    if status is None:
        return (
            f"Vault does not start and waits for its seal ({host.seal}) to answer; {stack}. "
            "`docker compose logs vault` says what is wrong with the seal"
        )
    if host.unseal == "auto" and not status.migration:
        return f"Vault is sealed and waits for its seal ({host.seal}) to answer; {stack}"
    what = " to be moved to another seal" if status.migration else ""
    return (
        f"Vault is sealed and waits for {status.threshold - status.progress} of "
        f"{status.threshold} keys{what}; {stack}. Operators: run playbooks/unseal.yml"
    )


def boot(host: Host, say: t.Callable[[str], None]) -> None:
    """Start Vault and return when it works, or at once while no service depends on it."""
    with host.alone():
        host.certificate.ensure()
        host.start()
    if not os.path.exists(DELIVERY):
        say("Vault does not have the secrets yet, nothing waits for it; run site.yml")
        return
    ready(host, say)
    say("Vault is unsealed and works")


def keep(host: Host, say: t.Callable[[str], None]) -> None:
    """Start a server that was stopped, unseal one that came back sealed, prove that it works.

    And renew its certificate in time.

    Raises:
        VaultError, CredentialError: when it does not work and this host cannot help it.
    """
    with host.alone(wait=False) as free:
        if not free:
            say("a run is setting up or restarting Vault, nothing was looked at")
            return
        _keep_running(host, say)
        client = host.connect()
        works = _keep_unsealed(host, client, say)
    if works and os.path.exists(DELIVERY):
        _prove(host, client)
    # Its storage finds some room in its own file for a while.
    if diagnosis.full_disks(host.project_src):
        raise vault.VaultError("refused", "Vault works as yet")


def _keep_running(host: Host, say: t.Callable[[str], None]) -> None:
    renewed = host.certificate.ensure()
    before = diagnosis.container_state(host.project_src)
    if host.start(recreate=False):
        was = f"was in the state {before}" if before else "was gone"
        say(f"the container of Vault {was} and was started")
    elif host.reload_stale():
        say("the server has read its new certificate")
    elif renewed:
        say("the certificate was renewed")


def _keep_unsealed(host: Host, client: t.Any, say: t.Callable[[str], None]) -> bool:
    """Unseal Vault if this host can; return whether it works."""
    status = answer(host, client)
    if status is None:
        raise vault.VaultError("down", waiting_for(status, host))
    if not status.initialized or not status.sealed:
        return status.initialized
    if host.unseal != "sealed" or status.migration:
        say(waiting_for(status, host))
        return False
    host.unseal_with_credential(client)
    vault.wait_until_active(client, setup.ACTIVE_SECONDS)
    say("Vault had come back sealed and was unsealed")
    return True


def _prove(host: Host, client: t.Any) -> None:
    """Log in, which Vault writes to its audit log and its data, and give the token back.

    Raises:
        VaultError: when it cannot: an unsealed server that refuses everything.
    """
    vault.login(client, setup.credentials_path(host.directory))
    vault.ask(client, "post", "auth/token/revoke-self", what="log out")


def main(argv: t.Sequence[str]) -> int:
    """Run ``boot`` or ``keep``."""

    def say(text: str) -> None:
        sys.stdout.write(f"vedfolnir vault: {text}\n")
        sys.stdout.flush()

    try:
        host = Host.read()
        with diagnosis.explained(host.project_src):
            {"boot": boot, "keep": keep}[argv[0]](host, say)
    except (OSError, ValueError, vault.VaultError, credential.CredentialError) as exc:
        say(str(exc))
        return int(argv[0] != "boot" or os.path.exists(DELIVERY))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
