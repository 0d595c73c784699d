# Copyright: the vedfolnir.stack maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dependency rule: which requirements of the application go into the image."""

from __future__ import annotations

DOCUMENTATION = r"""
name: filter_requirements
short_description: Apply the dependency rule to a requirements file
version_added: 0.1.0
author: The vedfolnir.stack maintainers (@vedfolnir)
description:
  - Drops requirements that a rule names and those whose marker excludes every Debian host, moves
    others to the development set, adds what is missing, and reports all of it.
  - Lines with C(-c) are dropped, because O(constraints_text) takes their place.
  - Lines are kept as they are, comments, hashes, markers and URLs included.
positional: _input, rules, constraints_text, path, needed
options:
  _input:
    description: The text of a requirements file.
    type: str
    required: true
  rules:
    description:
      - A dictionary with the lists C(drop), C(add) and C(development) of C({name, reason}).
      - Names to drop may have wildcards (C(pyobjc-*)); names to add may be full requirements.
      - A C(development) requirement of the text leaves the production set; others are added.
    type: dict
    required: true
  constraints_text:
    description: The text of the constraints file that goes with it.
    type: str
    default: ""
  path:
    description:
      - The file on the controller that the text is from. Files that C(-r) lines name are read from
        there, each relative to the file that names it.
    type: str
    default: requirements
  needed:
    description:
      - The text of requirements that the deployment itself cannot do without. What of them is
        missing is added, and a rule that drops one is refused.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Apply the dependency rule
  ansible.builtin.set_fact:
    __app_dependencies: >-
      {{ text | vedfolnir.stack.filter_requirements(rules, constraints_text=constraints) }}
  vars:
    text: |
      flask>=2.0
      torch>=2.0
    constraints: flask==3.1.0
    rules:
      drop: [{name: torch, reason: never imported}]
      add: [{name: prometheus-client, reason: request metrics}]
      development: [{name: debugpy, reason: debugger}]
"""

RETURN = r"""
_value:
  description: The two sets and the report.
  type: dict
  contains:
    requirements:
      description: Text of the production set.
      type: str
    development_requirements:
      description: Text of what development needs in addition.
      type: str
    kept:
      description: Names that stay.
      type: list
      elements: str
    dropped:
      description: What was dropped, as C({name, line, reason}).
      type: list
      elements: dict
    added:
      description: What was added, as C({name, line, reason}).
      type: list
      elements: dict
    development:
      description: What is in the development set, as C({name, line, reason}).
      type: list
      elements: dict
    unpinned:
      description: Names that neither their line nor a constraint holds to one version.
      type: list
      elements: str
    unused_rules:
      description: Names to drop that the text does not have.
      type: list
      elements: str
"""

import dataclasses
import fnmatch
import re
import typing as t
from collections.abc import Iterable, Iterator, Mapping

from ansible.errors import AnsibleFilterError
from ansible_collections.vedfolnir.stack.plugins.plugin_utils.requirement_lines import (
    Line,
    RequirementsError,
    parse,
    parse_one,
)

_LISTS = ("drop", "add", "development")
_Rules = dict[str, dict[str, str]]


def filter_requirements(
    text: str,
    rules: Mapping[str, t.Any],
    constraints_text: str = "",
    path: str = "requirements",
    needed: str = "",
) -> dict[str, t.Any]:
    """Return the production and development sets with a report of what changed and why."""
    if not isinstance(text, str):
        kind = type(text).__name__
        raise AnsibleFilterError(f"filter_requirements expects the text of a file, got {kind}")
    try:
        lines = parse(text, path)
        pins = {line.name for line in parse(constraints_text, "constraints") if line.exact}
        sets = _Sets(
            **{key: _rules(rules, key) for key in _LISTS},
            needed=[line for line in parse(needed, "needed") if line.name],
        )
        return sets.report(lines, pins)
    except RequirementsError as error:
        raise AnsibleFilterError(f"filter_requirements: {error}") from None


def _rules(rules: Mapping[str, t.Any], key: str) -> _Rules:
    """Return one list of rules by canonical name, refusing anything misspelt."""
    if not isinstance(rules, Mapping) or set(rules) - set(_LISTS):
        raise RequirementsError(f"rules must be a dictionary of {', '.join(_LISTS)}")
    found: _Rules = {}
    for rule in rules.get(key) or []:
        if not isinstance(rule, Mapping) or set(rule) != {"name", "reason"}:
            raise RequirementsError(f"every rule of {key} must have a name and a reason: {rule}")
        text = str(rule["name"])
        wild = key == "drop" and any(char in text for char in "*?[")
        name = re.sub(r"[._]", "-", text.lower()) if wild else parse_one(text).name
        found[str(name)] = {"text": text, "reason": str(rule["reason"])}
    return found


@dataclasses.dataclass(frozen=True)
class _Sets:
    """The rules, ready to be applied."""

    drop: _Rules
    add: _Rules
    development: _Rules
    needed: list[Line]

    def __post_init__(self) -> None:
        """Refuse a rule against what is needed."""
        for line in self.needed:
            rule, reason = self._reason_to_drop(line)
            if rule:
                raise RequirementsError(
                    f"the rule that drops '{self.drop[rule]['text']}' ({reason}) takes"
                    f" '{line.text}', which the deployment itself needs; remove it"
                )

    def report(self, lines: Iterable[Line], pins: Iterable[str | None]) -> dict[str, t.Any]:
        """Sort every line into one set."""
        kept: list[Line] = []
        dropped: list[dict[str, str]] = []
        moved: dict[str, Line] = {}
        used: set[str] = set()
        for line in lines:
            rule, reason = self._reason_to_drop(line)
            if reason:
                used.add(rule)
                dropped.append(_entry(line, reason))
            elif line.name in self.development:
                moved[line.name] = line
            else:
                kept.append(line)
        added = list(self._missing(kept))
        extra = {name: parse_one(rule["text"]) for name, rule in self.development.items()} | moved
        production = [*kept, *(line for line, _reason in added)]
        everything = [*production, *extra.values()]
        free = {line.name for line in everything if line.name and not line.exact} - set(pins)
        return {
            "requirements": _text(production),
            "development_requirements": _text(extra.values()),
            "kept": [line.name for line in kept if line.name],
            "dropped": dropped,
            "added": [_entry(line, reason) for line, reason in added],
            "development": [
                _entry(line, self.development[name]["reason"]) for name, line in extra.items()
            ],
            "unpinned": sorted(str(name) for name in free),
            "unused_rules": [rule["text"] for name, rule in self.drop.items() if name not in used],
        }

    def _reason_to_drop(self, line: Line) -> tuple[str, str]:
        """Return the rule that drops a line and why; a foreign platform needs no rule."""
        if line.name:
            for name, rule in self.drop.items():
                if fnmatch.fnmatchcase(line.name, name):
                    return name, rule["reason"]
        return "", line.useless

    def _missing(self, kept: Iterable[Line]) -> Iterator[tuple[Line, str]]:
        """Yield what to add, not there yet or without the extras or version asked for, and why."""
        there = {str(line.name): line for line in kept}
        for line, reason in self._wanted():
            if not _covers(there.get(str(line.name)), line):
                there[str(line.name)] = line
                yield line, reason

    def _wanted(self) -> Iterator[tuple[Line, str]]:
        for rule in self.add.values():
            yield parse_one(rule["text"]), rule["reason"]
        for line in self.needed:
            yield line, "the deployment itself needs it"


def _covers(there: Line | None, wanted: Line) -> bool:
    if there is None or wanted.requirement is None or wanted.requirement.specifier:
        return False
    has = there.requirement.extras if there.requirement else set()
    return wanted.requirement.extras <= has


def _entry(line: Line, reason: str) -> dict[str, str]:
    return {"name": str(line.name), "line": line.text.strip(), "reason": reason}


def _text(lines: Iterable[Line]) -> str:
    return "".join(f"{line.text}\n" for line in lines)


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filter by its name."""
        return {"filter_requirements": filter_requirements}
