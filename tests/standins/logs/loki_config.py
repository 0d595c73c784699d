"""What Loki accepts as its configuration, for the sections that this project uses."""

from __future__ import annotations

import typing as t

import yaml

from logs import logql
from logs.durations import seconds


class ConfigError(ValueError):
    """A configuration that Loki would refuse; the message names the key."""


def _duration(value: object) -> bool:
    try:
        return isinstance(value, str) and seconds(value) >= 0
    except ValueError:
        return False


CHECKS: t.Final[dict[str, t.Callable[[object], bool]]] = {
    "text": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "duration": _duration,
    "texts": lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value),
    "size": lambda value: isinstance(value, int) or (isinstance(value, str) and value[-1:] == "B"),
}
_CACHE: t.Final = {"embedded_cache": {"enabled": "bool", "max_size_mb": "int", "ttl": "duration"}}
#: Known keys: a kind of value, a section, or (in a list) the section of each element.
KNOWN: t.Final[dict[str, t.Any]] = {
    "auth_enabled": "bool",
    "target": "text",
    "server": {
        "http_listen_address": "text", "http_listen_port": "int", "grpc_listen_address": "text",
        "grpc_listen_port": "int", "log_level": "text", "log_format": "text",
    },
    "common": {
        "instance_addr": "text", "path_prefix": "text", "replication_factor": "int",
        "ring": {"kvstore": {"store": "text"}, "instance_addr": "text"},
        "storage": {"filesystem": {"chunks_directory": "text", "rules_directory": "text"}},
    },
    "schema_config": {
        "configs": [{
            "from": "text", "store": "text", "object_store": "text", "schema": "text",
            "index": {"prefix": "text", "period": "duration"},
        }],
    },
    "ingester": {
        "chunk_idle_period": "duration", "max_chunk_age": "duration", "chunk_target_size": "int",
        "wal": {
            "enabled": "bool", "dir": "text", "flush_on_shutdown": "bool",
            "replay_memory_ceiling": "size",
        },
    },
    "chunk_store_config": {"chunk_cache_config": _CACHE},
    "query_range": {"cache_results": "bool", "results_cache": {"cache": _CACHE}},
    "compactor": {
        "working_directory": "text", "compaction_interval": "duration",
        "retention_enabled": "bool", "retention_delete_delay": "duration",
        "retention_delete_worker_count": "int", "delete_request_store": "text",
    },
    "limits_config": {
        "allow_structured_metadata": "bool", "discover_log_levels": "bool",
        "discover_service_name": "texts", "ingestion_rate_mb": "number",
        "ingestion_burst_size_mb": "number", "max_line_size": "size",
        "max_line_size_truncate": "bool", "max_query_length": "duration",
        "reject_old_samples": "bool", "reject_old_samples_max_age": "duration",
        "retention_period": "duration", "volume_enabled": "bool",
        "retention_stream": [{"selector": "text", "priority": "int", "period": "duration"}],
    },
    "analytics": {"reporting_enabled": "bool"},
}  # fmt: skip


def _check(value: object, known: t.Any, path: str) -> None:
    """Check a value against what is known of its key.

    Raises:
        ConfigError: naming the key.
    """
    if isinstance(known, str):
        if not CHECKS[known](value):
            raise ConfigError(f"{path}: cannot unmarshal {value!r} into {known}")
        return
    if isinstance(known, list):
        if not isinstance(value, list):
            raise ConfigError(f"{path}: must be a list")
        for number, item in enumerate(value):
            _check(item, known[0], f"{path}[{number}]")
        return
    if not isinstance(value, dict):
        raise ConfigError(f"{path or 'the file'}: must be a mapping")
    for key, item in value.items():
        if key not in known:
            raise ConfigError(f"field {key} not found in {path or 'the configuration'}")
        _check(item, known[key], f"{path}.{key}".lstrip("."))


def _relations(config: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    """Yield what does not fit together."""
    schemas = config.get("schema_config", {}).get("configs") or []
    limits, compactor = config.get("limits_config", {}), config.get("compactor", {})
    if not schemas:
        yield "schema_config: at least one period is needed"
    structured = limits.get("allow_structured_metadata", True)
    if structured and any((one["schema"], one["store"]) < ("v13", "tsdb") for one in schemas):
        yield "structured metadata needs the schema v13 and the store tsdb"
    if compactor.get("retention_enabled"):
        yield from _retention(limits, compactor)
    for stream in limits.get("retention_stream") or []:
        try:
            logql.parse(stream["selector"])
        except logql.LogQLError as exc:
            yield f"retention_stream: invalid labels matchers: {exc}"


def _retention(limits: t.Mapping[str, t.Any], compactor: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    """Yield what retention lacks."""
    if not compactor.get("delete_request_store"):
        yield "compactor.delete_request_store should be configured when retention is enabled"
    periods = [limits.get("retention_period", "0")]
    periods += [stream["period"] for stream in limits.get("retention_stream") or []]
    if any(0 < seconds(period) < 86400 for period in periods):
        yield "retention period must be >= 24h"


def load(text: str) -> dict[str, t.Any]:
    """Return the configuration.

    Raises:
        ConfigError: Loki would refuse it.
    """
    config = yaml.safe_load(text)
    _check(config, KNOWN, "")
    for problem in _relations(config):
        raise ConfigError(problem)
    return t.cast("dict[str, t.Any]", config)
