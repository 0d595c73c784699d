from __future__ import annotations

import re
import typing as t

import pytest
from ansible_collections.vedfolnir.stack.plugins.plugin_utils import services as svc
from ansible_collections.vedfolnir.stack.plugins.plugin_utils.services import ServiceError

SETTINGS: dict[str, t.Any] = {
    "restart": "unless-stopped",
    "secrets_root": "/run/vedfolnir/secrets",
    "logging": {"driver": "journald"},
}
NO_PATH = {"create_host_path": False}


def service(**options: t.Any) -> dict[str, t.Any]:
    return {
        "image": "redis:8",
        "user": "999:999",
        "healthcheck": {"test": ["CMD", "true"]},
        "limits": {"memory": "256m", "cpus": 0.5, "pids": "50"},
        **options,
    }


def compose(**services: dict[str, t.Any]) -> dict[str, t.Any]:
    built = svc.fragment(
        "fragment", services, digests=dict.fromkeys(services, "d"), settings=SETTINGS
    )
    result: dict[str, t.Any] = built["services"]
    return result


def test_an_address_is_given_on_its_network() -> None:
    built = compose(vault=service(networks=["a", "b"], addresses={"b": "10.0.0.9"}))
    assert built["vault"]["networks"] == {"a": {}, "b": {"ipv4_address": "10.0.0.9"}}


def test_each_replica_has_the_address_of_its_number() -> None:
    addresses = {"b": ["10.0.0.9", "10.0.0.8"]}
    built = compose(app=service(networks=["a", "b"], addresses=addresses, replicas=2))
    fixed = [built[name]["networks"]["b"]["ipv4_address"] for name in ("app-1", "app-2")]
    assert fixed == ["10.0.0.9", "10.0.0.8"]
    assert built["app-1"]["networks"]["a"] == {"aliases": ["app"]}


def test_another_replica_leaves_the_present_ones_as_they_are() -> None:
    addresses = ["10.0.0.9", "10.0.0.8", "10.0.0.7"]
    two, three = (
        compose(app=service(networks=["b"], addresses={"b": addresses[:count]}, replicas=count))
        for count in (2, 3)
    )
    assert three == two | {"app-3": three["app-3"]}


def test_a_service_is_hardened_without_asking_for_it() -> None:
    built = compose(redis=service(networks=["internal"], secrets="redis"))
    labels = built["redis"].pop("labels")
    assert re.fullmatch("[0-9a-f]{16}", labels.pop("org.vedfolnir.digest"))
    assert labels == {
        "org.vedfolnir.fragment": "fragment",
        "org.vedfolnir.consumer": "redis",
        "org.vedfolnir.new-secrets": "recreate",
        "org.vedfolnir.secrets": "${VEDFOLNIR_SECRETS_REDIS:-}",
    }
    assert built == {
        "redis": {
            "image": "redis:8",
            "user": "999:999",
            "healthcheck": {
                "test": ["CMD", "true"],
                "interval": "30s",
                "start_interval": "2s",
                "start_period": "30s",
            },
            "cap_drop": ["ALL"],
            "read_only": True,
            "security_opt": ["no-new-privileges:true"],
            "networks": {"internal": {}},
            "volumes": [
                {
                    "type": "bind",
                    "source": "/run/vedfolnir/secrets/redis",
                    "target": "/run/secrets",
                    "read_only": True,
                    "bind": NO_PATH,
                }
            ],
            "deploy": {"resources": {"limits": {"cpus": "0.5", "memory": "256m", "pids": 50}}},
            "logging": {"driver": "journald"},
            "restart": "unless-stopped",
        }
    }


KNOWN = ", ".join(sorted(svc.KNOWN))
ROOT = "runs as root; name a numeric user or waive 'user' with a reason"
HEALTH = "has no health check; add one or waive 'healthcheck' with a reason"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"volume": [], "image2": 1}, f"unknown key image2, volume; known are {KNOWN}"),
        ({"image": ""}, "has no image"),
        (
            {"new_secrets": "restart"},
            "new_secrets is none of recreate, run, nothing and no command",
        ),
        (
            {"new_secrets": ["sh", "-c", "$x"]},
            "new_secrets has a dollar sign, which Compose would take for a variable",
        ),
        ({"user": ""}, ROOT),
        ({"user": None}, ROOT),
        ({"user": 0}, ROOT),
        ({"user": "0:999"}, ROOT),
        ({"user": "root"}, ROOT),
        ({"healthcheck": {}}, HEALTH),
        ({"limits": {}}, "has no limit for memory, cpus, pids"),
        ({"addresses": {"internal": "10.0.0.9"}}, "has an address on a network that it is not on"),
        (
            {"networks": ["a"], "addresses": {"a": "10.0.0.9"}, "replicas": 2},
            "has 1 fixed addresses on a, but 2 containers",
        ),
        (
            {"networks": ["a"], "addresses": {"a": ["10.0.0.9", "10.0.0.8"]}},
            "has 2 fixed addresses on a, but 1 containers",
        ),
        (
            {"networks": ["a"], "addresses": {"a": ["10.0.0.9", "10.0.0.9"]}, "replicas": 2},
            "has 1 fixed addresses on a, but 2 containers",
        ),
        ({"limits": {"memory": "1g", "cpus": 1, "pids": 0}}, "has no limit for pids"),
        ({"cap_add": ["CHOWN"]}, "cap_add needs a reason in waive.cap_add"),
        ({"ports": ["443:443"]}, "a published port needs a reason in waive.ports"),
        ({"waive": {"read_only": " "}}, "waives 'read_only' without a reason"),
        ({"waive": {"read_only": None}}, "waives 'read_only' without a reason"),
    ],
)
def test_what_is_not_deployable_is_named(options: dict[str, t.Any], message: str) -> None:
    with pytest.raises(ServiceError) as error:
        compose(good=service(), redis=service(**options))
    assert str(error.value) == f"service redis: {message}"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"waive": {"user": "drops it itself"}, "user": None}, {"user": None}),
        ({"waive": {"read_only": "writes"}}, {"read_only": None}),
        ({"waive": {"cap_drop": "all"}}, {"cap_drop": None}),
        ({"waive": {"cap_add": "why"}, "cap_add": ["CHOWN"]}, {"cap_add": ["CHOWN"]}),
        ({"waive": {"ports": "why"}, "ports": ["443:443"]}, {"ports": ["443:443"]}),
        ({"waive": {"healthcheck": "why"}, "healthcheck": None}, {"healthcheck": None}),
        ({"environment": {}, "tmpfs": [], "init": False}, {"environment": None, "init": False}),
        ({"user": 1990}, {"user": "1990"}),
        (
            {"healthcheck": {"test": ["CMD"], "interval": "5s", "start_period": "9s"}},
            {
                "healthcheck": {
                    "test": ["CMD"],
                    "interval": "5s",
                    "start_interval": "2s",
                    "start_period": "9s",
                }
            },
        ),
        ({}, {"network_mode": "none", "networks": None, "volumes": None, "depends_on": None}),
    ],
)
def test_options_of_a_service(options: dict[str, t.Any], expected: dict[str, t.Any]) -> None:
    built = compose(redis=service(**options))["redis"]
    assert {key: built.get(key) for key in expected} == expected


def test_a_job_waits_to_be_called() -> None:
    built = compose(users=service(job=True, healthcheck=None))["users"]
    assert (built["profiles"], built["restart"]) == (["jobs"], "no")


def test_replicas_are_services_of_one_name() -> None:
    volume = {"source": "/srv/{service}/x", "target": "/x"}
    built = compose(
        app=service(replicas=2, networks=["edge"], volumes=[volume]),
        nginx=service(depends_on={"app": "healthy", "mysql": "started"}),
    )
    assert list(built) == ["app-1", "app-2", "nginx"]
    assert built["app-2"]["networks"] == {"edge": {"aliases": ["app"]}}
    assert built["app-2"]["volumes"] == [
        {"type": "bind", "source": "/srv/app-2/x", "target": "/x", "bind": NO_PATH}
    ]
    assert built["nginx"]["depends_on"] == {
        "app-1": {"condition": "service_healthy"},
        "app-2": {"condition": "service_healthy"},
        "mysql": {"condition": "service_started"},
    }
    labels = [built[name].pop("labels") for name in ("app-1", "app-2")]
    assert labels[0] != labels[1]
    first, second = (str(built[name]).replace(name, "") for name in ("app-1", "app-2"))
    assert first == second


@pytest.mark.parametrize(
    ("replicas", "names"), [(None, ["app"]), (1, ["app-1"]), ("3", ["app-1", "app-2", "app-3"])]
)
def test_names_of_replicas(replicas: t.Any, names: list[str]) -> None:
    assert svc.replica_names("app", {"replicas": replicas}) == names


@pytest.mark.parametrize(
    ("options", "reservations"),
    [
        ({"reservations": {"memory": "1g", "cpus": 2}}, {"memory": "1g", "cpus": "2"}),
        (
            {"gpus": "all"},
            {"devices": [{"driver": "nvidia", "capabilities": ["gpu"], "count": "all"}]},
        ),
        (
            {"gpus": "2"},
            {"devices": [{"driver": "nvidia", "capabilities": ["gpu"], "count": 2}]},
        ),
    ],
)
def test_reservations(options: dict[str, t.Any], reservations: dict[str, t.Any]) -> None:
    built = compose(ollama=service(**options))["ollama"]
    assert built["deploy"]["resources"]["reservations"] == reservations


@pytest.mark.parametrize("number", [0, "0", ""])
def test_no_gpu_is_no_reservation(number: object) -> None:
    """A text is what ansible-core before 2.19 makes of a template's number."""
    built = compose(ollama=service(gpus=number))["ollama"]
    assert "reservations" not in built["deploy"]["resources"]


def test_the_dictionaries_of_a_role_are_not_changed() -> None:
    given = service(gpus="all", reservations={"memory": "1g"}, networks=["a"], replicas=2)
    before = str(given)
    compose(app=given)
    assert str(given) == before


@pytest.mark.parametrize(
    ("parts", "same"),
    [
        ({"b": "2", "a": "1"}, True),
        ({"a": "1", "b": "3"}, False),
        ({"a": "1", "c": "2"}, False),
        ({"a": "1"}, False),
        ({"a": "12"}, False),
        ({"a": "1", "b": "2", "c": ""}, False),
    ],
)
def test_a_digest_changes_exactly_with_names_and_contents(
    parts: dict[str, str], same: bool
) -> None:
    digest = svc.digest({"a": "1", "b": "2"})
    assert len(digest) == 16
    assert (svc.digest(parts) == digest) is same


def test_directories_that_the_stack_owns_are_made_parents_first() -> None:
    volumes = [
        {"source": "/srv/{service}", "target": "/a", "owner": "5:6", "children": ["x", "x/y"]},
        {"source": "/srv/shared", "target": "/b", "owner": 7, "mode": "0700"},
        {"source": "/srv/given", "target": "/c"},
    ]
    found = svc.directories({"app": service(replicas=2, volumes=volumes)})
    assert [(item["path"], item["owner"], item["group"], item["mode"]) for item in found] == [
        ("/srv/app-1", "5", "6", "0750"),
        ("/srv/app-1/x", "5", "6", "0750"),
        ("/srv/app-1/x/y", "5", "6", "0750"),
        ("/srv/app-2", "5", "6", "0750"),
        ("/srv/app-2/x", "5", "6", "0750"),
        ("/srv/app-2/x/y", "5", "6", "0750"),
        ("/srv/shared", "7", "7", "0700"),
    ]


@pytest.mark.parametrize(
    ("options", "content", "same"),
    [
        ({}, "d", True),
        ({}, "other", False),
        ({"environment": {"A": "1"}}, "d", False),
        ({"limits": {"memory": "1g", "cpus": 1, "pids": 50}}, "d", False),
    ],
)
def test_the_label_changes_with_definition_and_content(
    options: dict[str, t.Any], content: str, same: bool
) -> None:
    before = compose(redis=service())["redis"]["labels"]
    services = {"redis": service(**options)}
    after = svc.fragment("fragment", services, digests={"redis": content}, settings=SETTINGS)
    assert (after["services"]["redis"]["labels"] == before) is same


def job_digest(content: str = "d", revision: str = "1", **options: t.Any) -> str:
    services = {"redis": service(), "users": service(job=True, **options)}
    built = svc.fragment("fragment", services, digests={"users": content}, settings=SETTINGS)
    [job] = svc.jobs(services, built, {"users": revision})
    assert job["name"] == "users"
    return job["digest"]


def test_a_job_is_due_when_its_definition_image_or_files_change() -> None:
    digests = [
        job_digest(),
        job_digest("files"),
        job_digest(image="redis:9"),
        job_digest(command=["x"]),
    ]
    assert len(set(digests)) == 4
    assert job_digest() == digests[0]


@pytest.mark.parametrize(
    "options",
    [
        {"limits": {"memory": "1g", "cpus": 2, "pids": 60}},
        {"depends_on": {"redis": "started"}},
        {"reservations": {"memory": "1m"}},
    ],
)
def test_how_a_job_runs_is_no_reason_to_run_it_again(options: dict[str, t.Any]) -> None:
    assert job_digest(**options) == job_digest()


def test_new_secrets_run_the_jobs_that_want_it() -> None:
    for choice, same in (("run", False), ("nothing", True), (["true"], True)):
        options: dict[str, t.Any] = {"secrets": "users", "new_secrets": choice}
        assert (job_digest(**options) == job_digest(revision="2", **options)) is same, choice


@pytest.mark.parametrize(
    ("choice", "labels"),
    [
        ("recreate", {"new-secrets": "recreate", "secrets": "${VEDFOLNIR_SECRETS_A_B:-}"}),
        ("nothing", {"new-secrets": "nothing"}),
        (["nginx", "-s", "reload"], {"new-secrets": '["nginx", "-s", "reload"]'}),
    ],
)
def test_the_labels_tell_what_new_secrets_do(choice: t.Any, labels: dict[str, str]) -> None:
    found = compose(web=service(secrets="a-b", new_secrets=choice))["web"]["labels"]
    wanted = {f"org.vedfolnir.{name}": value for name, value in labels.items()}
    assert {name: found[name] for name in wanted} == wanted
    assert ("org.vedfolnir.secrets" in found) is ("secrets" in labels)


def made(fragment: str = "fragment", digest: str = "new", secrets: str = "r1") -> dict[str, str]:
    return {"fragment": fragment, "digest": digest, "secrets": secrets}


@pytest.mark.parametrize(
    ("containers", "ran", "reloads", "expected"),
    [
        ({}, {}, set(), {"web": "create", "job": "run"}),
        ({"web": made()}, {"job": "new"}, set(), {"web": "unchanged", "job": "unchanged"}),
        ({"web": made()}, {"job": "old"}, {"web"}, {"web": "reload", "job": "run"}),
        (
            {"web": made(digest="old")},
            {"job": "new"},
            {"web"},
            {"web": "recreate", "job": "unchanged"},
        ),
        ({"web": made(digest="")}, {"job": "new"}, set(), {"web": "recreate", "job": "unchanged"}),
        (
            {"web": made(secrets="r0")},
            {"job": "new"},
            set(),
            {"web": "recreate", "job": "unchanged"},
        ),
        (
            {"web": made(fragment=""), "gone": made(), "else": made(fragment="other")},
            {"job": "new"},
            set(),
            {"gone": "remove", "web": "unchanged", "job": "unchanged"},
        ),
    ],
)
def test_the_plan_says_what_happens_to_each_service(
    containers: dict[str, dict[str, str]],
    ran: dict[str, str],
    reloads: set[str],
    expected: dict[str, str],
) -> None:
    new = {"org.vedfolnir.digest": "new", "org.vedfolnir.consumer": "web"}
    web = {"labels": {**new, "org.vedfolnir.new-secrets": "recreate"}}
    services = {"services": {"web": web, "job": {"labels": new, "profiles": ["jobs"]}}}
    found = svc.plan(
        "fragment",
        services,
        containers=containers,
        ran=ran,
        reloads=reloads,
        revisions={"web": "r1"},
    )
    assert found == expected


def test_the_plan_of_an_absent_fragment_removes_its_services() -> None:
    containers = {"web": made(), "else": made(fragment="other")}
    nothing: dict[str, t.Any] = {"services": {}}
    found = svc.plan("fragment", nothing, containers=containers, ran={}, reloads=(), revisions={})
    assert found == {"web": "remove"}
