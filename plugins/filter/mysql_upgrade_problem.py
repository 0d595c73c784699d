# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether MySQL can go from the version of its data to the version of an image."""

from __future__ import annotations

DOCUMENTATION = r"""
name: mysql_upgrade_problem
short_description: Tell why MySQL cannot take over data of another version
version_added: 0.1.0
author: Vedfolnir stack contributors (@vedfolnir)
description:
  - Follows the upgrade paths of MySQL's manual. Patch releases of one series take over each other's
    data in both directions. Otherwise data never go back, and on their way up they stop at each
    long-term release, 8.0, 8.4 and 9.7.
positional: _input
options:
  _input:
    description: Version that the data were last used by; empty when there are none.
    type: str
    required: true
  image:
    description: Name of the image; its tag may begin with a version.
    type: str
    required: true
  told:
    description: Version that the image told when it was asked; empty when it was not.
    type: str
    default: ""
"""

EXAMPLES = r"""
# The data are of MySQL 8.0.36, and no server skips a long-term release; choose MySQL 8.4 first, …
problem: "{{ '8.0.36' | vedfolnir.stack.mysql_upgrade_problem('mysql:9.7.1') }}"
"""

RETURN = r"""
_value:
  description: What is wrong and what to do, as the end of a sentence; empty when nothing is.
  type: str
"""

import re
import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.vedfolnir.stack.plugins.module_utils import mysql_version

LONG_TERM = ((8, 0), (8, 4), (9, 7))
"""Series at which every upgrade has to stop (MySQL 9.7 reference manual, 3.2 Upgrade Paths)."""


def mysql_upgrade_problem(data: str, image: str, told: str = "") -> str:
    """Return why an image cannot take over data of another version; empty if it can.

    Raises:
        AnsibleFilterError: for a text that is not a version.
    """
    if not data:
        return ""
    intro = f"the data are of MySQL {data}"
    version = mysql_version.of_tag(image) or told
    if not version:
        return (
            f"{intro} and the version of the image is not known; write it into the tag "
            "(mysql:9.7.1@sha256:…), or pull the image on the host before the run"
        )
    old, new = _series(data), _series(version)
    if new < old:
        return (
            f"{intro}, which MySQL {version} cannot take back; choose MySQL {_name(old)} or later, "
            "or load a dump into an empty data directory"
        )
    between = [series for series in LONG_TERM if old < series < new]
    if between:
        return (
            f"{intro}, and MySQL {version} cannot skip a long-term release; choose MySQL "
            f"{_name(between[0])}, deploy, and then go on"
        )
    return ""


def _series(version: str) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)(?:\.\d+)?$", str(version))
    if not match:
        raise AnsibleFilterError(f"mysql_upgrade_problem: {version!r} is not a version of MySQL")
    return int(match[1]), int(match[2])


def _name(series: tuple[int, int]) -> str:
    return ".".join(map(str, series))


class FilterModule:
    """Offer the filter to Ansible."""

    def filters(self) -> dict[str, t.Callable[..., str]]:
        """Return the filter by its name."""
        return {"mysql_upgrade_problem": mysql_upgrade_problem}
