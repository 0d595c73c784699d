# Copyright: the vedfolnir.stack maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find variables that look like a role's options but are none."""

from __future__ import annotations

import difflib
import typing as t
from collections.abc import Iterable, Mapping

from ansible_collections.vedfolnir.stack.plugins.plugin_utils.preflight_data import (
    Problem,
    Removed,
    Role,
)

COLLECTION = "vedfolnir.stack"


def owner(variable: str, roles: Iterable[str]) -> str | None:
    """Return the role whose prefix a variable carries; the longest prefix wins."""
    owners = [role for role in roles if variable.startswith(f"{role}_")]
    return max(owners, key=len, default=None)


def near(name: str, candidates: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the candidate that a misspelt name most probably means."""
    found = difflib.get_close_matches(name, sorted(candidates), n=1, cutoff=cutoff)
    return found[0] if found else None


def unknown_variables(
    variables: Mapping[str, t.Any], roles: Mapping[str, Role], all_roles: Iterable[str]
) -> list[Problem]:
    """Report every variable with a role's prefix that this role does not know."""
    names = list(all_roles)
    problems = []
    for variable, value in variables.items():
        role = roles.get(owner(variable, names) or "")
        if (
            role is None
            or variable in role.known
            or _is_harmless(value, role.removed.get(variable))
        ):
            continue
        problems.append(Problem(variable, _message(variable, role, roles.values())))
    return problems


def _is_harmless(value: t.Any, removed: Removed | None) -> bool:
    return removed is not None and removed.harmless is not None and removed.harmless == value


def _message(variable: str, role: Role, roles: Iterable[Role]) -> str:
    removed = role.removed.get(variable)
    if removed and removed.new:
        return f"{variable} was renamed to {removed.new} in {removed.since}."
    if removed:
        text = f"{variable} was removed in {removed.since}; delete it from the inventory."
        return f"{text} {removed.hint}".strip()
    intro = f"{variable} is not an option of {COLLECTION}.{role.name}"
    meant = _meant(variable, role, roles)
    if meant:
        return f"{intro}; did you mean {meant}?"
    return f"{intro}; `ansible-doc -t role {COLLECTION}.{role.name}` lists them."


def _meant(variable: str, role: Role, roles: Iterable[Role]) -> str | None:
    """Compare without the prefix, which would make any two options of a role look alike."""
    prefix = f"{role.name}_"
    public = {name for name in role.known if name.startswith(prefix)}
    suffix = near(variable.removeprefix(prefix), (name.removeprefix(prefix) for name in public))
    if suffix:
        return prefix + suffix
    return near(variable, (name for other in roles for name in other.options), cutoff=0.85)
