from __future__ import annotations

import time
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.vedfolnir.stack.plugins.plugin_utils.preflight import summary
from ansible_collections.vedfolnir.stack.plugins.plugin_utils.preflight_data import (
    PreflightError,
    Problem,
)

Inspect = t.Callable[..., list[str]]

GOOD: dict[str, t.Any] = {
    "inventory_hostname": "h1",
    "ansible_facts": {"memtotal_mb": 2048},
    "stack_secrets": {"web": "kM4-pq9Zx-77Tr"},
    "web_name": "captions.example.org",
}
KNOWN = "`ansible-doc -t role vedfolnir.stack.web` lists them."


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"web_port": "300"},
        {"web_port": "{{ 300 + 1 }}"},
        {"web_enabled": "yes"},
        {"web_memory": 1048576},
        {"web_hosts": ["a.b", "c.d"]},
        {"web_hosts": "{{ ['a.b'] }}"},
        {"web_certificates": [{"name": "a", "kind": "server"}]},
        {"web_limits": {"anything": {"goes": 1}}},
        {"web_keep_data": False},  # an option of another entry point
        {"__web_scratch": 1},
        {"website": 1},
        {"other_thing": "{{ nobody_asks }}"},
        {"web_enabled": False, "web_memory": "900g"},  # the rule's when
        {"web_cache_size_mb": 1},
    ],
)
def test_good_variables_pass(inspect: Inspect, change: dict[str, t.Any]) -> None:
    assert inspect(GOOD | change) == []


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        # unknown names
        (
            {"web_prot": 1},
            ["web_prot is not an option of vedfolnir.stack.web; did you mean web_port?"],
        ),
        (
            {"web_certifcates": []},
            [
                "web_certifcates is not an option of vedfolnir.stack.web; "
                "did you mean web_certificates?"
            ],
        ),
        ({"web_zzz_qqq": 1}, [f"web_zzz_qqq is not an option of vedfolnir.stack.web; {KNOWN}"]),
        (
            {"web_cache_sise_mb": 1},
            [
                "web_cache_sise_mb is not an option of vedfolnir.stack.web_cache; "
                "did you mean web_cache_size_mb?"
            ],
        ),
        (
            {"web_cachesize_mb": 1},
            [
                "web_cachesize_mb is not an option of vedfolnir.stack.web; "
                "did you mean web_cache_size_mb?"
            ],
        ),
        ({"web_listen": 1}, ["web_listen was renamed to web_port in 0.2.0."]),
        ({"web_magic": 1}, ["web_magic was removed in 0.3.0; delete it from the inventory."]),
        (
            {"web_backend": "slow"},
            ["web_backend was removed in 0.4.0; delete it from the inventory. There is one only."],
        ),
        ({"web_backend": "fast"}, []),
        # values
        ({"web_port": "many"}, ["web_port must be of type int, but is 'many' (str)."]),
        ({"web_port": "1.5"}, ["web_port must be of type int, but is '1.5' (str)."]),
        ({"web_port": True}, ["web_port must be of type int, but is True (bool)."]),
        ({"web_port": [1]}, ["web_port must be of type int, but is a list."]),
        ({"web_enabled": "maybe"}, ["web_enabled must be of type bool, but is 'maybe' (str)."]),
        ({"web_memory": {"a": 1}}, ["web_memory must be of type str, but is a dict."]),
        ({"web_memory": ["a"]}, ["web_memory must be of type str, but is a list."]),
        ({"web_hosts": "a.b,c.d"}, ["web_hosts must be of type list, but is 'a.b,c.d' (str)."]),
        (
            {"web_hosts": ["a.b", {"c": 1}]},
            ["web_hosts[1] must be of type str, but is a dict."],
        ),
        ({"web_limits": "a=b"}, ["web_limits must be of type dict, but is 'a=b' (str)."]),
        (
            {"web_memory": {}, "web_limits": "x" * 100},
            [
                f"web_limits must be of type dict, but is '{'x' * 59}… (str).",
                "web_memory must be of type str, but is a dict.",
            ],
        ),
        (
            {"web_mode": "thread"},
            [
                "web_mode must be one of auto, threads, processes, but is 'thread' (str); "
                "did you mean 'threads'?"
            ],
        ),
        (
            {"web_mode": 7},
            ["web_mode must be one of auto, threads, processes, but is 7 (int)."],
        ),
        ({"web_name": None}, ["web_name is required: The public name of the site."]),
        # inside lists and dictionaries
        (
            {"web_certificates": [{"name": "a"}, {"nme": "b", "kind": "x"}]},
            [
                "web_certificates[1].kind must be one of server, client, but is 'x' (str).",
                "web_certificates[1].name is required: File name.",
                "web_certificates[1].nme is not known; did you mean name?",
            ],
        ),
        (
            {"web_certificates": [{"name": "a", "zzzz": 1}]},
            ["web_certificates[0].zzzz is not known; known are key, kind, name."],
        ),
        # templates
        ({"web_mode": "{{ nowhere }}"}, ["web_mode cannot be resolved: 'nowhere' is not defined."]),
        (
            {"web_memory": "{{ 'x' | vedfolnir.stack.to_mib }}m"},
            ["web_memory cannot be resolved: to_mib expects a size such as 512m or 2g, got 'x'."],
        ),
        # rules
        (
            {"web_memory": "3g"},
            ["web_memory is 3g but h1 has 2048 MiB. Lower it."],
        ),
        ({"web_port": 40000}, ["web_port must be between 1 and 32767."]),
        (
            {"web_hosts": ["a.b", "localhost", "box"]},
            [
                "web_hosts has box, which is no full name.",
                "web_hosts has localhost, which is no full name.",
            ],
        ),
        (
            {"web_memory": "plenty"},
            [
                "web_memory: rule web.memory cannot be evaluated: "
                "to_mib expects a size such as 512m or 2g, got 'plenty'."
            ],
        ),
        ({"web_password": "short"}, ["web_password is shorter than 12 characters."]),
    ],
)
def test_bad_variables_are_named(
    inspect: Inspect, change: dict[str, t.Any], messages: list[str]
) -> None:
    assert inspect(GOOD | change) == messages


def test_all_problems_come_at_once_sorted_by_variable(inspect: Inspect) -> None:
    found = inspect(GOOD | {"web_prot": 1, "web_mode": "x", "web_memory": "3g", "web_listen": 1})
    assert [message.split()[0] for message in found] == [
        "web_listen",
        "web_memory",
        "web_mode",
        "web_prot",
    ]


def test_a_missing_option_is_reported_once_and_not_for_what_depends_on_it(
    inspect: Inspect,
) -> None:
    variables = {name: value for name, value in GOOD.items() if name != "web_name"}
    assert inspect(variables) == ["web_name is required: The public name of the site."]


def test_missing_facts_are_reported_with_the_rule(inspect: Inspect) -> None:
    found = inspect(GOOD | {"ansible_facts": {}})
    assert len(found) == 1
    assert found[0].startswith("web_memory: rule web.memory cannot be evaluated: ")
    assert "memtotal_mb" in found[0]


@pytest.mark.parametrize(
    "change",
    [
        {"web_password": {"user": "hunter2-hunter2"}},
        {"web_password": ["hunter2-hunter2"]},
        {"web_certificates": [{"name": "a", "key": {"pem": "hunter2-hunter2"}}]},
        {"web_password": "hunter2-hunter2", "web_port": "{{ web_password }}"},
        {"web_password": "hunter2-hunter2", "web_mode": "{{ web_password }}"},
        {"web_password": "hunter2-hunter2", "web_hosts": ["hunter2-hunter2"]},
    ],
)
def test_secrets_are_never_shown(inspect: Inspect, change: dict[str, t.Any]) -> None:
    found = inspect(GOOD | change)
    assert found
    assert "hunter2" not in "\n".join(found)


def test_a_masked_value_spares_the_names_of_variables(inspect: Inspect) -> None:
    assert inspect(GOOD | {"web_password": "password"}) == [
        "web_password is built from a well-known default."
    ]


def test_what_comes_into_being_later_is_not_judged_now(inspect: Inspect) -> None:
    variables = {name: value for name, value in GOOD.items() if name != "stack_secrets"}
    assert inspect(variables) == [
        "web_password cannot be resolved: 'stack_secrets' is not defined."
    ]
    assert inspect(variables, deferred=["stack_secrets"]) == []


def test_a_role_that_was_not_asked_for_is_left_alone(inspect: Inspect) -> None:
    assert inspect(GOOD | {"web_cache_sise_mb": 1}, roles=["web"]) == []


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no role broken with argument specs; there are none"),
        (
            {"meta/argument_specs.yml": {"argument_specs": {"other": {}}}},
            "role broken has no argument spec for the entry point main",
        ),
        ({"vars/preflight.yml": ["x"]}, "broken/vars/preflight.yml: no mapping"),
        (
            {"vars/preflight.yml": {"rules": [{"id": "x", "taht": "true", "message": "m"}]}},
            "rule broken.x: unknown keys ['taht'], missing keys ['that']",
        ),
    ],
)
def test_defects_of_the_collection_are_told_apart(
    inspect: Inspect, tmp_path: Path, files: dict[str, t.Any], message: str
) -> None:
    spec: dict[str, t.Any] = {"meta/argument_specs.yml": {"argument_specs": {"main": {}}}}
    for name, content in ((spec | files) if files else {}).items():
        path = tmp_path / "broken" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content))
    with pytest.raises(PreflightError) as error:
        inspect({}, roles=["broken"], directory=tmp_path)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"that": "'text'"}, "''text'' is neither true nor false"),
        ({"that": "1 +"}, None),
        ({"that": "true", "loop": "7"}, "loop '7' gives no list"),
        ({"that": "true", "when": "nowhere"}, "'nowhere' is not defined"),
    ],
)
def test_a_broken_rule_is_a_problem_and_not_a_crash(
    inspect: Inspect, tmp_path: Path, rule: dict[str, str], message: str | None
) -> None:
    role = tmp_path / "odd"
    for name in ("meta", "vars"):
        (role / name).mkdir(parents=True)
    (role / "meta" / "argument_specs.yml").write_text("argument_specs: {main: {}}")
    rules = {"rules": [{"id": "r", "message": "m"} | rule]}
    (role / "vars" / "preflight.yml").write_text(yaml.safe_dump(rules))
    (found,) = inspect({}, roles=["odd"], directory=tmp_path)
    assert found.startswith("r: rule odd.r cannot be evaluated: ")
    if message:
        assert found == f"r: rule odd.r cannot be evaluated: {message}."


@pytest.mark.parametrize(
    "rule",
    [
        {"that": "__sum <= 12"},
        {"that": "__nothing is none", "when": "__sum == 12"},
        {"that": "item != 'x'", "loop": "__texts"},
        {"that": r"""'a"b' is search('[\'"]')"""},
        {"that": r"'a.b' is match('a[.]b$') and 'a\\b' | length == 3"},
    ],
)
def test_values_keep_their_types_and_backslashes_their_meaning(
    inspect: Inspect, tmp_path: Path, rule: dict[str, str]
) -> None:
    """Only ansible-core before 2.19 makes text of numbers; the part `lowest` runs this with it."""
    files: dict[str, t.Any] = {
        "meta/argument_specs.yml": {"argument_specs": {"main": {}}},
        "vars/main.yml": {
            "__sum": "{{ 5 + 7 }}",
            "__nothing": "{{ none }}",
            "__texts": "{{ ['1', '01'] }}",
        },
        "vars/preflight.yml": {"rules": [{"id": "r", "message": "m"} | rule]},
    }
    for name, content in files.items():
        path = tmp_path / "typed" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content))
    assert inspect({}, roles=["typed"], directory=tmp_path) == []


def test_two_hundred_options_of_eight_roles_take_less_than_a_second(
    inspect: Inspect, tmp_path: Path
) -> None:
    names = [f"role{number}" for number in range(8)]
    for name in names:
        options = {
            f"{name}_option{index}": {"type": "int", "default": index} for index in range(25)
        }
        defaults = {option: f"{{{{ {index} + 0 }}}}" for index, option in enumerate(options)}
        rules = [
            {"id": option, "that": f"{option} | int < 99", "message": "m"}
            for option in list(options)[::3]
        ]
        for file, content in (
            ("meta/argument_specs.yml", {"argument_specs": {"main": {"options": options}}}),
            ("defaults/main.yml", defaults),
            ("vars/preflight.yml", {"rules": rules}),
        ):
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml.safe_dump(content))
    taken = []
    for _attempt in range(3):  # a busy machine slows any one of them
        start = time.process_time()
        assert inspect({}, roles=names, directory=tmp_path) == []
        taken.append(time.process_time() - start)
    assert min(taken) < 1


@pytest.mark.parametrize(
    ("problems", "text"),
    [
        ([Problem("a", "A.")], "1 problem for h1, nothing was changed:\n1. A."),
        (
            [Problem("a", "A."), Problem("b", "B.")],
            "2 problems for h1, nothing was changed:\n1. A.\n2. B.",
        ),
    ],
)
def test_the_summary_counts_and_numbers(problems: list[Problem], text: str) -> None:
    assert summary("h1", problems) == text
