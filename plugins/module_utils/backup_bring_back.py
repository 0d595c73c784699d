# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The last step of ``restore_host``: the data, the proof, and what it took.

The stack is deployed with the secrets of the lost host and an empty database. It is closed to
visitors, gets the data as in any restore, and is opened; then it has to show that it serves.
"""

from __future__ import annotations

import json
import os
import time

from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_host as host
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_prove as prove
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_report as report
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_restore as restore
from ansible_collections.vedfolnir.stack.plugins.module_utils import health
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import (
    BackupError,
    Say,
    Settings,
    output,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_recovery import Recovery
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_restic import Restic
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_take import compose
from ansible_collections.vedfolnir.stack.plugins.module_utils.files import remove_tree

DOOR = "nginx"
_INNER_PORT = 8443


def run(settings: Settings, restic: Restic, say: Say, who: str) -> None:
    """Bring the data back and prove them; the next call goes on where one was broken off.

    Raises:
        BackupError: when something of it does not work; the host's backups refuse to run then.
    """
    record = host.read(settings.state_directory)
    if not record:
        raise BackupError("no restore onto this bare host was begun; run restore_host")
    if record["phase"] != "data":
        output(compose(settings, "stop", DOOR))
        restore.undo(settings, say)
        with Recovery(settings, restic, say, str(record["wanted"]), None) as recovery:
            work = restore.Restore(settings, say, recovery)
            work.run(who)
        host.reach(settings.state_directory, "data", replaced=work.kept)
    _prove(settings, say)
    rto, age = (round(seconds) for seconds in host.age(record))
    remove_tree(str(host.read(settings.state_directory)["replaced"]))
    figures = {"id": record["id"], "source": record["source"], "rto": rto, "age": age}
    report.remember(settings, "host", **figures, succeeded=time.time())
    report.tell(settings, who, "restore_host", **figures)
    host.finish(settings.state_directory)
    point = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(float(record["point"])))
    say(
        f"{record['source']} is back on {settings.host}: RTO {rto} s from the beginning of "
        f"restore_host, off-host recovery point {point}, {age} s before it"
    )


def _prove(settings: Settings, say: Say) -> None:
    argv = compose(settings, "exec", "-T", prove.replica(settings))
    say(f"data: {prove.judge(prove.look(argv))}")
    with open(settings.secret_file("login.json"), encoding="utf-8") as handle:
        login = json.load(handle)
    password = login["password"] or _first_password(settings)
    prove.log_in(_site(settings, login["site"]), login["username"], password)
    say(f"login: {login['username']} is let in")


def _first_password(settings: Settings) -> str:
    """Return the administrator's password of the first deployment."""
    path = os.path.join(os.path.dirname(settings.users_file), "..", "app-admin", "admin_password")
    with open(path, encoding="utf-8") as handle:
        return handle.read().strip()


def _site(settings: Settings, name: str) -> health.Site:
    text = output(compose(settings, "ps", "--all", "--format", "json"))
    port = health.published_port(health.parse_containers(text), DOOR, _INNER_PORT)
    return {"name": name, "path": "/", "port": port or 0, "authorities": ""}
