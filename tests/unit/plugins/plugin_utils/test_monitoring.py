from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.vedfolnir.stack.plugins.filter.monitoring import FilterModule

NETWORKS = ["internal", "monitoring"]
PROBES = ["edge", "monitoring"]


def configs(**services: t.Any) -> list[dict[str, t.Any]]:
    named = {name.replace("_", "-"): service for name, service in services.items()}
    found: list[dict[str, t.Any]] = FilterModule().filters()["scrape_configs"](
        named, NETWORKS, PROBES, "blackbox-exporter:9115"
    )
    return found


def test_what_says_nothing_is_not_asked() -> None:
    assert configs(redis={"networks": ["internal"]}, job={"job": True}) == []


def test_every_replica_is_a_target_by_its_name() -> None:
    app = {"networks": ["internal", "edge"], "replicas": 2, "metrics": {"port": 5000}}
    assert configs(app=app) == [
        {
            "job_name": "app",
            "static_configs": [
                {"targets": [f"{name}:5000"], "labels": {"instance": name, "service": "app"}}
                for name in ("app-1", "app-2")
            ],
        }
    ]


def test_an_exporter_stands_for_its_service() -> None:
    (found,) = configs(
        redis_exporter={"networks": ["monitoring"], "metrics": {"port": "9121", "job": "redis"}}
    )
    assert found["job_name"] == "redis"
    assert found["static_configs"][0]["labels"] == {
        "instance": "redis-exporter",
        "service": "redis",
    }


def test_a_fixed_address_on_the_network_of_the_metrics_is_asked() -> None:
    (found,) = configs(
        vault={
            "networks": ["internal", "monitoring"],
            "addresses": {"internal": "10.0.0.9", "monitoring": "10.0.1.9"},
            "metrics": {
                "port": 8202,
                "scheme": "https",
                "path": "/v1/sys/metrics",
                "params": {"format": ["prometheus"]},
                "tls": {"server_name": "vault"},
            },
        }
    )
    assert found == {
        "job_name": "vault",
        "metrics_path": "/v1/sys/metrics",
        "scheme": "https",
        "params": {"format": ["prometheus"]},
        "tls_config": {"server_name": "vault"},
        "static_configs": [
            {"targets": ["10.0.1.9:8202"], "labels": {"instance": "vault", "service": "vault"}}
        ],
    }


def test_each_replica_is_asked_at_its_fixed_address() -> None:
    (found,) = configs(
        app={
            "networks": ["monitoring"],
            "replicas": 2,
            "addresses": {"monitoring": ["10.0.1.253", "10.0.1.252"]},
            "metrics": {"port": 5000},
        }
    )
    targets = {item["labels"]["instance"]: item["targets"] for item in found["static_configs"]}
    assert targets == {"app-1": ["10.0.1.253:5000"], "app-2": ["10.0.1.252:5000"]}


def test_probes_are_asked_of_the_prober() -> None:
    (found,) = configs(
        nginx={"networks": ["edge"], "probe": {"module": "https_site", "port": 8443, "path": "/x"}},
        ollama={"networks": ["edge"], "probe": {"port": 11434}},
        mysql={"networks": ["monitoring"], "probe": {"module": "tcp", "port": 3306}},
    )
    assert (found["job_name"], found["metrics_path"]) == ("probe", "/probe")
    labels = [entry["labels"] for entry in found["static_configs"]]
    assert {entry["targets"][0] for entry in found["static_configs"]} == {"blackbox-exporter:9115"}
    assert [(one["__param_module"], one["__param_target"]) for one in labels] == [
        ("https_site", "https://nginx:8443/x"),
        ("http", "http://ollama:11434"),
        ("tcp", "mysql:3306"),
    ]
    assert [one["service"] for one in labels] == ["nginx", "ollama", "mysql"]


BAD: list[tuple[dict[str, t.Any], str]] = [
    (
        {"a": {"networks": ["edge"], "metrics": {"port": 1}}},
        "service a: has metrics, but is on none of the networks internal, monitoring, where they "
        "are asked for",
    ),
    (
        {"a": {"networks": ["internal"], "probe": {"port": 1}}},
        "service a: has probe, but is on none of the networks edge, monitoring, where they are "
        "asked for",
    ),
    (
        {"a": {"networks": ["internal"], "metrics": {"path": "/x"}}},
        "service a: metrics needs a port",
    ),
    (
        {"a": {"networks": ["internal"], "metrics": {"prot": 1}}},
        "service a: metrics has the unknown key prot; known are job, params, path, port, scheme, "
        "tls",
    ),
    (
        {
            "a": {"networks": ["internal"], "metrics": {"port": 1}},
            "b": {"networks": ["internal"], "metrics": {"port": 1, "job": "a"}},
        },
        "service b: there are metrics of a already",
    ),
]


@pytest.mark.parametrize(("services", "message"), BAD)
def test_what_cannot_be_asked_is_refused(services: dict[str, t.Any], message: str) -> None:
    with pytest.raises(AnsibleFilterError) as error:
        configs(**services)
    assert str(error.value) == f"scrape_configs: {message}"
