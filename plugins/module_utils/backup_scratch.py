# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring a backup to life beside production: same images and settings, a network of its own.

The scratch instance is a Compose project whose services are those of the deployed project, with
copies of the data, on one network without a way out and without anybody of production on it. What
a drill throws away is what a restore moves into place, after it was compared with the manifest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import time
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_dump as dump
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_manifest as manifests
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_redis as redis
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import (
    BackupError,
    DamagedError,
    Say,
    Settings,
    output,
    process,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_place import Place
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_restic import (
    Restic,
    Snapshot,
    present_tree,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_take import (
    DOCKER,
    Progress,
    check_redis,
    compose,
    dump_argv,
)

NETWORK = "scratch"
ROOT_CNF = "/run/secrets/root.cnf"
DATA = {"mysql": "data/mysql", "redis": "data/redis", "storage": "storage"}
"""Where the parts that are put in place lie below the project's directory."""
_SERVICES = {"data/mysql": "mysql", "data/redis": "redis", "storage": "app"}
"""Whose directories they are."""
_START_SECONDS = 300
_MEBIBYTE = 1 << 20
_DROPPED = ("depends_on", "ports", "profiles", "labels", "extra_hosts", "container_name", "build")


def scratch_service(
    service: t.Mapping[str, t.Any], moved: t.Mapping[str, str], aliases: t.Sequence[str] = ()
) -> dict[str, t.Any]:
    """Return a service of the deployed project as it runs in the scratch instance.

    Args:
        service: As ``docker compose config`` prints it.
        moved: New source by the source of a mount.
        aliases: Further names on the network.
    """
    result = {key: value for key, value in service.items() if key not in _DROPPED}
    result["networks"] = {NETWORK: {"aliases": list(aliases)}}
    result["restart"] = "no"
    result["volumes"] = [
        volume | {"source": moved.get(volume["source"], volume["source"])}
        for volume in service.get("volumes") or []
    ]
    return result


def scratch_project(
    config: t.Mapping[str, t.Any], name: str, services: t.Sequence[str], moved: t.Mapping[str, str]
) -> dict[str, t.Any]:
    """Return the scratch instance's Compose file."""
    return {
        "name": name,
        "services": {
            service: scratch_service(config["services"][service], moved) for service in services
        },
        "networks": {NETWORK: {"internal": True}},
    }


def own(path: str, user: str) -> None:
    """Give a directory to a service's numeric user, as the service's role does."""
    uid, _separator, gid = user.partition(":")
    os.chown(path, int(uid), int(gid or uid))
    os.chmod(path, 0o750)  # noqa: S103


def reserved_memory(project: t.Mapping[str, t.Any]) -> int:
    """Return the bytes of memory that the services of a project ask for."""
    resources = [
        service.get("deploy", {}).get("resources", {}) for service in project["services"].values()
    ]
    return sum(int(item.get("reservations", {}).get("memory", 0)) for item in resources)


def available_memory(meminfo: str) -> int:
    """Return the bytes of memory that can be had, from the text of /proc/meminfo."""
    for line in meminfo.splitlines():
        name, _separator, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return 0


class Scratch:
    """One backup, brought to life beside production."""

    def __init__(
        self, settings: Settings, restic: Restic, say: Say, wanted: str, place: Place | None = None
    ) -> None:
        """Choose the backup and verify its manifest; nothing is fetched yet.

        Args:
            settings: See :class:`Settings`.
            restic: The repository.
            say: Is told of every step.
            wanted: Id of the backup, or ``latest``.
            place: Where it lives; without, where it ends with the program.

        Raises:
            BackupError: when there is no such backup, or its manifest is not to be trusted.
        """
        self._settings, self._restic, self._say = settings, restic, say
        self._place = place or Place.passing(settings)
        restic.unlock()
        self.id, self.snapshots = manifests.choose(restic.snapshots(), wanted)
        text = restic.read_text(self.snapshots[manifests.PART].id, manifests.FILE)
        self.manifest = manifests.verify(text, settings.secret("manifest_key"), self.id)
        manifests.check_parts(self.manifest, self.snapshots)
        self.redis_image = ""

    # The project

    def _compose(self, *arguments: str) -> list[str]:
        project, file = self._place.project, self.path("compose.json")
        return [DOCKER, "compose", "--project-name", project, "--file", file, *arguments]

    def up(self, service: str) -> list[str]:
        """Return the command line that starts a service and waits until it is healthy."""
        return self._compose("up", "--detach", "--wait", "--no-deps", service)

    def path(self, name: str) -> str:
        """Return a path in the scratch directory, which is laid out as the project's is."""
        return self._place.path(name)

    def prepare(self) -> None:
        """Make the directories and the project; what an earlier run has left is removed."""
        self.remove()
        os.makedirs(self.path("data"), mode=0o700)
        os.makedirs(self.path("logs"), mode=0o700)
        config = json.loads(output(compose(self._settings, "config", "--format", "json")))
        root = self._settings.project_src
        web = self.web(config)
        moved = {os.path.join(root, path): self.path(path) for path in DATA.values()}
        moved |= {
            os.path.join(root, "logs", web): self.path("logs/app"),
            os.path.join(root, "logs/mysql"): self.path("logs/mysql"),
        }
        for place, service in {**_SERVICES, "logs/app": "app", "logs/mysql": "mysql"}.items():
            os.makedirs(self.path(place))
            own(self.path(place), config["services"][web if service == "app" else service]["user"])
        project = scratch_project(config, self._place.project, ("mysql", "redis", web), moved)
        self._require_room(project)
        self.redis_image = project["services"]["redis"]["image"]
        self._web = web
        with open(self.path("compose.json"), "w", encoding="utf-8") as handle:
            json.dump(project, handle)

    _web = ""

    def _require_room(self, project: t.Mapping[str, t.Any]) -> None:
        """Refuse to begin what would fill the host's disk or memory.

        Raises:
            BackupError: saying what is needed and what there is.
        """
        parts = self.manifest["parts"]
        # The tables and their indexes are larger than the dump, and come with logs of their own.
        disk = 2 * parts["mysql"]["bytes"] + 512 * _MEBIBYTE
        disk += sum(part["bytes"] for name, part in parts.items() if name != "mysql")
        status = os.statvfs(self._place.directory)
        free = status.f_bavail * status.f_frsize
        memory = reserved_memory(project)
        with open("/proc/meminfo", encoding="utf-8") as handle:
            available = available_memory(handle.read())
        for what, needed, there in (("disk", disk, free), ("memory", memory, available)):
            if there < needed:
                raise BackupError(
                    f"{self._settings.host} has {there // _MEBIBYTE} MiB of {what} free, but to "
                    f"restore beside production takes {needed // _MEBIBYTE} MiB"
                )

    @staticmethod
    def web(config: t.Mapping[str, t.Any]) -> str:
        """Return the name of the application's first replica."""
        names = [name for name in config["services"] if name == "app" or name.startswith("app-")]
        if not names:
            raise BackupError("the project has no application; run site.yml")
        return str(sorted(names)[0])

    def remove(self) -> None:
        """Remove containers, network and files of the scratch instance."""
        self._place.remove()

    def stop(self) -> None:
        """Stop the servers in order, so that their files can be moved."""
        output(self._compose("down", "--timeout", "120"))

    def empty(self, service: str) -> None:
        """Stop a service and throw its data away, so that others can take their place."""
        output(self._compose("rm", "--stop", "--force", service))
        for entry in os.scandir(self.path(DATA[service])):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)

    # The parts

    def bring(self, part: str) -> None:
        """Bring one part to life and compare it with the manifest.

        Raises:
            DamagedError: when it is not what the manifest says.
        """
        begun = time.monotonic()
        {
            "mysql": self._mysql,
            "redis": self._redis,
            "storage": self._storage,
            "config": self._config,
            "vault": self._vault,
        }[part]()
        self._say(f"{part}: as the manifest says, {time.monotonic() - begun:.1f} s")

    def _part(self, name: str) -> tuple[Snapshot, dict[str, t.Any]]:
        return self.snapshots[name], self.manifest["parts"][name]

    def exec(self, service: str, *arguments: str) -> list[str]:
        """Return the command line of a program inside a service of the scratch instance."""
        return self._compose("exec", "-T", service, *arguments)

    def mysql(self, statement: str) -> str:
        """Run a statement in the scratch MySQL, as its administrator."""
        client = ["mysql", f"--defaults-extra-file={ROOT_CNF}", "--batch", "--skip-column-names"]
        return output(self.exec("mysql", *client), text=statement).strip()

    def widen(self, service: str, more: int) -> None:
        """Let a service have more memory than in production, as far as half of what is free goes.

        Args:
            service: Which one.
            more: Bytes beyond its limit.
        """
        with open("/proc/meminfo", encoding="utf-8") as handle:
            more = min(more, available_memory(handle.read()) // 2)
        container = output(self._compose("ps", "--quiet", service)).strip()
        limit = "{{.HostConfig.Memory}}"
        own = int(output([DOCKER, "container", "inspect", "--format", limit, container]))
        if own and more > 0:
            memory = str(own + more)
            # Memory and swap together: without the second nothing above it would be allowed.
            output([DOCKER, "update", "--memory", memory, "--memory-swap", memory, container])

    def _wait_for_mysql(self) -> None:
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            # The server that the image's start script uses to set up has no network.
            with contextlib.suppress(BackupError):
                if self.mysql("SELECT @@skip_networking") == "0":
                    return
            time.sleep(1)
        raise BackupError("the scratch MySQL did not start; look at its journal")

    def _mysql(self) -> None:
        snapshot, part = self._part("mysql")
        output(self._compose("up", "--detach", "--no-deps", "mysql"))
        self._wait_for_mysql()
        loaded = self._load(snapshot)
        if loaded.digest != part["sha256"]:
            raise DamagedError(f"mysql: the dump of {self.id} is not the one in the manifest")
        # A restored data directory gets its accounts as a new one does.
        with open(self._settings.users_file, encoding="utf-8") as handle:
            self.mysql(handle.read())
        found = self._dump()
        problems = dump.differences(part["tables"], found.tables)
        if problems:
            raise DamagedError(f"mysql: {self.id} is not restored: {'; '.join(problems)}")
        rows = sum(table["rows"] for table in found.tables.values())
        self._say(f"mysql: {len(found.tables)} tables, {rows} rows, checksums compared")

    def _load(self, snapshot: Snapshot) -> dump.DumpReader:
        reader, progress = dump.DumpReader(), Progress("mysql", self._say)
        argv = self.exec("mysql", "mysql", f"--defaults-extra-file={ROOT_CNF}")
        with (
            process(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as (child, complaint),
            self._restic.reading(snapshot.id, "/mysql.sql") as lines,
        ):
            sink = t.cast("t.IO[bytes]", child.stdin)
            try:
                for line in lines:
                    reader.feed(line)
                    sink.write(line)
                    progress.at(reader.size)
                sink.close()
            except BrokenPipeError as exc:
                child.wait()
                raise DamagedError(f"mysql: the dump does not load: {complaint()}") from exc
            if child.wait() != 0:
                raise DamagedError(f"mysql: the dump does not load: {complaint()}")
        return reader

    def _dump(self) -> dump.DumpReader:
        reader = dump.DumpReader()
        argv = self.exec("mysql", *dump_argv(self._settings, ROOT_CNF))
        with process(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as (child, complaint):
            for line in t.cast("t.IO[bytes]", child.stdout):
                reader.feed(line)
            if child.wait() != 0 or not reader.complete:
                raise BackupError(f"mysqldump ended with {child.returncode}: {complaint()}")
        return reader

    def _redis(self) -> None:
        snapshot, part = self._part("redis")
        self._fetch(snapshot, part["path"], DATA["redis"])
        target = self.path(DATA["redis"])
        found = redis.digests(target)
        if found != part["files"]:
            wrong = sorted(
                name
                for name in {*found, *part["files"]}
                if found.get(name) != part["files"].get(name)
            )
            raise DamagedError(f"redis: not as in the manifest: {', '.join(wrong)}")
        keys = check_redis(self.redis_image, target, found)
        if keys != part["keys"]:
            raise DamagedError(f"redis: {keys} keys instead of {part['keys']}")
        output(self.up("redis"))
        self._say(f"redis: {keys} keys, checksums compared")

    def _storage(self) -> None:
        self._tree("storage", DATA["storage"])

    def _config(self) -> None:
        self._tree("config", "config-saved")

    def _tree(self, part: str, target: str) -> None:
        snapshot, content = self._part(part)
        self._fetch(snapshot, content["path"], target)
        found, wanted = present_tree(self.path(target)), content["tree"]
        if found != wanted:
            raise DamagedError(
                f"{part}: {found['files']} files with {found['bytes']} bytes are not the "
                f"{wanted['files']} files with {wanted['bytes']} bytes of the manifest"
            )
        self._say(f"{part}: {found['files']} files, {found['bytes']} bytes, listing compared")

    def _fetch(self, snapshot: Snapshot, source: str, target: str) -> None:
        """Bring the directory ``source`` of a snapshot to a place in the scratch directory."""
        raw, place = self.path("raw"), self.path(target)
        self._restic.restore(snapshot.id, raw)
        if os.path.isdir(place):
            status = os.stat(place)
            os.rmdir(place)
            os.rename(os.path.join(raw, source.lstrip("/")), place)
            os.chmod(place, status.st_mode & 0o7777)
        else:
            os.rename(os.path.join(raw, source.lstrip("/")), place)
        shutil.rmtree(raw)

    def _vault(self) -> None:
        snapshot, part = self._part("vault")
        digest = hashlib.sha256()
        path = self.path("vault.snap")
        with self._restic.reading(snapshot.id, "/vault.snap") as lines, open(path, "wb") as handle:
            os.fchmod(handle.fileno(), 0o600)
            for line in lines:
                digest.update(line)
                handle.write(line)
        if digest.hexdigest() != part["sha256"]:
            raise DamagedError(f"vault: the snapshot of {self.id} is not the one in the manifest")

    # The whole

    def ready(self) -> None:
        """Start the application on the restored data and wait until it says that it is ready.

        Its account may come from the scratch network, which production's may not.

        Raises:
            DamagedError: when it does not get ready.
        """
        query = "SELECT user, host FROM mysql.user WHERE host LIKE '%/%' AND user <> 'root'"
        for line in self.mysql(query).splitlines():
            user, host = line.split("\t")
            self.mysql(f"RENAME USER '{user}'@'{host}' TO '{user}'@'%'")
        argv = self._compose("up", "--detach", "--wait", "--no-deps", self._web)
        try:
            output([*argv, "--wait-timeout", str(_START_SECONDS)])
        except BackupError as exc:
            raise DamagedError(f"the application does not get ready on {self.id}: {exc}") from exc
        self._say("the application is ready on the restored data")
