from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest
import yaml
from ansible_collections.vedfolnir.stack.plugins.action import service as action

COLLECTIONS = pathlib.Path(action.__file__).parents[5]
DOCKER = """#!/bin/sh
[ "$1 $2" = "ps --all" ] && exec cat "{containers}"
"""
# What the engine does: it makes containers with the labels of the fragment.
BRING_UP = """
import json, sys, yaml
services = yaml.safe_load(open(sys.argv[1]))["services"]
with open(sys.argv[2], "w") as file:
    for name, service in services.items():
        labels = service["labels"]
        part, digest = labels["org.vedfolnir.fragment"], labels["org.vedfolnir.digest"]
        file.write(f"{name}\\t{part}\\t{digest}\\t\\n")
"""


class Text(str):
    """A text with something on it, as Ansible's are."""

    __slots__ = ()


class Unsafe(str):
    """A text that answers with itself, as ansible-core 2.16 marks what came from a lookup."""

    __slots__ = ()

    def __str__(self) -> str:  # pylint: disable=invalid-str-returned
        return self


class Mapping(dict[t.Any, t.Any]):
    """A mapping with something on it, as Ansible's are."""


class Encrypted:
    """Gives its text when asked for it, as a vaulted value does."""

    def __str__(self) -> str:
        return "clear"


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Text("a"), "a"),
        (Mapping({Unsafe("a"): Unsafe("b")}), {"a": "b"}),
        (Mapping({Text("a"): [Text("b"), (1, 2.5)], 3: None}), {"a": ["b", [1, 2.5]], "3": None}),
        (True, True),
        (None, None),
        (0, 0),
        (Encrypted(), "clear"),
    ],
)
def test_values_lose_their_wrappers(value: t.Any, plain: t.Any) -> None:
    found = action._plain(value)
    assert found == plain
    assert yaml.safe_load(yaml.safe_dump(found)) == plain


def test_yaml_repeats_a_value_instead_of_an_anchor() -> None:
    shared = ["ALL"]
    assert action._yaml({"b": shared, "a": shared}) == "a:\n- ALL\nb:\n- ALL\n"


FILES = [
    {"path": "/a", "content": "1", "services": ["redis"]},
    {"path": "/b", "content": "2", "services": ["redis", "users"]},
    {"path": "/c", "content": "3", "reload": ["redis"]},
]


def changed_digests(files: list[dict[str, t.Any]]) -> list[str]:
    """Return the services whose digest differs from the one of FILES."""
    services: dict[str, t.Any] = {"redis": {}, "users": {}, "none": {}}
    before, after = action._digests(services, FILES), action._digests(services, files)
    return [name for name in services if before[name] != after[name]]


def replaced(number: int, **options: t.Any) -> list[dict[str, t.Any]]:
    return [{**item, **(options if index == number else {})} for index, item in enumerate(FILES)]


@pytest.mark.parametrize(
    ("files", "changed"),
    [
        (FILES, []),
        (replaced(0, content="x"), ["redis"]),
        (replaced(1, content="x"), ["redis", "users"]),
        (replaced(2, content="x"), []),
        (replaced(0, path="/x"), ["redis"]),
        (FILES[1:], ["redis"]),
    ],
)
def test_digests_change_for_exactly_the_services_that_read(
    files: list[dict[str, t.Any]], changed: list[str]
) -> None:
    assert changed_digests(files) == changed


STEPS: list[tuple[str, dict[str, t.Any]]] = [
    ("predicted", {"check_mode": True}),
    ("done", {}),
    ("predicted_again", {"check_mode": True}),
    ("done_again", {}),
    ("other_config", {"vars": {"memory": 512}}),
    ("other_reload", {"vars": {"memory": 512, "greeting": "ä b"}}),
    ("absent", {"state": "absent"}),
    ("absent_again", {"state": "absent"}),
]
BAD_FILES: dict[str, tuple[dict[str, t.Any], str]] = {
    "unknown_key": ({"path": "/x", "content": "", "contents": ""}, "file /x: unknown key contents"),
    "no_source": ({"path": "/x"}, "file /x: needs one of content, data, template"),
    "two_sources": (
        {"path": "/x", "content": "", "data": {}},
        "file /x: needs one of content, data, template",
    ),
}


def play(root: pathlib.Path) -> list[dict[str, t.Any]]:
    own = {"owner": str(os.getuid()), "group": str(os.getgid())}
    arguments: dict[str, t.Any] = {
        "name": "redis",
        "settings": {
            "root": str(root),
            "project": "stack",
            "jobs_record": f"{root}/jobs.json",
            "secrets_root": "/run/secrets",
            "restart": "unless-stopped",
            "logging": {"driver": "journald"},
        },
        "directories": [{"path": f"{root}/{name}", **own} for name in ("compose.d", "config")],
        "files": [
            {
                "path": f"{root}/config/app.json",
                "template": "app.json.j2",
                "services": ["redis"],
                **own,
            },
            {"path": f"{root}/config/text", "template": "text.j2", "reload": ["nginx"], **own},
            {"path": f"{root}/config/data.yml", "data": {"b": "{{ memory }}", "a": [True]}, **own},
            {"path": f"{root}/config/data.json", "data": {"b": 1, "a": "ä"}, **own},
        ],
        "services": {
            name: {
                "image": "redis:8",
                "user": "999",
                "healthcheck": {"test": ["CMD", "true"]},
                "limits": {"memory": "256m", "cpus": 1, "pids": 50},
            }
            for name in ("redis", "nginx")
        },
    }
    tasks: list[dict[str, t.Any]] = []
    for name, options in STEPS:
        keywords = {key: value for key, value in options.items() if key != "state"}
        state = {"state": options["state"]} if "state" in options else {}
        tasks.append(
            {"vedfolnir.stack.service": {**arguments, **state}, "register": name, **keywords}
        )
        if name == "done":
            compose = f"{root}/compose.d/redis.yml"
            argv = [sys.executable, "-c", BRING_UP, compose, f"{root}.containers"]
            tasks.append({"ansible.builtin.command": {"argv": argv}})
            tasks.append(
                {"ansible.builtin.command": {"argv": ["cp", "-r", str(root), f"{root}.done"]}}
            )
    for name, (file, _message) in BAD_FILES.items():
        tasks.append(
            {
                "vedfolnir.stack.service": {**arguments, "files": [file]},
                "register": name,
                "ignore_errors": True,
            }
        )
    names = [*(name for name, _options in STEPS), *BAD_FILES]
    content = "{{ {" + ", ".join(f"'{name}': {name}" for name in names) + "} | to_json }}"
    tasks.append({"ansible.builtin.copy": {"content": content, "dest": f"{root}.json"}})
    return [
        {
            "hosts": "localhost",
            "gather_facts": False,
            "vars": {
                "memory": 256,
                "greeting": "ä",
                "ansible_python_interpreter": sys.executable,
            },
            "tasks": tasks,
        }
    ]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Run the action in a real play on this machine; return the directory it worked in."""
    directory = tmp_path_factory.mktemp("action")
    root = directory / "root"
    (directory / "templates").mkdir()
    (directory / "templates" / "app.json.j2").write_text('{"memory": {{ memory }}, "on": true}\n')
    (directory / "templates" / "text.j2").write_text(
        "{% if true %}\nhello {{ greeting }}\n{% endif %}\nlast\n\n"
    )
    (directory / "play.yml").write_text(yaml.safe_dump(play(root)))
    (directory / "ansible.cfg").write_text("[defaults]\n")
    (directory / "bin").mkdir()
    (directory / "bin" / "docker").write_text(DOCKER.format(containers=f"{root}.containers"))
    (directory / "bin" / "docker").chmod(0o755)
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
        "ANSIBLE_CONFIG": str(directory / "ansible.cfg"),
        "ANSIBLE_HOME": str(directory / "home"),
        "PATH": f"{directory}/bin:{os.environ['PATH']}",
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    done = subprocess.run(
        [sys.executable, "-m", "ansible.cli.playbook", "play.yml"],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "DEPRECATION" not in done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return root


@pytest.fixture(scope="module")
def results(ran: pathlib.Path) -> dict[str, dict[str, t.Any]]:
    """Return what each task of the play returned."""
    found: dict[str, dict[str, t.Any]] = json.loads(pathlib.Path(f"{ran}.json").read_text())
    return found


def test_files_arrive_as_they_are_described(ran: pathlib.Path) -> None:
    config = pathlib.Path(f"{ran}.done") / "config"
    assert (config / "app.json").read_text() == '{"memory": 256, "on": true}\n'
    assert (config / "text").read_text() == "hello ä\nlast\n\n"
    assert (config / "data.json").read_text() == '{\n  "a": "\\u00e4",\n  "b": 1\n}\n'
    text = (config / "data.yml").read_text()
    assert text.startswith("# Ansible managed: ")
    # Whether a template gives a number is ansible-core's affair: it does since 2.19.
    assert text.endswith(("\na:\n- true\nb: 256\n", "\na:\n- true\nb: '256'\n"))


def test_the_fragment_is_hardened_and_has_no_anchors(ran: pathlib.Path) -> None:
    text = (pathlib.Path(f"{ran}.done") / "compose.d" / "redis.yml").read_text()
    assert "&" not in text
    services = yaml.safe_load(text)["services"]
    assert sorted(services) == ["nginx", "redis"]
    assert all(service["cap_drop"] == ["ALL"] for service in services.values())
    digests = {service["labels"]["org.vedfolnir.digest"] for service in services.values()}
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("step", "changed", "planned"),
    [
        ("predicted", True, ["create", "create"]),
        ("done", True, ["create", "create"]),
        ("predicted_again", False, ["unchanged", "unchanged"]),
        ("done_again", False, ["unchanged", "unchanged"]),
        ("other_config", True, ["unchanged", "recreate"]),
        # The container is still the one of before.
        ("other_reload", True, ["reload", "recreate"]),
        ("absent", True, ["remove", "remove"]),
        ("absent_again", False, ["remove", "remove"]),
    ],
)
def test_each_step_changes_what_it_should(
    results: dict[str, dict[str, t.Any]], step: str, changed: bool, planned: list[str]
) -> None:
    assert results[step]["changed"] is changed
    assert [results[step]["plan"][name] for name in sorted(results[step]["plan"])] == planned


def test_the_prediction_is_what_is_done(results: dict[str, dict[str, t.Any]]) -> None:
    for key in ("changed_files", "diff", "plan", "jobs"):
        assert results["predicted"][key] == results["done"][key]


def test_absent_takes_back_the_files(ran: pathlib.Path) -> None:
    assert sorted(path.name for path in ran.rglob("*")) == ["compose.d", "config"]


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_named(results: dict[str, dict[str, t.Any]], name: str) -> None:
    assert results[name]["failed"]
    assert results[name]["msg"] == BAD_FILES[name][1]
