# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Documentation of the action plugin of this name; there is no module to run on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service
short_description: Write the files and the Compose fragment of a role's services
version_added: 0.1.0
description:
  - Renders the templates of a role, turns its service dictionaries into C(compose.d/ROLE.yml) with
    the stack's hardening and a digest label, and brings all of it onto the host in one round trip.
  - Because the digest covers the content of the files that a service reads, Compose recreates
    exactly the services whose definition or content changed.
  - The work on the controller is done by the action plugin of this name, that on the host by
    M(vedfolnir.stack.files).
author:
  - Vedfolnir stack contributors (@vedfolnir)
attributes:
  check_mode:
    description: Predicts the same changes that a real run makes.
    support: full
  diff_mode:
    description: Shows each file before and after.
    support: full
  idempotent:
    description: A second call changes nothing.
    support: full
  platform:
    description: Debian 12 and later.
    support: full
    platforms: debian
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
options:
  name:
    description: Name of the fragment, as a rule the role's.
    type: str
    required: true
  state:
    description: V(absent) removes the fragment and the files, not the data.
    type: str
    choices: [present, absent]
    default: present
  services:
    description: Service dictionaries by name, as C(docs/add-a-service.md) describes them.
    type: dict
    default: {}
  files:
    description:
      - Files that the services read. Each has C(path), and C(template), C(content) or C(data)
        (printed as YAML, or as JSON when the path ends so); C(services) names those that are
        recreated when it changes, C(reload) those that only reload; C(owner), C(group), C(mode)
        and C(validate) as in M(vedfolnir.stack.files).
    type: list
    elements: dict
    default: []
  directories:
    description: Directories to make, as in M(vedfolnir.stack.files). Those of the services'
      volumes are added.
    type: list
    elements: dict
    default: []
  absent:
    description: Paths to remove.
    type: list
    elements: path
    default: []
  settings:
    description: The stack's settings, C(__stack_service_settings) of the role C(stack).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Write the configuration and the fragment of redis
  vedfolnir.stack.service:
    name: redis
    services: "{{ __redis_services }}"
    files: "{{ __redis_files }}"
    settings: "{{ __stack_service_settings }}"
"""

RETURN = r"""
plan:
  description: What happens to each service, one of V(create), V(recreate), V(reload), V(remove),
    V(unchanged), and V(run) for a job. It is told from the containers that there are, not from
    files that a run wrote which was killed before it replaced them.
  returned: always
  type: dict
jobs:
  description: The one-shot services with the digest of all that they are made of.
  returned: always
  type: list
  elements: dict
changed_files:
  description: Paths that were (or would be) written or removed.
  returned: always
  type: list
  elements: str
"""
