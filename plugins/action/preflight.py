# Copyright: the vedfolnir.stack maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuse a bad inventory before anything changes; the documentation is the module of this name."""

from __future__ import annotations

import typing as t
from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.vedfolnir.stack.plugins.plugin_utils.preflight import (
    Inspection,
    summary,
)
from ansible_collections.vedfolnir.stack.plugins.plugin_utils.preflight_data import (
    PreflightError,
    load_roles,
    role_names,
)
from ansible_collections.vedfolnir.stack.plugins.plugin_utils.preflight_templates import (
    load_trusted,
)

_ROLES = Path(__file__).parents[2] / "roles"


class ActionModule(ActionBase):
    """Check options, their relations and the host, on the controller only."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        """Return all problems at once; fail when there is one."""
        variables = task_vars or {}
        result: dict[str, t.Any] = super().run(tmp, variables)
        _validation, args = self.validate_argument_spec(
            {
                "roles": {"type": "list", "elements": "str", "required": True},
                "deferred": {"type": "list", "elements": "str", "default": []},
            }
        )
        try:
            roles = load_roles(args["roles"], _ROLES, lambda path: load_trusted(self._loader, path))
        except PreflightError as error:
            raise AnsibleActionFail(f"preflight: {error}") from error
        problems = Inspection(
            roles=roles,
            all_roles=role_names(_ROLES),
            variables=variables,
            templar=self._templar,
            deferred=frozenset(args["deferred"]),
        ).run()
        result["changed"] = False
        result["problems"] = [
            {"variable": problem.variable, "message": problem.message} for problem in problems
        ]
        if problems:
            result["failed"] = True
            result["msg"] = summary(str(variables.get("inventory_hostname", "?")), problems)
        else:
            options = sum(len(role.options) for role in roles)
            rules = sum(len(role.rules) for role in roles)
            result["msg"] = f"No problem in {options} options and {rules} rules."
        return result
