"""Alertmanager's configurations, judged by its own tool in the lab's image; no host is needed."""

from __future__ import annotations

import pathlib
import subprocess
import typing as t

import pytest
import yaml
from ansible_collections.vedfolnir.stack.plugins.plugin_utils.alerting import alertmanager_config
from vedfolnir_lab import images

EMAIL: dict[str, t.Any] = {
    "email_to": ["a@example.org", "b@example.org"],
    "email_from": "stack@example.org",
    "email_server": "mail.example.org:587",
}
OPTIONS: dict[str, dict[str, t.Any]] = {
    "nobody": {},
    "mail": EMAIL,
    "mail with a login": {**EMAIL, "email_username": "me", "email_tls": False},
    "webhook": {"webhook": True},
    "matrix": {"matrix": True},
    "all": {
        **EMAIL,
        "email_username": "me",
        "webhook": True,
        "matrix": True,
        "alerts_off": ["HostCpuBusy"],
        "quiet": {"start": "22:00", "end": "07:00", "zone": "Europe/Berlin"},
    },
}
ROUTES = [
    ({"alertname": "Watchdog", "severity": "none"}, "watchdog"),
    ({"alertname": "MysqlDown", "severity": "critical"}, "operators"),
    ({"alertname": "HostDiskFillsUp", "severity": "warning"}, "operators"),
    ({"alertname": "HostCpuBusy", "severity": "warning"}, "nobody"),
]


def amtool(directory: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it in the image that the lab hosts use."""
    image = images.catalogue()["alertmanager"].reference
    argv = ["docker", "run", "--rm", "--network=none", "--read-only"]
    argv += [f"--volume={directory}:/etc/alertmanager:ro", "--entrypoint=amtool", image]
    return subprocess.run([*argv, *arguments], capture_output=True, text=True, check=False)


def written(directory: pathlib.Path, config: dict[str, t.Any]) -> str:
    """Write a configuration; return its path inside the image."""
    directory.chmod(0o755)
    (directory / "alertmanager.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return "/etc/alertmanager/alertmanager.yml"


@pytest.mark.parametrize("name", OPTIONS)
def test_the_configuration_is_valid(name: str, tmp_path: pathlib.Path) -> None:
    path = written(tmp_path, alertmanager_config(OPTIONS[name]))
    done = amtool(tmp_path, "check-config", path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("labels", "receiver"), ROUTES)
def test_an_alert_goes_where_it_belongs(
    labels: dict[str, str], receiver: str, tmp_path: pathlib.Path
) -> None:
    path = written(tmp_path, alertmanager_config(OPTIONS["all"]))
    pairs = [f"{name}={value}" for name, value in labels.items()]
    route = ["config", "routes", "test", f"--config.file={path}", f"--verify.receivers={receiver}"]
    done = amtool(tmp_path, *route, *pairs)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_configuration_is_noticed(tmp_path: pathlib.Path) -> None:
    config = alertmanager_config(EMAIL)
    config["route"]["receiver"] = "somebody"
    assert amtool(tmp_path, "check-config", written(tmp_path, config)).returncode != 0
