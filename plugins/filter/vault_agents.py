# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The agents of the secrets' consumers as service dictionaries."""

from __future__ import annotations

DOCUMENTATION = r"""
name: vault_agents
short_description: Describe the agents that render the consumers' secret files from Vault
version_added: 0.1.0
author: Vedfolnir stack contributors (@vedfolnir)
description:
  - Returns one service dictionary for each consumer, as M(vedfolnir.stack.service) takes them.
positional: _input, image, distribution, secrets_root, agents_root
options:
  _input:
    description: Per consumer C(owner) and C(files), as M(vedfolnir.stack.secrets) takes them.
    type: dict
    required: true
  image:
    description: Image of Vault, which has the agent in it.
    type: str
    required: true
  distribution:
    description: Which of the two it is, C(openbao) or C(vault).
    type: str
    required: true
  secrets_root:
    description: Directory of the consumers' files.
    type: str
    required: true
  agents_root:
    description: Directory of what agents start with.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show the agents
  ansible.builtin.debug:
    msg: >-
      {{ {'redis': {'owner': '999:999', 'files': {'password': '${redis}'}}}
         | vedfolnir.stack.vault_agents('docker.io/openbao/openbao:2.7.2', 'openbao',
                                        '/run/vedfolnir/secrets', '/run/vedfolnir/agents') }}
"""

RETURN = r"""
_value:
  description: Service dictionaries by name.
  type: dict
"""

import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_agent import agent_services


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filter by its name."""
        return {"vault_agents": agent_services}
