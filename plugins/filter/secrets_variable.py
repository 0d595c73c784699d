# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter ``secrets_variable``."""

from __future__ import annotations

DOCUMENTATION = r"""
name: secrets_variable
short_description: Name the variable that has the revision of a consumer's secrets
version_added: 0.1.0
author: Vedfolnir stack contributors (@vedfolnir)
description:
  - The project's C(.env) sets it, and the label of a container that is made anew for new secrets
    mentions it.
options:
  _input:
    description: The consumer, a directory below C(/run/vedfolnir/secrets).
    type: str
    required: true
"""

EXAMPLES = r"""
variable: "{{ 'app-admin' | vedfolnir.stack.secrets_variable }}"
"""

RETURN = r"""
_value:
  description: Name of the variable, such as V(VEDFOLNIR_SECRETS_APP_ADMIN).
  type: str
"""

import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils.labels import secrets_variable


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filters by name."""
        return {"secrets_variable": secrets_variable}
