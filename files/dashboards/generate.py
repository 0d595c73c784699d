"""Write the dashboards: ``python files/dashboards/generate.py``.

Grafana's own files are long and alike. Here each panel is a line or two, and all look alike; a test
compares the files with what this would write. They name no data source: Grafana offers its own.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import typing as t
from pathlib import Path

HERE = Path(__file__).resolve().parent
WIDTH = 24
HEIGHT = {"logs": 12, "stat": 4, "timeseries": 8}
SPAN = {"logs": 24, "stat": 4, "timeseries": 12}
SCHEMA = 39
"""Version of Grafana's dashboard format (11 and later read it)."""

Kind = t.Literal["logs", "stat", "timeseries"]
Source = t.Literal["loki", "prometheus"]
VARIABLES: dict[Source, tuple[str, str]] = {
    "loki": ("logs", "Loki"),
    "prometheus": ("datasource", "Prometheus"),
}
"""Name and label of the variable with which a reader chooses a source."""

OPTIONS: dict[Kind, dict[str, t.Any]] = {
    "logs": {"showTime": True, "wrapLogMessage": True, "sortOrder": "Descending"},
    "stat": {"reduceOptions": {"calcs": ["lastNotNull"]}},
    "timeseries": {"legend": {"displayMode": "list", "placement": "bottom"}},
}
UP = ((None, "red"), (1.0, "green"))
"""Colours of what is 1 if it is well."""
FEW = ((None, "green"), (0.8, "orange"), (0.9, "red"))
"""Colours of a share that must not be large."""


@dataclasses.dataclass(frozen=True)
class Panel:
    """One picture: its queries by what the legend calls them."""

    title: str
    description: str
    unit: str
    queries: t.Mapping[str, str]
    kind: Kind = "timeseries"
    steps: tuple[tuple[float | None, str], ...] = ((None, "green"),)
    source: Source = "prometheus"

    def render(self, number: int, x: int, y: int) -> dict[str, t.Any]:
        """Return the panel in Grafana's form at a place of the grid."""
        source = {"type": self.source, "uid": f"${{{VARIABLES[self.source][0]}}}"}
        steps = [{"value": value, "color": color} for value, color in self.steps]
        defaults: dict[str, t.Any] = {
            "unit": self.unit,
            "thresholds": {"mode": "absolute", "steps": steps},
        }
        if self.kind == "timeseries":
            defaults["min"] = 0
            defaults["custom"] = {"fillOpacity": 10, "showPoints": "never"}
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": source,
            "gridPos": {"x": x, "y": y, "w": SPAN[self.kind], "h": HEIGHT[self.kind]},
            "fieldConfig": {"defaults": defaults, "overrides": []},
            "options": OPTIONS[self.kind],
            "targets": [
                {"refId": chr(ord("A") + index), "datasource": source, "expr": expression}
                | ({"legendFormat": legend} if legend else {})
                for index, (legend, expression) in enumerate(self.queries.items())
            ],
        }


def _variable(source: Source) -> dict[str, t.Any]:
    name, label = VARIABLES[source]
    return {"name": name, "label": label, "type": "datasource", "query": source, "hide": 0}


@dataclasses.dataclass(frozen=True)
class Dashboard:
    """A page of panels, laid out in rows from left to right."""

    name: str
    title: str
    panels: tuple[Panel, ...]

    def render(self) -> dict[str, t.Any]:
        """Return the dashboard in Grafana's form."""
        panels: list[dict[str, t.Any]] = []
        x = y = height = 0
        for number, panel in enumerate(self.panels, start=1):
            if x + SPAN[panel.kind] > WIDTH or (panels and height != HEIGHT[panel.kind]):
                x, y = 0, y + height
            height = HEIGHT[panel.kind]
            panels.append(panel.render(number, x, y))
            x += SPAN[panel.kind]
        kinds = sorted({panel.source for panel in self.panels}, reverse=True)
        return {
            "uid": f"vedfolnir-{self.name}",
            "title": f"Vedfolnir: {self.title}",
            "tags": ["vedfolnir"],
            "schemaVersion": SCHEMA,
            "version": 1,
            "editable": False,
            "refresh": "30s",
            "time": {"from": "now-6h", "to": "now"},
            "timezone": "browser",
            "templating": {"list": [_variable(kind) for kind in kinds]},
            "panels": panels,
        }


def up(title: str, description: str, expression: str) -> Panel:
    """Return a panel of what is 1 if it is well."""
    return Panel(title, description, "none", {"": expression}, "stat", UP)


REQUESTS = "vedfolnir_http_requests_total"
DEADLOCKS = "mysql_info_schema_innodb_metrics_lock_lock_deadlocks_total"
LOGINS = f'{REQUESTS}{{endpoint="/user-management/login",method="POST"}}'
DURATION = "vedfolnir_http_request_duration_seconds_bucket"


def quantile(share: float) -> str:
    """Return the expression of a quantile of the answers' durations."""
    return f"histogram_quantile({share}, sum by (le) (rate({DURATION}[5m])))"


def container(name: str) -> tuple[Panel, Panel]:
    """Return the panels of one service's container."""
    own = f'{{name="{name}"}}'
    return (
        Panel(
            "Memory of the container",
            "Memory that it cannot give back, and what it may have.",
            "bytes",
            {
                "used": f"vedfolnir_container_memory_bytes{own}",
                "limit": f"vedfolnir_container_memory_limit_bytes{own}",
            },
        ),
        Panel(
            "Processors of the container",
            "Processors that it uses.",
            "short",
            {"": f"rate(vedfolnir_container_cpu_seconds_total{own}[5m])"},
        ),
    )


SITE_UP = up("Site", "Whether a visitor gets an answer.", 'min(probe_success{service="nginx"})')
TRAFFIC = Panel(
    "Requests by code",
    "Requests that the application answered, in each second.",
    "reqps",
    {"{{status}}": f"sum by (status) (rate({REQUESTS}[5m]))"},
)
LATENCY = Panel(
    "Duration of answers",
    "Half of the answers come faster than the lower line, 95 % than the upper one.",
    "s",
    {"median": quantile(0.5), "95 %": quantile(0.95)},
)
BURN = Panel(
    "Answers outside the objectives",
    "Share of errors (objective: 0.5 %) and of answers slower than 2.5 s (objective: 5 %), 1 h.",
    "percentunit",
    {"errors": "vedfolnir:errors:ratio_rate1h", "slow": "vedfolnir:slow:ratio_rate1h"},
)
TASKS = Panel(
    "Caption tasks",
    "Tasks that wait or are being worked on.",
    "short",
    {"{{status}}": 'vedfolnir_tasks{status=~"QUEUED|RUNNING"}'},
)

DASHBOARDS = (
    Dashboard(
        "overview",
        "overview",
        (
            SITE_UP,
            up("Replicas", "Replicas of the application that answer.", 'sum(up{job="app"})'),
            up("MySQL", "Whether MySQL answers.", "mysql_up"),
            up("Redis", "Whether Redis answers.", "redis_up"),
            Panel(
                "Alerts",
                "Alerts that fire, beside the sign of life.",
                "short",
                {"": 'count(ALERTS{alertstate="firing",alertname!="Watchdog"}) or vector(0)'},
                "stat",
                ((None, "green"), (1.0, "red")),
            ),
            Panel(
                "Certificate",
                "Time until the site's certificate ends.",
                "s",
                {"": 'min(probe_ssl_earliest_cert_expiry{service="nginx"}) - time()'},
                "stat",
                ((None, "red"), (14.0 * 86400, "green")),
            ),
            TRAFFIC,
            LATENCY,
            BURN,
            TASKS,
        ),
    ),
    Dashboard(
        "application",
        "application",
        (
            TRAFFIC,
            LATENCY,
            BURN,
            Panel(
                "Busiest pages",
                "The ten pages that are asked for most.",
                "reqps",
                {"{{endpoint}}": f"topk(10, sum by (endpoint) (rate({REQUESTS}[5m])))"},
            ),
            Panel(
                "Memory of the replicas",
                "Resident memory of the process that answers.",
                "bytes",
                {"{{instance}}": 'process_resident_memory_bytes{job="app"}'},
            ),
            Panel(
                "Processor of the replicas",
                "Processors that the process uses.",
                "short",
                {"{{instance}}": 'rate(process_cpu_seconds_total{job="app"}[5m])'},
            ),
        ),
    ),
    Dashboard(
        "tasks",
        "caption tasks and queues",
        (
            TASKS,
            Panel(
                "Age of the oldest task",
                "How long the oldest task has waited, or has been running.",
                "s",
                {"{{status}}": "vedfolnir_tasks_oldest_seconds"},
            ),
            Panel(
                "Tasks that ended within an hour",
                "By how they ended.",
                "short",
                {"{{status}}": "vedfolnir_tasks_recent"},
            ),
            Panel(
                "Jobs of the RQ queues",
                "By queue and state; with the worker mode rq only.",
                "short",
                {"{{queue}} {{state}}": "vedfolnir_rq_jobs"},
            ),
        ),
    ),
    Dashboard(
        "mysql",
        "MySQL",
        (
            up("MySQL", "Whether MySQL answers.", "mysql_up"),
            Panel(
                "Running since",
                "Time since its last start.",
                "s",
                {"": "mysql_global_status_uptime"},
                "stat",
            ),
            Panel(
                "Connections",
                "Share of the connections that are taken.",
                "percentunit",
                {
                    "": "mysql_global_status_threads_connected"
                    " / mysql_global_variables_max_connections"
                },
                steps=FEW,
            ),
            Panel(
                "Statements",
                "Statements, and those that were slow, in each second.",
                "ops",
                {
                    "statements": "rate(mysql_global_status_questions[5m])",
                    "slow": "rate(mysql_global_status_slow_queries[5m])",
                },
            ),
            Panel(
                "Locks",
                "Rows that had to be waited for, and deadlocks, in each second.",
                "ops",
                {
                    "waits": "rate(mysql_global_status_innodb_row_lock_waits[5m])",
                    "deadlocks": f"rate({DEADLOCKS}[5m])",
                },
            ),
            Panel(
                "Connections that failed",
                "Logins that failed or were broken off, in each second.",
                "ops",
                {"": "rate(mysql_global_status_aborted_connects[5m])"},
            ),
            Panel(
                "Bytes",
                "What it has received and sent in each second.",
                "Bps",
                {
                    "received": "rate(mysql_global_status_bytes_received[5m])",
                    "sent": "rate(mysql_global_status_bytes_sent[5m])",
                },
            ),
            *container("mysql"),
        ),
    ),
    Dashboard(
        "redis",
        "Redis",
        (
            up("Redis", "Whether Redis answers.", "redis_up"),
            up("Append-only file", "Whether it can be written.", "redis_aof_last_write_status"),
            Panel(
                "Running since",
                "Time since its last start.",
                "s",
                {"": "redis_uptime_in_seconds"},
                "stat",
            ),
            Panel(
                "Memory for data",
                "Share of the memory that data may take.",
                "percentunit",
                {"": "redis_memory_used_bytes / redis_memory_max_bytes"},
                steps=FEW,
            ),
            Panel(
                "Commands",
                "Commands in each second.",
                "ops",
                {"": "rate(redis_commands_processed_total[5m])"},
            ),
            Panel(
                "Clients",
                "Connections that are open, and those that were refused within five minutes.",
                "short",
                {
                    "open": "redis_connected_clients",
                    "refused": "increase(redis_rejected_connections_total[5m])",
                },
            ),
            Panel(
                "Keys that were dropped",
                "Keys in each second that went because memory was full, or their time was over.",
                "ops",
                {
                    "for memory": "rate(redis_evicted_keys_total[5m])",
                    "for age": "rate(redis_expired_keys_total[5m])",
                },
            ),
            *container("redis"),
        ),
    ),
    Dashboard(
        "nginx",
        "nginx",
        (
            up("nginx", "Whether nginx tells its status.", "nginx_up"),
            SITE_UP,
            Panel(
                "Connections",
                "Connections that are open: being read, being answered, idle.",
                "short",
                {
                    "reading": "nginx_connections_reading",
                    "writing": "nginx_connections_writing",
                    "waiting": "nginx_connections_waiting",
                },
            ),
            Panel(
                "Requests",
                "Requests in each second, static files included.",
                "reqps",
                {"": "rate(nginx_http_requests_total[5m])"},
            ),
            Panel(
                "Connections that were dropped",
                "Connections in each second that were accepted and not served.",
                "ops",
                {"": "rate(nginx_connections_accepted[5m]) - rate(nginx_connections_handled[5m])"},
            ),
            Panel(
                "Duration of the probe",
                "What a visitor beside the host waits for the page of readiness.",
                "s",
                {"": 'probe_duration_seconds{service="nginx"}'},
            ),
            *container("nginx"),
        ),
    ),
    Dashboard(
        "host",
        "host and containers",
        (
            Panel(
                "Problems",
                "What the host finds wrong with the stack, once a minute.",
                "short",
                {"": "vedfolnir_problems"},
                "stat",
                ((None, "green"), (1.0, "red")),
            ),
            Panel(
                "Containers",
                "Containers that run.",
                "short",
                {"": "sum(vedfolnir_container_running)"},
                "stat",
            ),
            Panel(
                "Processors",
                "Share of the processors that is busy.",
                "percentunit",
                {"": '1 - avg(rate(node_cpu_seconds_total{mode="idle"}[5m]))'},
                steps=FEW,
            ),
            Panel(
                "Memory",
                "Memory that is not available.",
                "percentunit",
                {"": "1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes"},
                steps=FEW,
            ),
            Panel(
                "File systems",
                "Share that is used: / is Docker's, /metrics that of stack_root.",
                "percentunit",
                {"{{mountpoint}}": "1 - node_filesystem_avail_bytes / node_filesystem_size_bytes"},
                steps=FEW,
            ),
            Panel(
                "Memory of the containers",
                "Share of the memory that each may have.",
                "percentunit",
                {
                    "{{name}}": "vedfolnir_container_memory_bytes"
                    " / (vedfolnir_container_memory_limit_bytes > 0)"
                },
                steps=FEW,
            ),
            Panel(
                "Processors of the containers",
                "Processors that each uses.",
                "short",
                {"{{name}}": "rate(vedfolnir_container_cpu_seconds_total[5m])"},
            ),
            Panel(
                "Restarts",
                "Containers that the engine has started anew within the hour.",
                "short",
                {"{{name}}": "increase(vedfolnir_container_restarts_total[1h])"},
            ),
            Panel(
                "Health",
                "Containers whose health check says that they are well.",
                "bool",
                {"{{name}}": "vedfolnir_container_healthy"},
            ),
            Panel(
                "Ended for memory",
                "Processes that the kernel has ended within the hour.",
                "short",
                {"{{name}}": "increase(vedfolnir_container_out_of_memory_total[1h])"},
            ),
        ),
    ),
    Dashboard(
        "ollama",
        "Ollama",
        (
            up("Ollama", "Whether it answers.", 'min(probe_success{service="ollama"})'),
            Panel(
                "Duration of the probe",
                "What Ollama takes to say that it is there.",
                "s",
                {"": 'probe_duration_seconds{service="ollama"}'},
            ),
            Panel(
                "Age of the running task",
                "How long the oldest task has been running; most of it is Ollama's time.",
                "s",
                {"": 'vedfolnir_tasks_oldest_seconds{status="RUNNING"}'},
            ),
            *container("ollama"),
        ),
    ),
    Dashboard(
        "upkeep",
        "backups and secrets",
        (
            Panel(
                "Last good backup",
                "Time since then.",
                "s",
                {"": "time() - vedfolnir_backup_last_success_seconds"},
                "stat",
                ((None, "green"), (26.0 * 3600, "red")),
            ),
            Panel(
                "Last backup",
                "How it ended; 0 is well.",
                "none",
                {"": "vedfolnir_backup_last_exit_code"},
                "stat",
                ((None, "green"), (1.0, "red")),
            ),
            Panel(
                "Last drill",
                "How the last rehearsal of a restore ended; 0 is well.",
                "none",
                {"": "vedfolnir_backup_drill_last_exit_code"},
                "stat",
                ((None, "green"), (1.0, "red")),
            ),
            Panel(
                "Logs shipped",
                "Time since what was written after the backup was last brought off this host.",
                "s",
                {"": "time() - vedfolnir_backup_ship_last_success_seconds"},
                "stat",
                ((None, "green"), (900.0, "red")),
            ),
            Panel(
                "Last proven restore",
                "Time until the site was ready (RTO), and what a host lost then had lost (RPO).",
                "s",
                {
                    "RTO": "vedfolnir_backup_drill_rto_seconds",
                    "RPO": "vedfolnir_backup_drill_rpo_seconds",
                },
            ),
            Panel(
                "Size of the backups",
                "What the last one holds, and what it added to the repository.",
                "bytes",
                {"holds": "vedfolnir_backup_bytes", "added": "vedfolnir_backup_added_bytes"},
            ),
            Panel(
                "Duration of the backups",
                "How long the last one, and the last shipment of logs, took.",
                "s",
                {
                    "backup": "vedfolnir_backup_duration_seconds",
                    "logs": "vedfolnir_backup_ship_duration_seconds",
                },
            ),
            Panel(
                "Unfinished rotations",
                "Secrets whose rotation was begun and not finished.",
                "short",
                {"": "sum(vedfolnir_secret_unfinished)"},
                "stat",
                ((None, "green"), (1.0, "red")),
            ),
            Panel(
                "Age of the secrets",
                "How long the present value has been in use.",
                "s",
                {"{{name}}": "time() - vedfolnir_secret_since_seconds"},
            ),
            Panel(
                "Rotation looked",
                "Time since somebody looked whether a secret is due.",
                "s",
                {"": "time() - vedfolnir_secrets_checked_seconds"},
            ),
        ),
    ),
    Dashboard(
        "security",
        "security and audit",
        (
            up("Vault", "Whether Vault is unsealed.", "vault_core_unsealed"),
            Panel(
                "Certificate",
                "Time until the site's certificate ends.",
                "s",
                {"": 'min(probe_ssl_earliest_cert_expiry{service="nginx"}) - time()'},
                "stat",
                ((None, "red"), (14.0 * 86400, "green")),
            ),
            Panel(
                "Oldest secret",
                "Age of the oldest secret that can be rotated.",
                "s",
                {"": 'time() - min(vedfolnir_secret_since_seconds{method!="never"})'},
                "stat",
                ((None, "green"), (120.0 * 86400, "red")),
            ),
            Panel(
                "Logins",
                "Logins in ten minutes by the code of the answer: 302 is one that succeeded.",
                "short",
                {"{{status}}": f"sum by (status) (increase({LOGINS}[10m]))"},
            ),
            Panel(
                "Refused requests",
                "Requests that the application has refused, by code, in each second.",
                "reqps",
                {"{{status}}": f'sum by (status) (rate({REQUESTS}{{status=~"4.."}}[5m]))'},
            ),
            Panel(
                "Failed connections of MySQL",
                "Logins at MySQL that failed or were broken off, in each second.",
                "ops",
                {"": "rate(mysql_global_status_aborted_connects[5m])"},
            ),
        ),
    ),
    Dashboard(
        "logs",
        "logs",
        (
            Panel(
                "Lines",
                "Lines that each service has written, in each second.",
                "cps",
                {"{{service}}": 'sum by (service) (rate({service=~".+"}[5m]))'},
                source="loki",
            ),
            Panel(
                "Errors",
                "Lines with the level error in five minutes.",
                "short",
                {"{{service}}": 'sum by (service) (count_over_time({level="error"}[5m]))'},
                source="loki",
            ),
            Panel(
                "Last errors",
                "What services have written with the level error, the newest first.",
                "none",
                {"": '{level="error"}'},
                "logs",
                source="loki",
            ),
            Panel(
                "Slow statements",
                "What took longer than mysql_slow_query_seconds, with its request id.",
                "none",
                {"": '{service="mysql"} |= "# Query_time: "'},
                "logs",
                source="loki",
            ),
            Panel(
                "Who did what",
                "Vault's audit log, and who came in on the host and became somebody else.",
                "none",
                {"": '{audit="true"}'},
                "logs",
                source="loki",
            ),
        ),
    ),
    Dashboard(
        "monitoring",
        "the monitoring itself",
        (
            Panel(
                "Targets away",
                "Services whose metrics cannot be read.",
                "short",
                {"": "count(up == 0) or vector(0)"},
                "stat",
                ((None, "green"), (1.0, "red")),
            ),
            Panel(
                "Series of Prometheus",
                "Series that are being written to.",
                "short",
                {"": "prometheus_tsdb_head_series"},
            ),
            Panel(
                "Size on the disk",
                "What Prometheus has stored.",
                "bytes",
                {"": "prometheus_tsdb_storage_blocks_bytes"},
            ),
            Panel(
                "Duration of the scrapes",
                "The ten services that take longest to tell their metrics.",
                "s",
                {"{{instance}}": "topk(10, scrape_duration_seconds)"},
            ),
            Panel(
                "Messages of Alertmanager",
                "Messages in each hour, and those that failed.",
                "short",
                {
                    "{{integration}}": "sum by (integration)"
                    " (increase(alertmanager_notifications_total[1h]))",
                    "{{integration}} failed": "sum by (integration)"
                    " (increase(alertmanager_notifications_failed_total[1h]))",
                },
            ),
            Panel(
                "Memory",
                "Resident memory of those who tell it.",
                "bytes",
                {
                    "{{job}}": "process_resident_memory_bytes"
                    '{job=~"prometheus|alertmanager|grafana|host|mysql|redis|blackbox"}'
                },
            ),
        ),
    ),
)


def files() -> dict[Path, str]:
    """Return the content of every file by its path."""
    return {
        HERE / f"{dashboard.name}.json": json.dumps(dashboard.render(), indent=1) + "\n"
        for dashboard in DASHBOARDS
    }


def main() -> int:
    """Write the files and remove those of dashboards that are gone."""
    wanted = files()
    for path in set(HERE.glob("*.json")) - set(wanted):
        path.unlink()
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
