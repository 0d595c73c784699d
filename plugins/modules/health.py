#!/usr/bin/python
# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The module of this name: look at the services and at the page."""

from __future__ import annotations

DOCUMENTATION = r"""
module: health
short_description: Tell whether every service runs, is healthy, and the page answers
version_added: 0.1.0
description:
  - Compares the services that the Compose project should run with the containers that there are,
    and asks the page over HTTPS through the port that is published. Changes nothing.
  - What is not healthy is reported and does not fail the task, so that the caller can show the
    whole report first.
author:
  - Vedfolnir stack contributors (@vedfolnir)
attributes:
  check_mode:
    description: Can run in check mode and does the same there.
    support: full
  diff_mode:
    description: Nothing ever changes.
    support: none
  idempotent:
    description: Nothing ever changes.
    support: full
  platform:
    description: Debian 12 and later.
    support: full
    platforms: debian
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
options:
  project_src:
    description: Directory of the Compose project.
    type: path
    required: true
  site:
    description: The page to ask for. Nothing is asked when it is left out.
    type: dict
    suboptions:
      name:
        description: Host name of the site.
        type: str
        required: true
      path:
        description: Path of the page that answers 200 when all is well.
        type: str
        required: true
      service:
        description: Service that publishes the port.
        type: str
        required: true
      port:
        description: Port inside its container.
        type: int
        required: true
      authorities:
        description: PEM file with further authorities, left aside when it is not there.
        type: path
  project_name:
    description: Name of the Compose project.
    type: str
    default: vedfolnir
  inside:
    description:
      - Ports of services that are not published, which this host reaches inside their networks.
    type: list
    elements: dict
    default: []
    suboptions:
      service:
        description: Service; each of its replicas is asked.
        type: str
        required: true
      network:
        description: Network of the project.
        type: str
        required: true
      port:
        description: Port inside the container.
        type: int
        required: true
  wait_seconds:
    description: How long to look again before a problem counts.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Look at the services and the page
  vedfolnir.stack.health:
    project_src: /srv/vedfolnir
    site:
      name: captions.example.org
      path: /health/ready
      service: nginx
      port: 8443
  register: looked

- name: Refuse what is not healthy
  ansible.builtin.assert:
    that: looked.report.healthy
"""

RETURN = r"""
report:
  description: What was seen.
  returned: always
  type: dict
  contains:
    healthy:
      description: Whether there is no problem.
      type: bool
      returned: always
    problems:
      description: What is wrong, one sentence each.
      type: list
      elements: str
      returned: always
    services:
      description: Per service C(state), C(health), C(exit_code) and C(ok).
      type: dict
      returned: always
    inside:
      description: Per service or replica what is wrong inside its network, nothing if it answers.
      type: dict
      returned: always
    site:
      description: C(url), C(status), C(answer), C(certificate), C(error) and C(ok) of the page.
      type: dict
      returned: always
  sample:
    healthy: false
    problems: ["redis is exited with status 1"]
    services:
      redis: {state: exited, health: "", exit_code: 1, ok: false}
    inside: {}
    site: {}
"""

import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vedfolnir.stack.plugins.module_utils import health

_PAUSE = 3


def main() -> None:
    """Run the module."""
    site = {
        "name": {"type": "str", "required": True},
        "path": {"type": "str", "required": True},
        "service": {"type": "str", "required": True},
        "port": {"type": "int", "required": True},
        "authorities": {"type": "path"},
    }
    door = {
        "service": {"type": "str", "required": True},
        "network": {"type": "str", "required": True},
        "port": {"type": "int", "required": True},
    }
    module = AnsibleModule(
        argument_spec={
            "project_src": {"type": "path", "required": True},
            "site": {"type": "dict", "options": site},
            "project_name": {"type": "str", "default": "vedfolnir"},
            "inside": {"type": "list", "elements": "dict", "options": door, "default": []},
            "wait_seconds": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    directory = module.params["project_src"]
    looked = (
        directory,
        module.params["project_name"],
        module.params["site"],
        module.params["inside"],
    )
    if not os.path.isfile(os.path.join(directory, "compose.yml")):
        module.fail_json(msg=f"There is no project in {directory}. Deploy it with site.yml.")
    docker = module.get_bin_path("docker", required=True)
    end = time.monotonic() + module.params["wait_seconds"]
    try:
        report = health.look(docker, *looked)
        while not report["healthy"] and time.monotonic() < end:
            time.sleep(_PAUSE)
            report = health.look(docker, *looked)
    except health.ProjectError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, report=report)


if __name__ == "__main__":
    main()
