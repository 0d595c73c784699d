# Copyright: the vedfolnir.stack maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What preflight knows about the collection's roles, read from their own files."""

from __future__ import annotations

import dataclasses
import re
import typing as t
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

Load = Callable[[Path], t.Any]
Spec = Mapping[str, t.Any]

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RULE_KEYS = frozenset(("id", "when", "that", "message", "loop", "variable"))


class PreflightError(Exception):
    """A defect of the collection itself, not of the inventory."""


@dataclasses.dataclass(frozen=True, order=True)
class Problem:
    """One thing an operator has to change, and the variable it is about."""

    variable: str
    message: str


@dataclasses.dataclass(frozen=True)
class Removed:
    """An option that older releases had."""

    old: str
    new: str
    since: str
    hint: str = ""
    """A sentence about what takes its place."""
    harmless: t.Any = None
    """The value that asks for what is so in any case now; it is accepted."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """A relation between options and facts that must hold before anything changes."""

    role: str
    id: str
    that: tuple[str, ...]
    message: str
    when: str = ""
    loop: str = ""
    variable: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Every name the rule mentions, in reading order, without repeats."""
        text = " ".join((*self.that, self.when, self.loop, self.message))
        return tuple(dict.fromkeys(_IDENTIFIER.findall(text)))


@dataclasses.dataclass(frozen=True)
class Role:
    """The options, rules and fallback values of one role."""

    name: str
    options: Mapping[str, Spec]
    known: frozenset[str]
    removed: Mapping[str, Removed]
    rules: tuple[Rule, ...]
    fallback: Mapping[str, t.Any]


def identifiers(value: object) -> set[str]:
    """Return the names that the templates inside a value mention."""
    if isinstance(value, str):
        return set(_IDENTIFIER.findall(value)) if "{{" in value or "{%" in value else set()
    if isinstance(value, Mapping):
        return {name for part in value.values() for name in identifiers(part)}
    if isinstance(value, (list, tuple)):
        return {name for part in value for name in identifiers(part)}
    return set()


def role_names(directory: Path) -> list[str]:
    """Return the names of all roles of the collection."""
    return sorted(path.parent.parent.name for path in directory.glob("*/meta/argument_specs.yml"))


def load_role(directory: Path, load: Load) -> Role:
    """Read one role's argument specs, fallback values, removed options and rules."""
    name = directory.name
    specs = _mapping(directory / "meta" / "argument_specs.yml", load).get("argument_specs")
    if not isinstance(specs, Mapping) or "main" not in specs:
        raise PreflightError(f"role {name} has no argument spec for the entry point main")
    defaults = _main(directory / "defaults", load)
    internal = _main(directory / "vars", load)
    removed = _mapping(directory / "vars" / "removed.yml", load).get("removed") or []
    rules = _mapping(directory / "vars" / "preflight.yml", load).get("rules") or []
    known = {option for entry in specs.values() for option in entry.get("options") or {}}
    return Role(
        name=name,
        options=specs["main"].get("options") or {},
        known=frozenset(known | set(internal)),
        removed={row["old"]: _removed(row) for row in removed},
        rules=tuple(_rule(name, row) for row in rules),
        fallback={**defaults, **internal},
    )


def load_roles(names: Iterable[str], directory: Path, load: Load) -> list[Role]:
    """Read the named roles, refusing names that the collection does not have."""
    there = role_names(directory)
    roles = []
    for name in names:
        if name not in there:
            raise PreflightError(
                f"no role {name} with argument specs; there are {', '.join(there) or 'none'}"
            )
        roles.append(load_role(directory / name, load))
    return roles


def _main(directory: Path, load: Load) -> dict[str, t.Any]:
    """Read main.yml, or every file of a directory main/, as Ansible does."""
    files = [directory / "main.yml", *sorted((directory / "main").rglob("*.yml"))]
    return {name: raw for file in files for name, raw in _mapping(file, load).items()}


def _mapping(path: Path, load: Load) -> Mapping[str, t.Any]:
    """Read a file that may be missing or empty but otherwise holds a mapping."""
    content = load(path) if path.is_file() else None
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise PreflightError(
            f"{path.parent.parent.name}/{path.parent.name}/{path.name}: no mapping"
        )
    return content


def _removed(row: Mapping[str, t.Any]) -> Removed:
    texts = {key: str(row[key]) for key in ("old", "since")}
    extra = {key: row[key] for key in ("hint", "harmless") if key in row}
    return Removed(new=row.get("new") or "", **texts, **extra)


def _rule(role: str, row: Mapping[str, t.Any]) -> Rule:
    where = f"rule {role}.{row.get('id', '?')}"
    unknown = sorted(set(row) - _RULE_KEYS)
    missing = sorted({"id", "that", "message"} - set(row))
    if unknown or missing:
        raise PreflightError(f"{where}: unknown keys {unknown}, missing keys {missing}")
    that = row["that"] if isinstance(row["that"], list) else [row["that"]]
    # YAML turns a bare `when: true` into a boolean; Jinja reads it back the same way.
    texts = {key: str(row[key]) for key in ("when", "loop", "variable") if key in row}
    return Rule(
        role, str(row["id"]), tuple(str(part) for part in that), str(row["message"]), **texts
    )
