"""What Grafana is to have, from files: data sources, dashboards, contact points and policies.

References: grafana.com/docs/grafana/latest/administration/provisioning, and
…/dashboards/build-dashboards/view-dashboard-json-model
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t
from pathlib import Path

import yaml

from grafana_standin.schema import problems

SOURCES = {
    "apiVersion!": int,
    "prune": bool,
    "deleteDatasources": [{"name!": str, "orgId": int}],
    "datasources": [
        {
            "name!": str, "type!": str, "access!": str, "uid": str, "orgId": int, "url": str,
            "user": str, "database": str, "basicAuth": bool, "basicAuthUser": str,
            "withCredentials": bool, "isDefault": bool, "jsonData": dict, "secureJsonData": dict,
            "version": int, "editable": bool,
        }
    ],
}  # fmt: skip
PROVIDERS = {
    "apiVersion!": int,
    "providers": [
        {
            "name!": str, "orgId": int, "type!": str, "folder": str, "folderUid": str,
            "disableDeletion": bool, "updateIntervalSeconds": int, "allowUiUpdates": bool,
            "editable": bool,
            "options!": {"path!": str, "foldersFromFilesStructure": bool},
        }
    ],
}  # fmt: skip
ALERTING = {
    "apiVersion!": int,
    "contactPoints": [
        {
            "orgId!": int,
            "name!": str,
            "receivers!": [
                {"uid!": str, "type!": str, "settings!": dict, "disableResolveMessage": bool}
            ],
        }
    ],
    "policies": [
        {
            "orgId!": int, "receiver!": str, "group_by": [str], "group_wait": str,
            "group_interval": str, "repeat_interval": str, "routes": [dict],
        }
    ],
}  # fmt: skip
SOURCE_TYPES = ("alertmanager", "loki", "prometheus", "tempo")
RECEIVERS: dict[str, t.Any] = {
    "email": {"addresses!": str, "singleEmail": bool, "message": str, "subject": str},
    "prometheus-alertmanager": {"url!": str, "basicAuthUser": str, "basicAuthPassword": str},
    "webhook": {"url!": str, "httpMethod": str, "username": str, "password": str},
}

_SOURCE = {"type": str, "uid!": str}
_NUMBER = (int, float)
_TARGET = {
    "refId!": str, "datasource": _SOURCE, "expr!": str, "legendFormat": str, "format": str,
    "instant": bool, "range": bool, "interval": str, "editorMode": str, "queryType": str,
    "maxLines": int, "hide": bool, "exemplar": bool,
}  # fmt: skip
_PANEL = {
    "id!": int, "type!": str, "title!": str, "description": str, "datasource": _SOURCE,
    "gridPos!": {"x!": int, "y!": int, "w!": int, "h!": int, "static": bool},
    "fieldConfig": {
        "defaults!": {
            "unit": str, "min": _NUMBER, "max": _NUMBER, "decimals": _NUMBER, "custom": dict,
            "color": dict, "mappings": list, "noValue": str, "displayName": str,
            "thresholds": {
                "mode!": str,
                "steps!": [{"value": object, "color!": str}],
            },
        },
        "overrides!": [{"matcher!": dict, "properties!": [dict]}],
    },
    "options": dict, "targets": [_TARGET], "transformations": list, "pluginVersion": str,
    "interval": str, "maxDataPoints": _NUMBER, "links": list, "repeat": str, "transparent": bool,
}  # fmt: skip
DASHBOARD = {
    "uid!": str, "title!": str, "description": str, "tags": [str], "schemaVersion!": int,
    "version": int, "editable": bool, "refresh": str, "time": {"from!": str, "to!": str},
    "timezone": str, "templating": {"list!": [dict]}, "annotations": dict, "links": list,
    "panels!": [_PANEL], "graphTooltip": int, "id": object, "fiscalYearStartMonth": int,
    "timepicker": dict, "liveNow": bool, "weekStart": str,
}  # fmt: skip
PANEL_TYPES = (
    "alertlist", "barchart", "bargauge", "gauge", "heatmap", "histogram", "logs", "piechart",
    "row", "stat", "state-timeline", "status-history", "table", "text", "timeseries",
)  # fmt: skip
_UID = re.compile(r"[a-zA-Z0-9_-]{1,40}")


class ProvisioningError(Exception):
    """Files with which Grafana does not start, or a dashboard that it does not take."""


@dataclasses.dataclass
class Provisioned:
    """What the files say."""

    sources: list[dict[str, t.Any]]
    providers: list[dict[str, t.Any]]
    contact_points: list[dict[str, t.Any]]
    policies: list[dict[str, t.Any]]


def _documents(directory: Path, spec: t.Any) -> t.Iterator[dict[str, t.Any]]:
    for path in sorted([*directory.glob("*.yml"), *directory.glob("*.yaml")]):
        try:
            document = yaml.safe_load(path.read_text("utf-8"))
        except (OSError, yaml.YAMLError) as exc:
            raise ProvisioningError(f"{path}: {exc}") from exc
        wrong = problems(document, spec)
        if wrong:
            raise ProvisioningError(f"{path}: {'; '.join(wrong)}")
        yield document


def read(directory: Path) -> Provisioned:
    """Return what the files below a directory say.

    Raises:
        ProvisioningError: for what the real Grafana does not start with, and for keys that it does
            not know.
    """
    found = Provisioned([], [], [], [])
    for document in _documents(directory / "datasources", SOURCES):
        found.sources += document.get("datasources") or []
    for document in _documents(directory / "dashboards", PROVIDERS):
        found.providers += document.get("providers") or []
    for document in _documents(directory / "alerting", ALERTING):
        found.contact_points += document.get("contactPoints") or []
        found.policies += document.get("policies") or []
    wrong = [*_wrong_sources(found), *_wrong_alerting(found), *_wrong_providers(found)]
    if wrong:
        raise ProvisioningError(f"{directory}: {'; '.join(wrong)}")
    return found


def _wrong_sources(found: Provisioned) -> t.Iterator[str]:
    if sum(bool(source.get("isDefault")) for source in found.sources) > 1:
        yield "only one data source can be the default"
    for source in found.sources:
        if source["access"] not in ("proxy", "direct"):
            yield f"data source {source['name']}: access is neither proxy nor direct"
        if source["type"] not in SOURCE_TYPES:
            yield f"data source {source['name']}: {source['type']} is no known type"
        if source["type"] in SOURCE_TYPES and not source.get("url"):
            yield f"data source {source['name']}: has no url"
    for key in ("name", "uid"):
        names = [source[key] for source in found.sources if key in source]
        if len(set(names)) != len(names):
            yield f"two data sources have the same {key}"


def _wrong_alerting(found: Provisioned) -> t.Iterator[str]:
    names = {point["name"] for point in found.contact_points} | {"grafana-default-email"}
    for point in found.contact_points:
        for receiver in point["receivers"]:
            spec = RECEIVERS.get(receiver["type"])
            if spec is None:
                yield f"contact point {point['name']}: {receiver['type']} is no known type"
            else:
                where = f"contact point {point['name']}"
                yield from problems(receiver["settings"], spec, where)
    for policy in found.policies:
        if policy["receiver"] not in names:
            yield f"policies: there is no contact point {policy['receiver']}"


def _wrong_providers(found: Provisioned) -> t.Iterator[str]:
    for provider in found.providers:
        if provider["type"] != "file":
            yield f"provider {provider['name']}: {provider['type']} is no known type"


def dashboards(found: Provisioned) -> tuple[dict[str, dict[str, t.Any]], list[str]]:
    """Return the dashboards by uid, each with its ``folder``, and what is wrong with others."""
    pages: dict[str, dict[str, t.Any]] = {}
    wrong: list[str] = []
    for provider in found.providers:
        for path in sorted(Path(provider["options"]["path"]).glob("*.json")):
            try:
                page = json.loads(path.read_text("utf-8"))
            except (OSError, ValueError) as exc:
                wrong.append(f"{path}: {exc}")
                continue
            said = wrong_dashboard(page, [source.get("uid", "") for source in found.sources])
            if not said and page["uid"] in pages:
                said = [f"the uid {page['uid']} is there already"]
            if said:
                wrong.append(f"{path}: {'; '.join(said)}")
            else:
                pages[page["uid"]] = {"folder": provider.get("folder", ""), "page": page}
    return pages, wrong


def wrong_dashboard(page: t.Any, sources: t.Collection[str]) -> list[str]:
    """Return what is wrong with a dashboard.

    Args:
        page: The document.
        sources: Uids of the data sources.
    """
    found = problems(page, DASHBOARD)
    if found:
        return found
    if not _UID.fullmatch(page["uid"]):
        found.append(f"uid: {page['uid']!r} is none")
    if not page["title"].strip():
        found.append("title: is empty")
    variables = [str(item.get("name")) for item in page.get("templating", {}).get("list", [])]
    known = {*sources, *(f"${{{name}}}" for name in variables), "-- Grafana --"}
    for panel in page["panels"]:
        where = f"panel {panel['title']}"
        if panel["type"] not in PANEL_TYPES:
            found.append(f"{where}: {panel['type']} is no known type")
        used = [panel, *panel.get("targets", [])]
        uids = {item["datasource"]["uid"] for item in used if "datasource" in item}
        found += [f"{where}: there is no data source {uid}" for uid in sorted(uids - known)]
    numbers = [panel["id"] for panel in page["panels"]]
    if len(set(numbers)) != len(numbers):
        found.append("two panels have the same id")
    return found
