"""Runs on the lab host: a second Vault beside the stack's, with the code that is installed there.

``scratch.py COMMAND JSON`` prints JSON. The hook that kills a set-up is here and nowhere else.
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_host as host_util
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_recovery as recovery
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_server as vault
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_setup as setup

ROOT = pathlib.Path("/var/tmp/vault-scratch")
UID, GID = 100, 1000
KILLED = 137


def place(name: str) -> pathlib.Path:
    return ROOT / name


def the_host(name: str, address: str, unseal: str) -> host_util.Host:
    root = place(name)
    return host_util.Host(
        address=address,
        directory=str(root / "private"),
        project_src=str(root),
        unseal=t.cast("setup.Unseal", unseal),
        names=["vault", "127.0.0.1", address],
        uid=UID,
        gid=GID,
    )


def make(name: str, address: str, image: str, seal: t.Any, **_more: t.Any) -> t.Any:
    """Write the project; the network is shared, so that one Vault can seal another."""
    root = place(name)
    for directory in ("data", "config", "compose.d"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    os.chown(root / "data", UID, GID)
    subprocess.run(
        ["docker", "network", "create", "--subnet", "172.29.9.0/24", "vault-scratch"],
        capture_output=True,
        check=False,
    )
    server: dict[str, t.Any] = {
        "api_addr": f"https://{address}:8200",
        "cluster_addr": f"https://{address}:8201",
        "storage": {"raft": {"path": "/vault/data", "node_id": name}},
        "listener": {
            "tcp": {
                "address": "0.0.0.0:8200",
                "tls_cert_file": "/vault/tls/server.pem",
                "tls_key_file": "/vault/tls/server.key",
            }
        },
    }
    if seal:
        server["seal"] = seal
    (root / "config" / "server.json").write_text(json.dumps(server))
    mounts = [f"{root}/{name}:/vault/{name}" for name in ("data", "config")]
    service = {
        "image": image,
        "user": f"{UID}:{GID}",
        "entrypoint": ["bao", "server", "-config=/vault/config/server.json"],
        "volumes": [*mounts, f"{root}/private/tls:/vault/tls", f"{ROOT}:/scratch:ro"],
        "networks": {"default": {"ipv4_address": address}},
    }
    network = {"default": {"name": "vault-scratch", "external": True}}
    (root / "compose.yml").write_text(
        json.dumps({"name": f"scratch-{name}", "services": {}, "networks": network})
    )
    (root / "compose.d" / "vault.yml").write_text(json.dumps({"services": {"vault": service}}))
    return {}


def set_up(
    name: str,
    address: str,
    unseal: str,
    operators: t.Any,
    bootstrap: t.Any,
    kill: str = "",
    **_more: t.Any,
) -> t.Any:
    """Do what the module does; with ``kill`` die when the state says that phase."""
    host = the_host(name, address, unseal)
    host.certificate.ensure()
    host.start()
    real = setup.write_state

    def write(directory: str, state: t.Any) -> None:
        real(directory, state)
        if state["phase"] == kill:
            os.kill(os.getpid(), signal.SIGKILL)

    setup.write_state = write
    plan = setup.Plan(
        directory=host.directory,
        data_directory=str(place(name) / "data"),
        unseal=host.unseal,
        shares=3,
        threshold=2,
        operators=operators,
        bootstrap=bootstrap,
        host=name,
    )
    client = host.connect()
    status = vault.wait_for_answer(client, 60)
    if setup.needed(status, setup.read_state(host.directory)):
        setup.set_up(client, host, plan)
    return {**(setup.read_state(host.directory) or {}), "files": setup.fetchable(host.directory)}


def unseal(name: str, address: str, unseal: str, letter: str, **_more: t.Any) -> t.Any:
    """Restart the server and hand it the keys of a letter."""
    host = the_host(name, address, unseal)
    host.compose("restart", "vault")
    client = host.connect()
    before = vault.wait_for_answer(client, 60)
    after = vault.unseal(client, recovery.keys_in(letter)) if letter else before
    return {"before": before.sealed, "after": after.sealed}


def boot(name: str, address: str, unseal: str, **_more: t.Any) -> t.Any:
    """Do what the unit does at boot, the server being down."""
    host = the_host(name, address, unseal)
    host.stop()
    said: list[str] = []
    host_util.boot(host, said.append)
    return {"sealed": vault.status(host.connect()).sealed, "said": said}


def ask(name: str, address: str, unseal: str, requests: t.Any, **_more: t.Any) -> t.Any:
    """Log in as Ansible does and make requests; return the answers, and the token itself."""
    host = the_host(name, address, unseal)
    client = host.connect()
    vault.login(client, setup.credentials_path(host.directory))
    answers: list[t.Any] = []
    for method, path, body in requests:
        try:
            answers.append(vault.ask(client, method, path, body))
        except vault.VaultError as exc:
            answers.append(exc.reason)
    return {"answers": answers, "token": client.token}


def remove(name: str, **_more: t.Any) -> t.Any:
    """Remove the server with all that belongs to it."""
    subprocess.run(["docker", "rm", "-f", f"scratch-{name}-vault-1"], check=False)
    subprocess.run(["rm", "-rf", str(place(name))], check=True)
    return {}


COMMANDS: dict[str, t.Callable[..., t.Any]] = {
    "ask": ask,
    "boot": boot,
    "make": make,
    "remove": remove,
    "set_up": set_up,
    "unseal": unseal,
}

if __name__ == "__main__":
    os.umask(0o022)
    try:
        result = COMMANDS[sys.argv[1]](**json.load(sys.stdin))
    except (vault.VaultError, recovery.RecoveryError) as exc:
        result = {"error": str(exc)}
    print(f"RESULT {json.dumps(result)}")
