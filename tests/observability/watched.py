"""The lab host while it is watched: what Prometheus knows, and what the receiver was told."""

from __future__ import annotations

import json
import pathlib
import time
import typing as t
from urllib.parse import quote

from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_report
from lab import Lab, Run, wait_until

RECEIVER = "alert-receiver"
TOKEN = "token-of-the-webhook-0123456789"
STATUS_TOKEN = "token-of-the-status-0123456789"
EVERYBODY = ["0.0.0.0/0"]
"""The lab's visitors come from the address of a gateway."""
ON: dict[str, t.Any] = {
    "observability_enabled": True,
    "observability_webhook_enabled": True,
    "observability_interval_seconds": 5,
    "observability_grafana_networks": EVERYBODY,
    "stack_secrets_given": {
        "observability_webhook_url": f"http://{RECEIVER}:8080/{TOKEN}",
        "nginx_status_token": STATUS_TOKEN,
    },
}
OFF = {"observability_enabled": False}
BACKUP = "/srv/vedfolnir/metrics/backup.prom"


class Watched:
    """One lab host and the receiver beside its containers."""

    def __init__(self, lab: Lab) -> None:
        """Remember the host."""
        self.lab = lab

    def deploy(self, *arguments: str, **options: t.Any) -> Run:
        """Run site.yml with monitoring on."""
        return self.lab.playbook("site.yml", *arguments, variables={**ON, **options})

    def begin(self) -> None:
        """Turn it on, start the receiver, and write what the host's timers have not written yet."""
        self.deploy().check()
        code = (pathlib.Path(__file__).with_name("receiver.py")).read_text("utf-8")
        image = self.lab.variables["app_base_image"]
        self.lab.run(
            f"docker rm --force {RECEIVER} 2>/dev/null; docker run --detach --name {RECEIVER}"
            f' --network vedfolnir_edge --entrypoint python3 -i {image} -u -c "$(cat)"',
            stdin=code,
        )
        self.lab.run("systemctl start vedfolnir-rotate.service vedfolnir-watch.service")
        self.backup_was(time.time())
        wait_until(lambda: all(self.up().values()), 120, "not every target is up")

    def end(self) -> None:
        """Leave the host as it was found."""
        self.lab.run(f"docker rm --force {RECEIVER}; rm -f {BACKUP}")
        self.lab.playbook().check()
        assert self.lab.unhealthy() == []

    def backup_was(self, moment: float, exit_code: int = 0) -> None:
        """Write the metrics of a backup as its role does, which is not on this host."""
        # As if logs went on arriving in their copies while the tests run.
        later = time.time() + 86400
        backup = {"duration": 15, "bytes": 48_211_046, "added": 120_000}
        state: backup_report.State = {
            "backup": {"exit": exit_code, "succeeded": moment, **backup},
            "drill": {"exit": 0, "succeeded": time.time(), "rto": 48, "rpo": 31},
            "ship": {"exit": 0, "succeeded": later, "duration": 1},
            "streams": {"mysql": later, "redis": later, "gap": 0},
            "shipped": {"/mnt/second": {"exit": 0, "succeeded": later}},
        }
        text = backup_report.metrics(state)
        self.lab.run(f"cat > {BACKUP}.new && mv {BACKUP}.new {BACKUP}", stdin=text)

    # What Prometheus knows

    def ask(self, path: str) -> t.Any:
        """Return the data of an answer of Prometheus' API."""
        url = f"http://127.0.0.1:9090/api/v1/{path}"
        answer = self.lab.run(f"docker exec vedfolnir-prometheus-1 wget -q -O - '{url}'")
        return json.loads(answer)["data"]

    def query(self, expression: str) -> list[dict[str, t.Any]]:
        """Return the series of an expression, now."""
        found: list[dict[str, t.Any]] = self.ask(f"query?query={quote(expression)}")["result"]
        return found

    def value(self, expression: str) -> float:
        """Return the value of an expression that has one series."""
        (series,) = self.query(expression)
        return float(series["value"][1])

    def up(self) -> dict[str, bool]:
        """Return whether each target was read, by its job and instance."""
        targets = self.ask("targets?state=active")["activeTargets"]
        return {
            f"{one['labels']['job']}/{one['labels']['instance']}": one["health"] == "up"
            for one in targets
        }

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        alerts = self.ask("alerts")["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}

    # What the receiver was told

    def told(self) -> list[tuple[str, str]]:
        """Return name and status of every alert that has arrived, in order."""
        lines = self.lab.run(f"docker logs {RECEIVER}").splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [(one["labels"]["alertname"], one["status"]) for one in found]

    def wait_told(self, names: t.Iterable[str], status: str, since: int, seconds: float) -> None:
        """Wait until the receiver was told of each, among what came after the first `since`."""
        wanted = {(name, status) for name in names}

        def all_told() -> bool:
            missing = wanted - set(self.told()[since:])
            assert not missing, missing
            return True

        wait_until(all_told, seconds, f"the receiver was not told that they are {status}")
