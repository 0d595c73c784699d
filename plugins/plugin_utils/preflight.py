# Copyright: the vedfolnir.stack maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collect everything that is wrong with an inventory in one pass."""

from __future__ import annotations

import dataclasses
import re
import typing as t
from collections.abc import Collection, Iterable, Iterator, Mapping

from ansible_collections.vedfolnir.stack.plugins.plugin_utils.preflight_data import (
    Problem,
    Role,
    Rule,
    identifiers,
)
from ansible_collections.vedfolnir.stack.plugins.plugin_utils.preflight_names import (
    unknown_variables,
)
from ansible_collections.vedfolnir.stack.plugins.plugin_utils.preflight_templates import (
    EvaluationError,
    Evaluator,
)
from ansible_collections.vedfolnir.stack.plugins.plugin_utils.preflight_values import (
    check_value,
    missing_value,
    secret_values,
)

# Huge and never an option's source; following them would cost seconds.
_OPAQUE = frozenset(("hostvars", "vars", "groups", "environment", "ansible_facts"))
_SHORTEST_MASKED = 4
_MASK = "********"


@dataclasses.dataclass
class Inspection:
    """The roles to check, the operator's variables and what was found so far."""

    roles: list[Role]
    all_roles: Collection[str]
    variables: Mapping[str, t.Any]
    templar: t.Any
    deferred: frozenset[str] = frozenset()
    problems: list[Problem] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        """Lay the operator's variables over what the roles themselves bring."""
        fallback = {name: raw for role in self.roles for name, raw in role.fallback.items()}
        self._scope = {**fallback, **self.variables}
        self._evaluator = Evaluator(self.templar, self._scope)
        self._secret = {
            name for role in self.roles for name, spec in role.options.items() if spec.get("no_log")
        }
        self._options = {name for role in self.roles for name in role.known}
        self._missing = {
            name
            for role in self.roles
            for name, spec in role.options.items()
            if spec.get("required") and name not in self._scope
        }
        self._reach: dict[str, frozenset[str]] = {}
        self._masked: set[str] = set()

    def run(self) -> list[Problem]:
        """Return all problems, sorted by variable, with secret values masked."""
        roles = {role.name: role for role in self.roles}
        self.problems = unknown_variables(self.variables, roles, self.all_roles)
        for role in self.roles:
            for name, spec in role.options.items():
                self.problems += (Problem(name, text) for text in self._option(name, spec))
        invalid = {problem.variable for problem in self.problems}
        for role in self.roles:
            for rule in role.rules:
                self.problems += self._rule(rule, invalid)
        return sorted({Problem(p.variable, self._mask(p.message)) for p in self.problems})

    def _option(self, name: str, spec: Mapping[str, t.Any]) -> list[str]:
        if name not in self._scope:
            return [missing_value(name, spec)] if name in self._missing else []
        reach = self._reachable([name])
        if reach & (self.deferred | self._missing):
            return []
        hide = bool(reach & self._secret)
        try:
            value = self._evaluator.value(self._scope[name])
        except EvaluationError as error:
            return [f"{name} cannot be resolved: {error}."]
        self._masked.update(secret_values(spec, value))
        return check_value(name, spec, value, hide=hide)

    def _rule(self, rule: Rule, invalid: Collection[str]) -> Iterator[Problem]:
        """Check one rule, unless a variable it needs is already known to be wrong."""
        reach = self._reachable(rule.names)
        if reach & self.deferred or not reach.isdisjoint(invalid):
            return
        about = rule.variable or next((n for n in rule.names if n in self._options), rule.id)
        try:
            for local in self._items(rule):
                if self._broken(rule, local):
                    yield Problem(about, self._evaluator.text(rule.message, local).strip())
        except EvaluationError as error:
            text = f"{about}: rule {rule.role}.{rule.id} cannot be evaluated: {error}."
            yield Problem(about, text)

    def _items(self, rule: Rule) -> list[dict[str, t.Any]]:
        if not rule.loop:
            return [{}]
        items = self._evaluator.expression(rule.loop)
        if not isinstance(items, list):
            raise EvaluationError(f"loop '{rule.loop}' gives no list")
        return [{"item": item} for item in items]

    def _broken(self, rule: Rule, local: Mapping[str, t.Any]) -> bool:
        if rule.when and not self._evaluator.condition(rule.when, local):
            return False
        return not all(self._evaluator.condition(part, local) for part in rule.that)

    def _reachable(self, names: Iterable[str]) -> frozenset[str]:
        """Return the names and, through their templates, every name they depend on."""
        seen: set[str] = set()
        queue = list(names)
        while queue:
            name = queue.pop()
            if name not in seen:
                seen.add(name)
                queue += self._direct(name)
        return frozenset(seen)

    def _direct(self, name: str) -> frozenset[str]:
        if name not in self._reach:
            opaque = name in _OPAQUE or name not in self._scope
            found = set() if opaque else identifiers(self._scope[name])
            self._reach[name] = frozenset(
                found & (self._scope.keys() | self._missing | self.deferred)
            )
        return self._reach[name]

    def _mask(self, message: str) -> str:
        """Cut secret values out of a message, but not out of a variable's name."""
        for value in self._masked:
            if len(value) >= _SHORTEST_MASKED:
                message = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", _MASK, message)
        return message


def summary(host: str, problems: Collection[Problem]) -> str:
    """Return the one message that shows all problems of a host."""
    count = f"{len(problems)} problem{'' if len(problems) == 1 else 's'}"
    lines = (f"{number}. {problem.message}" for number, problem in enumerate(problems, 1))
    return "\n".join((f"{count} for {host}, nothing was changed:", *lines))
