# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller side of vedfolnir.stack.ollama_models: call the module in slices, show progress."""

from __future__ import annotations

import time
import typing as t

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

_DISPLAY = Display()


class ActionModule(ActionBase):
    """Repeat the module until every model is there."""

    TRANSFERS_FILES = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        """Run the action; see the documentation of the module of this name."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        minutes = int(self._task.args.get("timeout_minutes", 120))
        end = time.monotonic() + 60 * minutes
        pulled: list[str] = []
        changed = False
        while True:
            part = self._execute_module(
                module_name="vedfolnir.stack.ollama_models", task_vars=task_vars
            )
            changed = changed or bool(part.get("changed"))
            pulled += part.get("pulled") or []
            result.update(part)
            result.update(changed=changed, pulled=pulled)
            if part.get("failed") or not part.get("missing") or self._task.check_mode:
                return result
            _DISPLAY.display(f"  {part['progress']}")
            if time.monotonic() > end:
                result.update(
                    failed=True,
                    msg=f"{', '.join(part['missing'])}: not complete after {minutes} minutes; "
                    "run again to continue, or raise ollama_pull_timeout_minutes",
                )
                return result
