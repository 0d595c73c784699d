# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where a scratch instance lives: a Compose project and a directory of its own."""

from __future__ import annotations

import dataclasses
import os
import shutil
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import Settings, output
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_take import DOCKER


@dataclasses.dataclass(frozen=True)
class Place:
    """One of the two places.

    Attributes:
        project: Name of the Compose project.
        directory: Where its files are: on the file system of the data, so that they can be moved.
    """

    project: str
    directory: str

    @classmethod
    def passing(cls, settings: Settings) -> Place:
        """Return the place of what ends with the program: a drill's, or a restore's."""
        directory = os.path.join(settings.work_directory, "restore")
        return cls(f"{settings.project_name}-scratch", directory)

    @classmethod
    def staying(cls, settings: Settings) -> Place:
        """Return the place of what stays, see :mod:`backup_beside`."""
        directory = os.path.join(settings.project_src, "backups", "restored")
        return cls(f"{settings.project_name}-restored", directory)

    def path(self, name: str) -> str:
        """Return a path in the directory, which is laid out as the project's is."""
        return os.path.join(self.directory, name)

    def containers(self) -> list[str]:
        """Return the ids of its containers."""
        return output([DOCKER, "ps", "--all", "--quiet", "--filter", self._label]).split()

    def remove(self) -> None:
        """Remove containers, networks and files."""
        if containers := self.containers():
            output([DOCKER, "rm", "--force", "--volumes", *containers])
        listed = [DOCKER, "network", "ls", "--quiet", "--filter", self._label]
        if networks := output(listed).split():
            output([DOCKER, "network", "rm", *networks])
        shutil.rmtree(self.directory, onerror=_fine_if_gone)

    @property
    def _label(self) -> str:
        return f"label=com.docker.compose.project={self.project}"


def _fine_if_gone(_function: t.Any, _path: str, error: t.Any) -> None:
    if not isinstance(error[1], FileNotFoundError):
        raise error[1]
