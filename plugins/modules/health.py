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
    site:
      description: C(url), C(status), C(answer), C(certificate), C(error) and C(ok) of the page.
      type: dict
      returned: always
  sample:
    healthy: false
    problems: ["redis is exited with status 1"]
    services:
      redis: {state: exited, health: "", exit_code: 1, ok: false}
    site: {}
"""

import os
import subprocess
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vedfolnir.stack.plugins.module_utils import health

_PAUSE = 3


class _ProjectError(Exception):
    """The project cannot be looked at."""


def main() -> None:
    """Run the module."""
    site = {
        "name": {"type": "str", "required": True},
        "path": {"type": "str", "required": True},
        "service": {"type": "str", "required": True},
        "port": {"type": "int", "required": True},
        "authorities": {"type": "path"},
    }
    module = AnsibleModule(
        argument_spec={
            "project_src": {"type": "path", "required": True},
            "site": {"type": "dict", "options": site},
            "wait_seconds": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    directory, wanted = module.params["project_src"], module.params["site"]
    if not os.path.isfile(os.path.join(directory, "compose.yml")):
        module.fail_json(msg=f"There is no project in {directory}. Deploy it with site.yml.")
    docker = module.get_bin_path("docker", required=True)
    end = time.monotonic() + module.params["wait_seconds"]
    try:
        report = _look(docker, directory, wanted)
        while not report["healthy"] and time.monotonic() < end:
            time.sleep(_PAUSE)
            report = _look(docker, directory, wanted)
    except _ProjectError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, report=report)


def _look(docker: str, directory: str, wanted: dict[str, t.Any] | None) -> dict[str, t.Any]:
    names = _compose(docker, directory, "config", "--services").split()
    containers = health.parse_containers(
        _compose(docker, directory, "ps", "--all", "--format", "json")
    )
    services = health.judge(names, containers)
    page: dict[str, t.Any] = {}
    if wanted:
        port = health.published_port(containers, wanted["service"], wanted["port"])
        page = health.ask(
            {
                "name": wanted["name"],
                "path": wanted["path"],
                "port": port or 0,
                "authorities": wanted["authorities"] or "",
            }
        )
    found = health.problems(services, page)
    return {"healthy": not found, "problems": found, "services": services, "site": page}


def _compose(docker: str, directory: str, *argv: str) -> str:
    done = subprocess.run(
        [docker, "compose", *argv],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
    )
    if done.returncode != 0:
        raise _ProjectError(
            f"docker compose {argv[0]} failed in {directory}: {done.stderr.strip()}"
        )
    return done.stdout


if __name__ == "__main__":
    main()
