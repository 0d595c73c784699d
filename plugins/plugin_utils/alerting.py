# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Alertmanager's configuration from the operator's options.

Reference: prometheus.io/docs/alerting/latest/configuration
"""

from __future__ import annotations

import re
import typing as t

SECRETS = "/run/secrets"
NOBODY = "nobody"
OPERATORS = "operators"
WATCHDOG = "watchdog"
QUIET = "quiet"

CAUSES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("MysqlDown", ("AppDown", "AppReplicaDown", "SiteDown", "TaskStateUnknown", "ErrorsBurn.*")),
    ("RedisDown", ("AppDown", "AppReplicaDown", "SiteDown", "ErrorsBurn.*")),
    ("AppDown", ("AppReplicaDown", "SiteDown", "ErrorsBurn.*")),
    ("NginxDown", ("SiteDown",)),
    ("HostDiskFull", ("HostDiskFillsUp",)),
    ("BackupFailed", ("BackupOld",)),
)
"""An alert, and those that only say the same again while it fires."""

_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")


class AlertingError(ValueError):
    """Options of which no configuration can be made."""


def _quiet_ranges(start: str, end: str) -> list[dict[str, str]]:
    """Return the ranges of a day between two times; Alertmanager's own do not go past midnight."""
    for text in (start, end):
        if not _TIME.fullmatch(text):
            raise AlertingError(f"quiet hours: {text!r} is not a time such as 22:00")
    if start == end:
        raise AlertingError("quiet hours: start and end are the same")
    if start < end:
        return [{"start_time": start, "end_time": end}]
    late = [{"start_time": start, "end_time": "24:00"}]
    return late + ([{"start_time": "00:00", "end_time": end}] if end != "00:00" else [])


def _receivers(options: t.Mapping[str, t.Any]) -> list[dict[str, t.Any]]:
    operators: dict[str, t.Any] = {"name": OPERATORS}
    email = options.get("email_to") or []
    if email:
        server = {
            "from": options["email_from"],
            "smarthost": options["email_server"],
            "require_tls": bool(options.get("email_tls", True)),
            "send_resolved": True,
        }
        if options.get("email_username"):
            server["auth_username"] = options["email_username"]
            server["auth_password_file"] = f"{SECRETS}/smtp_password"
        operators["email_configs"] = [{"to": str(address), **server} for address in email]
    hooks = [
        {"url_file": f"{SECRETS}/{name}_url", "send_resolved": True}
        for name in ("webhook", "matrix")
        if options.get(name)
    ]
    if hooks:
        operators["webhook_configs"] = hooks
    watchdog: dict[str, t.Any] = {"name": WATCHDOG}
    if options.get("webhook"):
        watchdog["webhook_configs"] = [
            {"url_file": f"{SECRETS}/webhook_url", "send_resolved": False}
        ]
    return [{"name": NOBODY}, operators, watchdog]


def alertmanager_config(options: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return the configuration.

    Args:
        options: ``email_to`` (a list; with ``email_from``, ``email_server``, ``email_username``,
            ``email_tls``), ``webhook`` and ``matrix`` (whether there is one), ``alerts_off`` (names
            of alerts that nobody is to be told of), ``quiet`` (``start``, ``end`` and ``zone`` of
            the hours in which warnings wait; empty for none), ``watchdog_minutes``,
            ``repeat_hours``.

    Raises:
        AlertingError: for options that cannot be.
    """
    routes: list[dict[str, t.Any]] = []
    if off := sorted(str(name) for name in options.get("alerts_off") or []):
        routes.append({"receiver": NOBODY, "matchers": [f'alertname=~"{"|".join(off)}"']})
    routes.append(
        {
            "receiver": WATCHDOG,
            "matchers": ['alertname="Watchdog"'],
            "group_wait": "0s",
            "group_interval": "1m",
            "repeat_interval": f"{int(options.get('watchdog_minutes', 5))}m",
        }
    )
    config: dict[str, t.Any] = {
        "global": {"resolve_timeout": "5m"},
        "route": {
            "receiver": OPERATORS,
            "group_by": ["alertname", "service"],
            "group_wait": "10s",
            "group_interval": "1m",
            "repeat_interval": f"{int(options.get('repeat_hours', 4))}h",
            "routes": routes,
        },
        "inhibit_rules": [
            {
                "source_matchers": [f'alertname="{cause}"'],
                "target_matchers": [f'alertname=~"{"|".join(others)}"'],
            }
            for cause, others in CAUSES
        ],
        "receivers": _receivers(options),
    }
    quiet = options.get("quiet") or {}
    if quiet:
        interval: dict[str, t.Any] = {
            "times": _quiet_ranges(str(quiet.get("start", "")), str(quiet.get("end", "")))
        }
        if quiet.get("zone"):
            interval["location"] = str(quiet["zone"])
        config["time_intervals"] = [{"name": QUIET, "time_intervals": [interval]}]
        routes.append(
            {
                "receiver": OPERATORS,
                "matchers": ['severity="warning"'],
                "mute_time_intervals": [QUIET],
            }
        )
    return config
