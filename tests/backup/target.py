"""A second machine that keeps the backups: reached by ssh, knows this host's key and no other."""

from __future__ import annotations

import subprocess

from lab import STATE, load_yaml

USER = "keeper"
DIRECTORY = "/srv/backups"
SMALL = "/srv/small"
"""A disk of its own that is soon full."""
_START = (
    f"mkdir -p /run/sshd {DIRECTORY}; ssh-keygen -A; useradd --create-home {USER}; "
    f"chown {USER} {DIRECTORY} {SMALL}; exec /usr/sbin/sshd -D -e"
)


class Target:
    """A container of the lab's host image with nothing but sshd."""

    def __init__(self, host: str) -> None:
        """Name it after the host whose backups it keeps."""
        self.name = f"{host}-target"

    def make(self) -> None:
        """Make it anew, with an empty repository."""
        self.remove()
        image = load_yaml(STATE / "inventory/group_vars/all/images.yml")["lab_images"]["host13"]
        where = ["--network=vedfolnir-lab", "--entrypoint=bash", f"--tmpfs={SMALL}:size=64m"]
        self._docker("run", "--detach", f"--name={self.name}", *where, image, "-c", _START)

    def remove(self) -> None:
        """Remove it and all that it keeps."""
        subprocess.run(["docker", "rm", "-f", "-v", self.name], capture_output=True, check=False)

    def run(self, command: str) -> str:
        """Run a shell command as its root."""
        return self._docker("exec", self.name, "sh", "-c", command)

    def let_in(self, public_key: str) -> None:
        """Let a key in, for sftp only."""
        line = f'restrict,command="internal-sftp" {public_key.strip()}'
        home = f"/home/{USER}/.ssh"
        self.run(
            f"mkdir -p {home} && echo '{line}' >{home}/authorized_keys && chmod a+rX -R {home}"
        )

    def stop(self) -> None:
        """Take it off the network, as a broken line would."""
        self._docker("stop", "--time=0", self.name)

    def start(self) -> None:
        """Bring it back."""
        self._docker("start", self.name)

    @property
    def repository(self) -> str:
        """What ``backup_repository`` is set to."""
        return f"sftp:{USER}@{self.name}:{DIRECTORY}/repository"

    def _docker(self, *arguments: str) -> str:
        result = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        return result.stdout
