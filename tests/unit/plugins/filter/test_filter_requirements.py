from __future__ import annotations

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


def test_included_files_are_read_from_the_mapping() -> None:
    includes = {"base.txt": "-r web.txt\nclick", "web.txt": "flask"}
    report = filter_requirements("-r base.txt\nrq", {}, includes=includes)
    assert report["requirements"] == "flask\nclick\nrq\n"


@pytest.mark.parametrize(
    ("text", "given", "includes", "message"),
    [
        (
            "flask\n-r base.txt",
            {},
            {},
            "requirements line 2 includes 'base.txt'; pass its text as "
            "includes: {'base.txt': text}",
        ),
        (
            "-r a.txt",
            {},
            {"a.txt": "-r a.txt"},
            "a.txt line 1 includes 'a.txt', which includes itself",
        ),
        (
            "flask\nfoo bar",
            {},
            {},
            "requirements line 2: 'foo bar' is no requirement: Expected semicolon",
        ),
        ("", {"drop": [{"name": "x"}]}, {}, "every rule of drop must have a name and a reason"),
        ("", {"dorp": []}, {}, "rules must be a dictionary of drop, add, development"),
        ("", rules("add", "a b"), {}, "'a b' is no requirement: "),
    ],
)
def test_bad_input_is_refused_with_place_and_reason(
    text: str, given: Rules, includes: dict[str, str], message: str
) -> None:
    with pytest.raises(AnsibleFilterError) as error:
        filter_requirements(text, given, includes=includes)
    assert str(error.value).startswith(f"filter_requirements: {message}")


def test_something_else_than_a_text_is_refused() -> None:
    nonsense: t.Any = ["flask"]
    with pytest.raises(AnsibleFilterError, match="expects the text of a file, got list"):
        filter_requirements(nonsense, {})


def test_the_filter_has_its_name() -> None:
    assert FilterModule().filters() == {"filter_requirements": filter_requirements}
