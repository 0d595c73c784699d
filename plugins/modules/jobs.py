#!/usr/bin/python
# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The module of this name: run the one-shot services that are due."""

from __future__ import annotations

DOCUMENTATION = r"""
module: jobs
short_description: Run the one-shot services that are due
version_added: 0.1.0
description:
  - A job is a Compose service that runs to its end, for instance the one that creates the database
    users. It runs when its definition, image, files or secrets differ from those of its last
    successful run, after the services that it depends on have been started.
  - What has run is recorded on the host after each job, so that a killed run repeats at most one.
    Jobs must therefore be safe to repeat.
author:
  - Vedfolnir stack contributors (@vedfolnir)
attributes:
  check_mode:
    description: Tells which jobs would run.
    support: full
  diff_mode:
    description: Jobs have no content to compare.
    support: none
  idempotent:
    description: A job that has run is not run again until something of it changes.
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
  project_name:
    description: Name of the Compose project; the containers of jobs are called C(NAME-job-JOB).
    type: str
    required: true
  jobs:
    description: The jobs in their order, as M(vedfolnir.stack.service) returns them.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Compose service.
        type: str
        required: true
      digest:
        description: Digest of all that the job is made of.
        type: str
        required: true
  record:
    description: File that remembers what has run.
    type: path
    required: true
  timeout:
    description: Seconds after which a job (with the start of what it depends on) has failed.
    type: int
    default: 900
"""

EXAMPLES = r"""
- name: Run the jobs that are due
  vedfolnir.stack.jobs:
    project_src: /srv/vedfolnir
    project_name: vedfolnir
    record: /srv/vedfolnir/.state/jobs.json
    jobs: "{{ mysql_result.jobs }}"
"""

RETURN = r"""
ran:
  description: Names of the jobs that ran (or would run), in order.
  returned: always
  type: list
  elements: str
output:
  description: The last lines of each job's output.
  returned: when a job ran
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vedfolnir.stack.plugins.module_utils import jobs as util


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "project_src": {"type": "path", "required": True},
            "project_name": {"type": "str", "required": True},
            "jobs": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "digest": {"type": "str", "required": True},
                },
            },
            "record": {"type": "path", "required": True},
            "timeout": {"type": "int", "default": 900},
        },
        supports_check_mode=True,
    )
    params = module.params
    record = util.read_record(params["record"])
    waiting = util.due(params["jobs"], record)
    names = [job["name"] for job in waiting]
    if module.check_mode or not waiting:
        module.exit_json(changed=bool(waiting), ran=names, output={})
    output: dict[str, str] = {}
    for job in waiting:
        name = job["name"]
        try:
            output[name] = util.run(
                params["project_src"], params["project_name"], name, params["timeout"]
            )
        except util.JobError as exc:
            module.fail_json(msg=str(exc), rc=exc.status, ran=names)
        util.remember(params["record"], name, job["digest"])
    module.exit_json(changed=True, ran=names, output=output)


if __name__ == "__main__":
    main()
