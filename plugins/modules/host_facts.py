#!/usr/bin/python
# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Gather what a host is and has room for."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_facts
short_description: Gather what a host is and has room for
version_added: 0.1.0
description:
  - The distribution, IPv4 addresses, memory, free disk below a path, the ports that somebody
    listens on or a container publishes, what is there for NVIDIA's GPUs, and the version of MySQL's
    data, in one short round trip. M(ansible.builtin.setup) takes seconds for less, knows no path
    that does not exist yet, and no ports.
author:
  - Vedfolnir stack contributors (@vedfolnir)
attributes:
  check_mode:
    description: The module changes nothing.
    support: full
  diff_mode:
    description: The module changes nothing.
    support: none
  facts:
    description: Returns facts.
    support: full
  idempotent:
    description: The module changes nothing.
    support: full
  platform:
    description: Debian 12 and later.
    support: full
    platforms: debian
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - ansible.builtin.action_common_attributes.facts
options:
  path:
    description: Path whose file system is measured.
    type: path
    required: true
  mysql_data:
    description: Data directory of MySQL, which need not exist.
    type: path
    required: true
  mysql_image:
    description:
      - Image that is to run MySQL. When there are data and its tag does not begin with a version,
        the image itself is asked, if the host has it; nothing is pulled.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Look at the host
  vedfolnir.stack.host_facts:
    path: /srv/vedfolnir
    mysql_data: /srv/vedfolnir/data/mysql
    mysql_image: docker.io/library/mysql:9.7.1
"""

RETURN = r"""
ansible_facts:
  description: The facts.
  returned: always
  type: dict
  contains:
    vedfolnir_host:
      description:
        - C(addresses), each with C(interface) and C(address), C(memory_mb), C(disk_free_mb) (both
          MiB), C(listeners), each with C(port) and C(process), and C(published), each with C(port),
          C(container) and C(project).
        - C(nvidia) tells whether C(driver) and C(toolkit) are there.
        - C(mysql) has the version that C(data) were last used by, and the one that C(image) told;
          what is not known, or was not asked, is empty.
      type: dict
    distribution:
      description:
        - Also C(distribution_version), C(distribution_major_version) and C(distribution_release),
          as M(ansible.builtin.setup) names them.
      type: str
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vedfolnir.stack.plugins.module_utils import host, mysql_version


def mysql_versions(module: AnsibleModule, directory: str, image: str) -> dict[str, str]:
    """Return the version of MySQL's data, and of the image when only it can tell."""
    data, docker, said = mysql_version.of_data(directory), module.get_bin_path("docker"), ""
    if data and image and docker and not mysql_version.of_tag(image):
        options = ["--rm", "--pull", "never", "--network", "none", "--entrypoint", "mysqld"]
        said = module.run_command([docker, "run", *options, image, "--version"])[1]
    return {"data": data, "image": mysql_version.of_output(said)}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "mysql_data": {"type": "path", "required": True},
            "mysql_image": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    with open("/proc/meminfo", encoding="utf-8") as handle:
        meminfo = handle.read()
    with open("/etc/os-release", encoding="utf-8") as handle:
        release = host.release(handle.read())
    # Without the tool there is nothing to compare addresses with, as on a host without a network.
    ip = module.get_bin_path("ip")
    links = module.run_command([ip, "-json", "address", "show"])[1] if ip else ""
    # Only an engine that runs is asked: a question would start one that waits on its socket.
    docker = module.get_bin_path("docker") if os.path.exists("/run/docker.pid") else None
    argv = ["timeout", "20", docker, "ps", "--no-trunc", "--format", host.PUBLISHED_FORMAT]
    containers = module.run_command(argv)[1] if docker else ""
    facts = {
        "addresses": host.addresses(links),
        "memory_mb": host.memory_mb(meminfo),
        "disk_free_mb": host.disk_free_mb(params["path"]),
        "listeners": host.listeners(),
        "nvidia": host.nvidia(module.get_bin_path),
        "mysql": mysql_versions(module, params["mysql_data"], params["mysql_image"]),
        "published": host.published(containers),
    }
    module.exit_json(changed=False, ansible_facts={**release, "vedfolnir_host": facts})


if __name__ == "__main__":
    main()
