#!/usr/bin/python
# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The module of this name: pull models in slices."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ollama_models
short_description: Pull the models that an Ollama container lacks, with progress
version_added: 0.1.0
description:
  - Asks the managed Ollama which models it has and pulls the others. The action plugin of this
    name calls the module in slices and prints the progress after each, because a model has several
    GB.
author:
  - Vedfolnir stack contributors (@vedfolnir)
attributes:
  check_mode:
    description: Tells which models would be pulled.
    support: full
  diff_mode:
    description: Models have no content to compare.
    support: none
  idempotent:
    description: A model that is there is not pulled again.
    support: full
  platform:
    description: Debian 12 and later.
    support: full
    platforms: debian
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
options:
  models:
    description: Names of models.
    type: list
    elements: str
    required: true
  container:
    description: Name of the container; it is reached under its own address, nothing is published.
    type: str
    required: true
  slice_seconds:
    description: Seconds after which the module reports, whether the pull is complete or not.
    type: int
    default: 15
  timeout_minutes:
    description: Minutes that all models together may take.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Pull the models that are missing
  vedfolnir.stack.ollama_models:
    container: vedfolnir-ollama-1
    models: ["llava:7b"]
"""

RETURN = r"""
missing:
  description: Models that are still missing.
  returned: always
  type: list
  elements: str
pulled:
  description: Models that were (or would be) pulled.
  returned: always
  type: list
  elements: str
progress:
  description: What the last pull was doing.
  returned: always
  type: str
"""

import json
import subprocess

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vedfolnir.stack.plugins.module_utils import ollama as api


def container_address(docker: str, container: str) -> str:
    """Return an address of a container that this host reaches.

    Raises:
        OllamaError: when there is no such running container.
    """
    result = subprocess.run(
        [docker, "container", "inspect", container],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    details = json.loads(result.stdout or b"[]")
    networks = details[0]["NetworkSettings"]["Networks"] if details else {}
    addresses = [
        network["IPAddress"]
        for _name, network in sorted(networks.items())
        if network.get("IPAddress")
    ]
    if not addresses:
        raise api.OllamaError(
            f"the container {container} is not running; see `docker logs {container}`"
        )
    return str(addresses[0])


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "models": {"type": "list", "elements": "str", "required": True},
            "container": {"type": "str", "required": True},
            "slice_seconds": {"type": "int", "default": 15},
            "timeout_minutes": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    params = module.params
    docker = module.get_bin_path("docker")
    if docker is None:
        if module.check_mode:
            module.exit_json(
                changed=True, missing=params["models"], pulled=params["models"], progress=""
            )
        module.fail_json(
            msg="There is no docker command on this host; run the role docker_host first"
        )
    try:
        url = f"http://{container_address(docker, params['container'])}:11434"
        missing = api.missing_models(url, params["models"])
        if not missing or module.check_mode:
            module.exit_json(changed=bool(missing), missing=missing, pulled=missing, progress="")
        complete, progress = api.pull(url, missing[0], params["slice_seconds"])
    except api.OllamaError as exc:
        if module.check_mode:
            module.exit_json(
                changed=True, missing=params["models"], pulled=params["models"], progress=str(exc)
            )
        module.fail_json(msg=str(exc))
    module.exit_json(
        changed=True,
        missing=missing[1:] if complete else missing,
        pulled=missing[:1] if complete else [],
        progress=f"{missing[0]}: {progress}",
    )


if __name__ == "__main__":
    main()
