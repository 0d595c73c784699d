"""Defaults, argument specs and what the code reads are one truth."""

from __future__ import annotations

import ast
import functools
import re
import typing as t
from collections.abc import Iterator
from pathlib import Path

import gate_repo
import jinja2
import jinja2.meta
import pytest
from ansible_collections.vedfolnir.stack.plugins.plugin_utils.preflight_names import owner
from ansible_collections.vedfolnir.stack.plugins.plugin_utils.preflight_values import check_value

ROLES = gate_repo.roles()
EACH_ROLE = pytest.mark.parametrize("role", ROLES)
_SETTERS = ("ansible.builtin.set_fact", "set_fact")
_DECLARE = ("defaults", "meta", "docs")


def entries(role: str) -> dict[str, t.Any]:
    """Return the entry points of a role's argument specs."""
    path = Path("roles") / role / "meta" / "argument_specs.yml"
    assert path in gate_repo.files(), f"{path} is missing"
    found: dict[str, t.Any] = gate_repo.load(path)["argument_specs"]
    return found


def options(role: str) -> dict[str, dict[str, t.Any]]:
    """Return the options of all entry points."""
    return {
        name: spec
        for entry in entries(role).values()
        for name, spec in (entry.get("options") or {}).items()
    }


def nested(name: str, spec: dict[str, t.Any]) -> Iterator[tuple[str, dict[str, t.Any]]]:
    """Yield an option and everything inside it."""
    yield name, spec
    for key, sub in (spec.get("options") or {}).items():
        yield from nested(f"{name}.{key}", sub)


def test_there_are_roles() -> None:
    assert ROLES


@EACH_ROLE
def test_every_option_has_the_same_default_in_both_files(role: str) -> None:
    specified = {name: spec["default"] for name, spec in options(role).items() if "default" in spec}
    defaults = gate_repo.role_main(role, "defaults")
    assert specified == defaults


@EACH_ROLE
def test_entry_points_agree_on_an_option(role: str) -> None:
    for entry, content in entries(role).items():
        for name, spec in (content.get("options") or {}).items():
            assert spec == options(role)[name], f"{name} differs in entry point {entry}"


@EACH_ROLE
def test_an_option_has_a_default_or_is_required(role: str) -> None:
    both = [n for n, spec in options(role).items() if spec.get("required") and "default" in spec]
    none = [n for n, s in options(role).items() if not s.get("required") and "default" not in s]
    # Arguments that a shared step is called with have no place in a defaults file.
    none = [name for name in none if role != "common"]
    assert (both, none) == ([], [])


@EACH_ROLE
def test_every_option_is_described(role: str) -> None:
    wrong = []
    for option, content in options(role).items():
        for name, spec in nested(option, content):
            if not spec.get("description"):
                wrong.append(f"{name} has no description")
            if "type" not in spec:
                wrong.append(f"{name} has no type")
            if spec.get("type") == "list" and "elements" not in spec:
                wrong.append(f"{name} is a list without elements")
            if spec.get("no_log") and spec.get("choices"):
                wrong.append(f"{name} is secret, but its choices would be shown")
    assert wrong == []


@EACH_ROLE
def test_defaults_have_the_type_they_promise(role: str) -> None:
    wrong = []
    for name, spec in options(role).items():
        value = spec.get("default")
        if "default" in spec and "{{" not in str(value):
            wrong += check_value(name, spec, value)
    assert wrong == []


@EACH_ROLE
def test_names_carry_the_role(role: str) -> None:
    wrong = [name for name in options(role) if owner(name, ROLES) != role]
    wrong += [
        name
        for name in gate_repo.role_main(role, "vars")
        if not name.startswith((f"__{role}_", f"{role}_"))
    ]
    assert wrong == []


@EACH_ROLE
def test_every_entry_point_has_its_tasks(role: str) -> None:
    there = {path.stem for path in gate_repo.matching(f"roles/{role}/tasks/*.yml")}
    assert set(entries(role)) - there == set()


@functools.cache
def read_words(role: str | None = None) -> frozenset[str]:
    """Return the words of all that can read an option, but not of what only declares or judges it.

    With a role, its own files and the code that all roles share; comments, documentation and the
    titles of tasks read nothing.
    """
    texts: list[str] = []
    for path in gate_repo.files():
        top = path.parts[0]
        if top not in ("roles", "plugins", "playbooks", "files"):
            continue
        if top == "roles" and role not in (None, path.parts[1]):
            continue
        if top == "roles" and path.parts[2] in _DECLARE:
            # A default that is computed from another option does read that one.
            texts += _templates_in_defaults(path)
        elif path.parts[-2:] == ("vars", "preflight.yml"):
            texts += _relations(path)
        elif path.parts[-2:] != ("vars", "removed.yml"):
            texts += code_of(path, gate_repo.text(path) or "")
    return frozenset(word for text in texts for word in re.findall(r"\w+", text))


def code_of(path: Path, text: str) -> list[str]:
    """Return the parts of a file that a machine acts on."""
    return _READERS[path.suffix](text) if path.suffix in _READERS else [text]


def _yaml_code(text: str) -> list[str]:
    return list(_texts(gate_repo.load_text(text)))


def _template_code(text: str) -> list[str]:
    return re.findall(r"\{\{.*?\}\}|\{%.*?%\}", re.sub(r"(?s)\{#.*?#\}", "", text), re.DOTALL)


class _Undocumented(ast.NodeTransformer):
    """Drop texts that are there for people: docstrings and the documentation of plugins."""

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        return ast.Pass() if isinstance(node.value, ast.Constant) else node

    def visit_Assign(self, node: ast.Assign) -> ast.stmt:
        return ast.Pass() if ast.unparse(node.targets[0]) in _DOCUMENTS else node


def _python_code(text: str) -> list[str]:
    return [ast.unparse(_Undocumented().visit(ast.parse(text)))]


def _shell_code(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.lstrip().startswith("#")]


_DOCUMENTS = ("DOCUMENTATION", "EXAMPLES", "RETURN")
_READERS: dict[str, t.Callable[[str], list[str]]] = {
    ".yml": _yaml_code,
    ".j2": _template_code,
    ".py": _python_code,
    ".sh": _shell_code,
    ".md": lambda _text: [],
}


def _relations(path: Path) -> list[str]:
    """Return the rules that compare; one that only judges a single option does not use it."""
    names = {name for role in ROLES for name in options(role)} | {"ansible_facts"}
    rules = [" ".join(_texts(rule)) for rule in gate_repo.load(path)["rules"]]
    return [rule for rule in rules if len(names & set(re.findall(r"\w+", rule))) > 1]


def _templates_in_defaults(path: Path) -> list[str]:
    if path.parts[2] != "defaults":
        return []
    return [text for text in _texts(gate_repo.load(path)) if "{{" in text]


@EACH_ROLE
def test_every_option_is_read_somewhere(role: str) -> None:
    assert sorted(set(options(role)) - read_words()) == []


@EACH_ROLE
def test_every_key_inside_an_option_is_read_somewhere(role: str) -> None:
    unread = [
        name
        for option, spec in options(role).items()
        for name, _spec in nested(option, spec)
        if "." in name and name.rpartition(".")[2] not in read_words(role)
    ]
    assert unread == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("main.yml", "- name: Set x_option\n  debug:\n    msg: y # x_option\n"),
        ("x.conf.j2", "# x_option\n{# {{ x_option }} #}\n"),
        ("x.py", 'DOCUMENTATION = "x_option"\n\ndef f():\n    """x_option."""  # x_option\n'),
        ("x.sh", "  # x_option\ntrue\n"),
        ("x.md", "`x_option`\n"),
    ],
)
def test_a_mention_is_no_reading(name: str, text: str) -> None:
    assert "x_option" not in " ".join(code_of(Path(name), text))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("main.yml", "- name: Set {{ x_option }}\n"),
        ("main.yml", "- when: x_option | bool\n"),
        ("x.conf.j2", "a {{ x_option }}\n{% if b %}{% endif %}\n"),
        ("x.conf.j2", "{% for a in\n  x_option %}{% endfor %}\n"),
        ("x.py", 'def f(a):\n    return a["x_option"]\n'),
        ("x.sh", "echo $x_option\n"),
    ],
)
def test_a_reading_is_noticed(name: str, text: str) -> None:
    assert "x_option" in " ".join(code_of(Path(name), text))


def _texts(value: t.Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, part in value.items():
            # The title of a task reads only what it shows.
            title = key == "name" and isinstance(part, str)
            yield from _template_code(part) if title else _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)


def _mappings(value: t.Any) -> Iterator[dict[str, t.Any]]:
    if isinstance(value, dict):
        yield value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        yield from _mappings(part)


def made_by_tasks() -> set[str]:
    """Return the names that tasks register, set or hand over."""
    names: set[str] = set()
    for path in gate_repo.matching("roles/**/*.yml", "playbooks/*.yml"):
        if "tasks" not in path.parts and path.parts[0] != "playbooks":
            continue
        for mapping in _mappings(gate_repo.load(path)):
            names.update(mapping.get("vars") or {})
            names.update(*(mapping.get(key) or {} for key in _SETTERS))
            control = mapping.get("loop_control") or {}
            names.update(filter(None, (mapping.get("register"), control.get("loop_var"))))
    return names


class _AnyName(dict[str, t.Any]):
    """Filters and tests are Ansible's business; here only variables count."""

    def __contains__(self, _name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return name

    def get(self, name: str, _default: t.Any = None) -> t.Any:
        return name


@EACH_ROLE
def test_every_option_that_is_read_exists(role: str) -> None:
    known = made_by_tasks()
    for name in ROLES:
        known |= set(options(name)) | set(gate_repo.role_main(name, "vars"))
    environment = jinja2.Environment(autoescape=True, extensions=["jinja2.ext.do"])
    environment.filters = environment.tests = _AnyName()
    wrong = set()
    for path in gate_repo.matching(f"roles/{role}/**/*.yml", f"roles/{role}/**/*.j2"):
        texts = (
            [gate_repo.text(path) or ""] if path.suffix == ".j2" else _texts(gate_repo.load(path))
        )
        for text in texts:
            if isinstance(text, gate_repo.Unsafe) or ("{{" not in text and "{%" not in text):
                continue
            for name in jinja2.meta.find_undeclared_variables(environment.parse(text)):
                if owner(name.removeprefix("__"), ROLES) and name not in known:
                    wrong.add(f"{path}: {name}")
    assert sorted(wrong) == []
