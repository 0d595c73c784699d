"""A second Vault beside the lab host, whose transit engine unseals the stack's: the real OpenBao.

It stands for the company's own Vault or a cloud's key service, reached by name over TLS.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import secrets as provider
from lab import Lab, wait_until

_POLICY = """
path "transit/encrypt/vedfolnir" { capabilities = ["update"] }
path "transit/decrypt/vedfolnir" { capabilities = ["update"] }
"""
_CONFIG = "/openbao/config"
_PAIR = {"cert": "pem", "key": "key"}
_CLIENT = {"BAO_ADDR": "https://127.0.0.1:8200", "BAO_CACERT": f"{_CONFIG}/ca.pem"}


class SecondVault:
    """The server, for a ``with`` statement; it can go away and come back."""

    def __init__(self, lab: Lab) -> None:
        """Name it after the host, so that hosts can have one each."""
        self.name = f"{lab.name}-seal"
        self.image = lab.inspect()["vault"]["Config"]["Image"]
        self.network = lab.variables["lab_network"]
        self._key, self._root = "", ""
        authority = provider.make_ca("The lab's second Vault")
        self.ca = authority["certificate"]
        self._leaf = provider.make_leaf(authority, [self.name, "localhost", "127.0.0.1"])
        self.token = ""

    def __enter__(self) -> SecondVault:
        """Make it, set it up, and give out a token that may use its key and nothing else."""
        self._docker("rm", "--force", "--volumes", self.name)
        environment = [f"--env={name}={value}" for name, value in _CLIENT.items()]
        where = ["--name", self.name, "--network", self.network]
        self._docker("create", *where, *environment, self.image, "server")
        self._docker("cp", "-", f"{self.name}:{_CONFIG}", stdin=self._config())
        self._docker("start", self.name)
        self._wait(2)
        made = json.loads(self.bao("operator init -key-shares=1 -key-threshold=1 -format=json"))
        self._key, self._root = made["unseal_keys_b64"][0], made["root_token"]
        self.unseal()
        self.bao("secrets enable transit")
        self.bao("write -f transit/keys/vedfolnir")
        self.bao("policy write seal -", stdin=_POLICY)
        token = self.bao("token create -orphan -policy=seal -period=24h -format=json")
        self.token = json.loads(token)["auth"]["client_token"]
        return self

    def __exit__(self, *_problem: object) -> None:
        """Remove it."""
        self._docker("rm", "--force", "--volumes", self.name)

    @property
    def options(self) -> dict[str, t.Any]:
        """What an operator has in the inventory to let it unseal the stack's Vault."""
        return {
            "vault_unseal": "auto",
            "vault_seal": {
                "type": "transit",
                "address": f"https://{self.name}:8200",
                "token": "file:///openbao/seal/token",
                "key_name": "vedfolnir",
                "mount_path": "transit/",
                "tls_ca_cert": "/openbao/seal/ca.pem",
            },
            "vault_seal_files": {"ca.pem": self.ca, "token": self.token},
        }

    def go_away(self) -> None:
        """Stop it."""
        self._docker("stop", self.name)

    def come_back(self) -> None:
        """Start it and unseal it, as its own operators do."""
        self._docker("start", self.name)
        self._wait(2)
        self.unseal()

    def unseal(self) -> None:
        """Unseal it and wait until it works."""
        self.bao("write sys/unseal key=-", stdin=self._key)
        self._wait(0)

    def bao(self, arguments: str, stdin: str = "") -> str:
        """Run its own program with the root token."""
        inside = ["exec", "--interactive", "--env=BAO_TOKEN", self.name, "bao"]
        return self._docker(*inside, *arguments.split(), stdin=stdin.encode())

    def _wait(self, status: int) -> None:
        """Wait until it answers: 2 sealed, 0 open."""
        argv = ["docker", "exec", self.name, "bao", "status"]

        def ready() -> bool:
            done = subprocess.run(argv, check=False, capture_output=True)
            return done.returncode == status

        wait_until(ready, 60, f"{self.name} does not answer")

    def _config(self) -> bytes:
        """Return its configuration directory as an archive of the user that the image has."""
        tls = {f"tls_{kind}_file": f"{_CONFIG}/server.{end}" for kind, end in _PAIR.items()}
        server = {
            "api_addr": f"https://{self.name}:8200",
            "cluster_addr": f"https://{self.name}:8201",
            "storage": {"raft": {"path": "/openbao/file", "node_id": "second"}},
            "listener": {"tcp": {"address": "0.0.0.0:8200", **tls}},
        }
        content = {
            "server.json": json.dumps(server),
            "ca.pem": self.ca,
            "server.pem": self._leaf["certificate"],
            "server.key": self._leaf["private_key"],
        }
        result = io.BytesIO()
        with tarfile.open(fileobj=result, mode="w") as archive:
            for name, text in content.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.uid, entry.gid, entry.mode = len(text.encode()), 100, 1000, 0o400
                archive.addfile(entry, io.BytesIO(text.encode()))
        return result.getvalue()

    def _docker(self, *arguments: str, stdin: bytes = b"") -> str:
        done = subprocess.run(
            ["docker", *arguments],
            input=stdin,
            capture_output=True,
            check=False,
            env={**os.environ, "BAO_TOKEN": self._root},
        )
        said = done.stderr.decode()
        assert done.returncode == 0 or arguments[0] == "rm", f"docker {arguments[0]}: {said}"
        return done.stdout.decode()
