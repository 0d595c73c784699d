"""Runs on the lab host: a step of a rekey with the code of the collection, killed where told.

``rekeyed.py`` reads JSON (``step``, ``keys``, ``operators``, ``kill``) and prints JSON. The hook
that kills is here and nowhere else.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_credential as credential
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_host, vault_root
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_rekey as rekey
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_server as vault
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_setup as setup
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_host import Host


def kill_after(place: t.Any, function: str, point: str, kill: str, times: int = 1) -> None:
    """Die after a function has been called; ``point`` is the name of that moment."""
    if point != kill:
        return
    real = getattr(place, function)
    left = [times]

    def hooked(*arguments: t.Any, **more: t.Any) -> t.Any:
        result = real(*arguments, **more)
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(place, function, hooked)


def tokens(host: Host, keys: list[str]) -> list[dict[str, t.Any]]:
    """Return all tokens of the server but the one that asks."""
    with vault_root.root(host, keys) as client:
        own = vault.ask(client, "get", "auth/token/lookup-self")["data"]["accessor"]
        listed = vault.ask(client, "list", "auth/token/accessors")["data"]["keys"]
        found: list[dict[str, t.Any]] = []
        for accessor in set(listed) - {own}:
            body = {"accessor": accessor}
            found.append(vault.ask(client, "post", "auth/token/lookup-accessor", body)["data"])
    return found


def restart(host: Host) -> dict[str, t.Any]:
    """Restart the server and do what the host's timer does; return whether it is open."""
    client = host.connect()
    host.compose("restart", "vault")
    before = vault.wait_for_answer(client, 60)
    try:
        vault_host.keep(host, print)
    except vault.VaultError as exc:
        return {"before": before.sealed, "open": False, "error": str(exc)}
    if not vault.status(client).sealed:
        vault.wait_until_active(client, 60)
    return {"before": before.sealed, "open": not vault.status(client).sealed}


def main() -> dict[str, t.Any]:
    task = json.load(sys.stdin)
    host, kill = Host.read(), task.get("kill", "")
    kill_after(vault_root, "make", "root token made", kill)
    kill_after(rekey, "write_record", "begun", kill)
    kill_after(rekey.Rekey, "make", "new keys made", kill)
    kill_after(rekey, "write_record", "made", kill, 2)
    kill_after(rekey, "_hand_over", "encrypted to the operators", kill)
    kill_after(credential, "seal", "sealed in /run", kill)
    kill_after(credential, "seal_next", "sealed to the host", kill)
    kill_after(rekey, "write_record", "handed over", kill, 3)
    kill_after(rekey.Rekey, "show", "in force", kill)
    kill_after(rekey, "write_record", "shown", kill)
    kill_after(credential, "promote", "host's keys replaced", kill)
    kill_after(setup, "write_state", "state written", kill)
    kill_after(rekey, "write_record", "done", kill, 2)
    wish = rekey.Wish(task.get("shares", 3), 2, task.get("operators", []), "lab")
    dropped = ""
    match task["step"]:
        case "begin":
            record, dropped = rekey.begin(host, wish, task["keys"])
        case "finish":
            record = rekey.finish(host, task["keys"])
        case "prove":
            return {"accepted": [vault_root.prove(host, keys) for keys in task["sets"]]}
        case "restart":
            return restart(host)
        case "tokens":
            return {"tokens": tokens(host, task["keys"])}
        case _:
            rekey.clean(host)
            return {}
    return {
        "phase": record["phase"],
        "date": record["date"],
        "dropped": dropped,
        "files": rekey.letters(host.directory),
    }


if __name__ == "__main__":
    os.umask(0o077)
    try:
        result = main()
    except vault.VaultError as exc:
        result = {"error": str(exc)}
    print(f"RESULT {json.dumps(result)}")
