from __future__ import annotations

import pathlib
import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.vedfolnir.stack.plugins.filter.filter_requirements import (
    FilterModule,
    filter_requirements,
)

Rules = dict[str, list[dict[str, str]]]
TORCH: Rules = {"drop": [{"name": "Torch", "reason": "never imported"}]}


def rules(key: str, *names: str) -> Rules:
    return {key: [{"name": name, "reason": "because"} for name in names]}


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("torch", "torch"),
        ("torch>=2.0,<3 # vision", "torch"),
        ("Torch[cuda] == 2.1 ; python_version < '3.13'", "torch"),
        ("torch==2.1 --hash=sha256:aa --hash=sha256:bb", "torch"),
        ("torch==2.1 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb", "torch"),
        ("torch @ https://example.org/torch-2.1.tar.gz", "torch"),
        ("-e git+https://example.org/torch.git#egg=torch", "torch"),
        ("https://example.org/torch-2.1-py3-none-any.whl", "torch"),
    ],
)
def test_a_rule_drops_every_form_of_a_requirement(line: str, name: str) -> None:
    report = filter_requirements(f"# web\nflask\n{line}\n", TORCH)
    assert report["requirements"] == "# web\nflask\n"
    assert report["kept"] == ["flask"]
    assert report["dropped"] == [{"name": name, "line": line, "reason": "never imported"}]
    assert report["unused_rules"] == []


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        ("flask_socketio", "Flask-SocketIO"),
        ("Flask.SocketIO", "flask_socketio>=5"),
        ("pyobjc*", "pyobjc-framework-Cocoa"),
        ("PyObjC_framework*", "pyobjc-framework-Cocoa"),
    ],
)
def test_names_are_compared_as_pep_503_says(rule: str, line: str) -> None:
    assert filter_requirements(line, rules("drop", rule))["requirements"] == ""


@pytest.mark.parametrize(
    "line",
    [
        "torchvision>=0.1",
        "flask; sys_platform == 'linux'",
        "flask; python_version < '3.12'",
        "flask; platform_machine == 'aarch64'",
        "--index-url https://example.org/simple",
        "--no-binary :all:",
        "./vendored/thing",
        "# torch is gone",
        "",
    ],
)
def test_other_lines_are_kept_as_they_are(line: str) -> None:
    report = filter_requirements(f"{line}\nclick\n", TORCH)
    assert report["requirements"] == f"{line}\nclick\n"
    assert report["dropped"] == []
    assert report["unused_rules"] == ["Torch"]


@pytest.mark.parametrize(
    ("line", "name", "reason"),
    [
        (
            "appnope; sys_platform == 'darwin'",
            "appnope",
            'only for another platform: sys_platform == "darwin"',
        ),
        (
            "x; platform_system=='Darwin' and python_version>'3'",
            "x",
            'only for another platform: platform_system == "Darwin" and python_version > "3"',
        ),
        (
            "old; python_version < '3.8'",
            "old",
            'only for another platform: python_version < "3.8"',
        ),
        ("-c pins.txt", "pins.txt", "constraints come with the deployment"),
    ],
)
def test_what_means_nothing_on_debian_is_dropped_without_a_rule(
    line: str, name: str, reason: str
) -> None:
    report = filter_requirements(line, {})
    assert report["requirements"] == ""
    assert report["dropped"] == [{"name": name, "line": line, "reason": reason}]


@pytest.mark.parametrize(
    ("text", "wanted", "result"),
    [
        ("flask", "prometheus-client", "flask\nprometheus-client\n"),
        ("gunicorn>=20", "gunicorn", "gunicorn>=20\n"),
        ("gunicorn>=20", "gunicorn[eventlet]", "gunicorn>=20\ngunicorn[eventlet]\n"),
        ("gunicorn[eventlet]", "gunicorn[eventlet]", "gunicorn[eventlet]\n"),
        ("gunicorn", "gunicorn<24", "gunicorn\ngunicorn<24\n"),
    ],
)
def test_additions_complete_the_set_without_repeating_it(
    text: str, wanted: str, result: str
) -> None:
    assert filter_requirements(text, rules("add", wanted))["requirements"] == result


def test_development_requirements_are_a_set_of_their_own() -> None:
    report = filter_requirements("flask\npytest>=8\n", rules("development", "pytest", "debugpy"))
    assert report["requirements"] == "flask\n"
    assert report["development_requirements"] == "pytest>=8\ndebugpy\n"
    assert report["development"] == [
        {"name": "pytest", "line": "pytest>=8", "reason": "because"},
        {"name": "debugpy", "line": "debugpy", "reason": "because"},
    ]


@pytest.mark.parametrize(
    ("text", "constraints", "unpinned"),
    [
        ("flask", "", ["flask"]),
        ("flask==3.1.0", "", []),
        ("flask==3.*", "", ["flask"]),
        ("flask===3.1.0", "", []),
        ("flask>=2\nSQLAlchemy", "Flask==3.1.0  # why\nsqlalchemy>=2", ["sqlalchemy"]),
        ("flask @ https://example.org/flask.tar.gz", "", []),
    ],
)
def test_what_no_one_pins_is_reported(text: str, constraints: str, unpinned: list[str]) -> None:
    assert filter_requirements(text, {}, constraints)["unpinned"] == unpinned


def test_included_files_are_found_beside_the_one_that_includes_them(tmp_path: pathlib.Path) -> None:
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets/base.txt").write_text("-r web.txt\nclick\n-r ../more.txt\n")
    (tmp_path / "sets/web.txt").write_text("flask\ntorch\n")
    (tmp_path / "more.txt").write_text("redis")
    text = "--requirement=sets/base.txt  # all\nrq"
    report = filter_requirements(text, TORCH, path=f"{tmp_path}/requirements.txt")
    assert report["requirements"] == "flask\nclick\nredis\nrq\n"
    assert [entry["name"] for entry in report["dropped"]] == ["torch"]


@pytest.mark.parametrize(
    ("included", "message"),
    [
        (
            {},
            "{0}/main.txt line 2 includes 'base.txt', but {0}/base.txt: No such file or directory",
        ),
        (
            {"base.txt": "click\n\n-r web.txt\n"},
            "{0}/base.txt line 3 includes 'web.txt', but {0}/web.txt: No such file or directory",
        ),
        (
            {"base.txt": "-r ./main.txt"},
            "{0}/base.txt line 1 includes './main.txt', which includes itself",
        ),
        ({"base.txt": "foo bar"}, "{0}/base.txt line 1: 'foo bar' is no requirement: "),
    ],
)
def test_a_bad_include_is_refused_with_its_place(
    included: dict[str, str], message: str, tmp_path: pathlib.Path
) -> None:
    for name, text in included.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(AnsibleFilterError) as error:
        filter_requirements("flask\n-r base.txt", {}, path=f"{tmp_path}/main.txt")
    assert str(error.value).startswith(f"filter_requirements: {message.format(tmp_path)}")


@pytest.mark.parametrize(
    ("text", "wanted", "result"),
    [
        ("flask", "# imported\nredis\n", "flask\nrq<3\nredis\n"),
        ("Redis>=4", "redis", "Redis>=4\nrq<3\n"),
        ("redis>=4", "redis>=5", "redis>=4\nrq<3\nredis>=5\n"),
        ("redis>=4; sys_platform == 'darwin'", "redis", "rq<3\nredis\n"),
        ("pytest", "pytest", "rq<3\npytest\n"),
        ("flask", "rq", "flask\nrq<3\n"),
    ],
)
def test_what_the_deployment_needs_is_there_once(text: str, wanted: str, result: str) -> None:
    given = rules("development", "pytest") | rules("add", "rq<3")
    assert filter_requirements(text, given, needed=wanted)["requirements"] == result


def test_what_the_deployment_needs_is_reported_as_added() -> None:
    report = filter_requirements("flask", {}, needed="redis>=5")
    assert report["added"] == [
        {"name": "redis", "line": "redis>=5", "reason": "the deployment itself needs it"}
    ]


def test_no_rule_drops_what_the_deployment_needs() -> None:
    with pytest.raises(AnsibleFilterError) as error:
        filter_requirements("flask", rules("drop", "red*"), needed="flask\nredis>=5")
    assert str(error.value) == (
        "filter_requirements: the rule that drops 'red*' (because) takes 'redis>=5', which the "
        "deployment itself needs; remove it"
    )


@pytest.mark.parametrize(
    ("text", "given", "message"),
    [
        (
            "flask\nfoo bar",
            {},
            "requirements line 2: 'foo bar' is no requirement: Expected semicolon",
        ),
        ("", {"drop": [{"name": "x"}]}, "every rule of drop must have a name and a reason"),
        ("", {"dorp": []}, "rules must be a dictionary of drop, add, development"),
        ("", rules("add", "a b"), "'a b' is no requirement: "),
    ],
)
def test_bad_input_is_refused_with_place_and_reason(text: str, given: Rules, message: str) -> None:
    with pytest.raises(AnsibleFilterError) as error:
        filter_requirements(text, given)
    assert str(error.value).startswith(f"filter_requirements: {message}")


def test_something_else_than_a_text_is_refused() -> None:
    nonsense: t.Any = ["flask"]
    with pytest.raises(AnsibleFilterError, match="expects the text of a file, got list"):
        filter_requirements(nonsense, {})


def test_the_filter_has_its_name() -> None:
    assert FilterModule().filters() == {"filter_requirements": filter_requirements}
