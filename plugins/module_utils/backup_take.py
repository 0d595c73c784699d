# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take a backup: every part into the repository under one id, its manifest last."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import shutil
import subprocess
import time
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_copies as copies
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_dump as dump
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_manifest as manifests
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_redis as redis
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_report as report
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_streams as streams
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_deliver, vault_server
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import (
    PARTS,
    BackupError,
    Say,
    Settings,
    last_lines,
    output,
    process,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_restic import (
    Restic,
    Saved,
    saved_tree,
)

DOCKER = "/usr/bin/docker"
CONFIG_PATHS = ("config", "compose.d", "compose.yml", ".env")
_PROGRESS_SECONDS = 10.0
_BGSAVE_SECONDS = 600
_MEBIBYTE = 1 << 20


class Progress:
    """Says now and then how much has passed by."""

    def __init__(self, what: str, say: Say) -> None:
        """Begin to count."""
        self._what, self._say = what, say
        self._next = time.monotonic() + _PROGRESS_SECONDS

    def at(self, size: int) -> None:
        """Take notice of the bytes so far."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _PROGRESS_SECONDS
            self._say(f"{self._what}: {size // _MEBIBYTE} MiB")


def compose(settings: Settings, *arguments: str) -> list[str]:
    """Return the command line of Compose for the deployed project, from whatever directory."""
    where = ["/usr/bin/env", f"--chdir={settings.project_src}"]
    return [*where, DOCKER, "compose", *arguments]


def images(settings: Settings) -> dict[str, dict[str, t.Any]]:
    """Return name, id and digests of the image that each service runs."""
    label = f"label=com.docker.compose.project={settings.project_name}"
    ids = output([DOCKER, "ps", "--quiet", "--filter", label]).split()
    if not ids:
        raise BackupError("no service of the project runs; look at `docker compose ps`")
    found: dict[str, dict[str, t.Any]] = {}
    for item in json.loads(output([DOCKER, "inspect", *ids])):
        service = item["Config"]["Labels"]["com.docker.compose.service"]
        found[service] = {"name": item["Config"]["Image"], "id": item["Image"]}
    unique = sorted({image["id"] for image in found.values()})
    inspected = json.loads(output([DOCKER, "image", "inspect", *unique]))
    digests = {item["Id"]: sorted(item.get("RepoDigests") or []) for item in inspected}
    return {
        service: image | {"digests": digests.get(image["id"], [])}
        for service, image in sorted(found.items())
    }


def dump_argv(settings: Settings, options_file: str) -> list[str]:
    """Return the command line of mysqldump inside MySQL's container."""
    options = [f"--defaults-extra-file={options_file}", *dump.OPTIONS]
    return ["mysqldump", *options, "--databases", settings.database]


class Backup:
    """One backup of this host."""

    def __init__(self, settings: Settings, restic: Restic, say: Say) -> None:
        """Begin one with a new id."""
        self._settings, self._restic, self._say = settings, restic, say
        self.started = datetime.datetime.now(datetime.UTC)
        self.id = manifests.new_id(self.started)
        self._scratch = os.path.join(settings.work_directory, "backup")
        self._images: dict[str, dict[str, t.Any]] = {}

    def take(self) -> dict[str, t.Any]:
        """Take all parts, then the manifest; return the figures of the whole.

        Raises:
            BackupError: when one of them did not work; there is no such backup then.
        """
        shutil.rmtree(self._scratch, ignore_errors=True)
        os.makedirs(self._scratch, mode=0o700)
        try:
            self._images = images(self._settings)
            manifest: manifests.Manifest = {
                "format": manifests.FORMAT,
                "id": self.id,
                "host": self._settings.host,
                "database": self._settings.database,
                "root": self._settings.project_src,
                "images": self._images,
                "parts": {},
            }
            steps: dict[str, t.Callable[[], dict[str, t.Any]]] = {
                "mysql": self._mysql,
                "redis": self._redis,
                "storage": self._storage,
                "config": self._config,
                "vault": self._vault,
            }
            for part in PARTS:
                manifest["parts"][part] = self._part(part, steps[part])
            text = manifests.sign(manifest, self._settings.secret("manifest_key"))
            self._restic.save_text(self.id, manifests.PART, text)
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)
        parts = manifest["parts"].values()
        return {
            "id": self.id,
            "gtid": manifest["parts"]["mysql"]["gtid"],
            "bytes": sum(part["bytes"] for part in parts),
            "added": sum(part["added"] for part in parts),
        }

    def _part(self, name: str, step: t.Callable[[], dict[str, t.Any]]) -> dict[str, t.Any]:
        self._say(f"{name}: begin")
        begun = time.monotonic()
        part = step()
        seconds = time.monotonic() - begun
        self._say(f"{name}: {part['bytes']} bytes, {part['added']} new, {seconds:.1f} s")
        return part

    def _mysql(self) -> dict[str, t.Any]:
        argv = compose(
            self._settings,
            "exec",
            "-T",
            "mysql",
            *dump_argv(self._settings, "/run/secrets/backup.cnf"),
        )
        reader, progress = dump.DumpReader(), Progress("mysql", self._say)
        moment = 0
        with (
            process(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as (child, complaint),
            self._restic.saving(self.id, "mysql", "mysql.sql") as write,
        ):
            for line in t.cast("t.IO[bytes]", child.stdout):
                reader.feed(line)
                if reader.gtid and not moment:
                    moment = time.time_ns() // 1000
                write(line)
                progress.at(reader.size)
            # Before restic sees the end of its input: half a dump must not be saved.
            if child.wait() != 0 or not reader.complete:
                raise BackupError(f"mysqldump ended with {child.returncode}: {complaint()}")
        if not reader.gtid:
            raise BackupError("the dump does not tell its GTID set; is gtid_mode on?")
        return _saved(self._restic.saved) | {
            "sha256": reader.digest,
            "gtid": reader.gtid,
            # When its transaction had begun for certain, microseconds of Unix time.
            "moment": moment,
            "position": reader.position,
            "version": reader.version,
            "tables": reader.tables,
        }

    def _redis(self) -> dict[str, t.Any]:
        self._bgsave()
        target = os.path.join(self._scratch, "redis")
        os.makedirs(target, mode=0o700)
        files = redis.copy(os.path.join(self._settings.project_src, "data", "redis"), target)
        keys = check_redis(self._images["redis"]["name"], target, files)
        saved = self._restic.save_paths(self.id, "redis", [target])
        return _saved(saved) | {"path": target, "files": files, "keys": keys}

    def _bgsave(self) -> None:
        before = _redis_info(self._settings)
        said = redis_cli(self._settings, "BGSAVE SCHEDULE")
        if "Background saving" not in said:
            raise BackupError(f"Redis does not save its data: {last_lines(said)}")
        end = time.monotonic() + _BGSAVE_SECONDS
        while time.monotonic() < end:
            now = _redis_info(self._settings)
            if now["rdb_bgsave_in_progress"] == "0" and now["rdb_saves"] != before["rdb_saves"]:
                if now["rdb_last_bgsave_status"] != "ok":
                    break
                return
            time.sleep(0.5)
        raise BackupError("Redis could not save its data; its journal says why")

    def _storage(self) -> dict[str, t.Any]:
        return self._paths("storage", ("storage",), "storage")

    def _config(self) -> dict[str, t.Any]:
        return self._paths("config", CONFIG_PATHS, "")

    def _paths(self, part: str, names: t.Sequence[str], below: str) -> dict[str, t.Any]:
        root = self._settings.project_src
        paths = [os.path.join(root, name) for name in names]
        saved = self._restic.save_paths(self.id, part, paths)
        top = os.path.join(root, below) if below else root
        tree = saved_tree(self._restic.listing(saved.snapshot), top)
        return _saved(saved) | {"path": top, "tree": tree}

    def _vault(self) -> dict[str, t.Any]:
        content = vault_snapshot(self._settings)
        with self._restic.saving(self.id, "vault", "vault.snap") as write:
            write(content)
        return _saved(self._restic.saved) | {"sha256": hashlib.sha256(content).hexdigest()}


def _saved(saved: Saved) -> dict[str, t.Any]:
    return {"snapshot": saved.snapshot, "bytes": saved.bytes, "added": saved.added}


def redis_cli(settings: Settings, command: str) -> str:
    """Let Redis do something as the user of the backup; its password stays in the container."""
    shell = "cat /run/secrets/backup.redis - | redis-cli"
    argv = compose(settings, "exec", "-T", "redis", "sh", "-c", shell)
    return output(argv, text=f"{command}\n")


def _redis_info(settings: Settings) -> dict[str, str]:
    text = redis_cli(settings, "INFO persistence")
    found = dict(line.strip().partition(":")[::2] for line in text.splitlines() if ":" in line)
    if "rdb_saves" not in found:
        raise BackupError(f"Redis does not tell its state: {last_lines(text)}")
    return found


def check_redis(image: str, directory: str, files: t.Collection[str]) -> int:
    """Let Redis' own tools check a copy of its files; return the number of keys in the snapshot.

    Raises:
        BackupError: when they find something.
    """
    check_aof(image, directory, next(name for name in files if name.endswith(".manifest")))
    run = _redis_tool(directory)
    return redis.keys_in(output([*run, image, "redis-check-rdb", "/data/dump.rdb"]))


def check_aof(image: str, directory: str, manifest: str) -> None:
    """Let Redis' own tool check append-only files.

    Raises:
        BackupError: when it finds something.
    """
    output([*_redis_tool(directory), image, "redis-check-aof", f"/data/{manifest}"])


def _redis_tool(directory: str) -> list[str]:
    status = os.stat(directory)
    run = [DOCKER, "run", "--rm", "--network=none", "--read-only", "--cap-drop=ALL"]
    run += [f"--user={status.st_uid}:{status.st_gid}", "--security-opt=no-new-privileges"]
    # It opens files for writing, even when it only looks.
    return [*run, f"--volume={directory}:/data", "--log-driver=none", "--entrypoint="]


def vault_snapshot(settings: Settings) -> bytes:
    """Return a snapshot of Vault's data, which is encrypted with Vault's own keys.

    Raises:
        BackupError: when Vault is down, sealed or refuses.
    """
    try:
        how = vault_deliver.read_settings(settings.vault_settings)
        client = vault_server.connect(how.address, how.ca_file)
        vault_server.login(client, how.credentials_file)
        try:
            with vault_server.asking("take a snapshot of Vault"):
                path = "/v1/sys/storage/raft/snapshot"
                answer = client.adapter.request("get", path, stream=True)
                return bytes(answer.content)
        finally:
            client.logout(revoke_token=True)
    except (vault_server.VaultError, OSError, AttributeError) as exc:
        raise BackupError(f"vault: {exc}") from exc


def prune(settings: Settings, restic: Restic, say: Say) -> list[str]:
    """Forget what the policy does not keep, and what broken runs have left; return the ids.

    A run that is going on elsewhere is younger than a day; its parts stay.
    """
    if settings.append_only or not any(settings.keep.values()):
        return []
    every = manifests.by_backup(restic.snapshots())
    whole = [backup for backup, parts in every.items() if manifests.PART in parts]
    keep = manifests.kept(whole, settings.keep)
    young = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    gone = [
        backup
        for backup in every
        if backup not in keep and (backup in whole or manifests.time_of(backup) < young)
    ]
    if settings.binlogs_image:
        restic.thin(streams.PART, **streams.KEPT)
    if gone:
        say(f"forget {len(gone)} old or broken backups")
        restic.forget([part.id for backup in gone for part in every[backup].values()])
    return gone


def run(settings: Settings, restic: Restic, say: Say, who: str) -> dict[str, t.Any]:
    """Take a backup, forget old ones, remember how it went."""
    begun = time.monotonic()
    known = report.read(settings).get("repository", {})
    same = known.get("location") == settings.repository
    found = restic.ensure(str(known.get("id", "")) if same else "")
    report.remember(settings, "repository", location=settings.repository, id=found)
    work = Backup(settings, restic, say)
    figures = work.take()
    figures["duration"] = round(time.monotonic() - begun, 1)
    report.remember(
        settings, "backup", **figures, succeeded=time.time(), id_succeeded=figures["id"]
    )
    report.tell(settings, who, "backup", **figures)
    prune(settings, restic, say)
    say(f"backup {figures['id']} is complete: {figures['duration']} s")
    copies.make(settings, restic, say)
    for number in range(1, len(settings.copies) + 1):
        copy = copies.of(settings, number)
        prune(copy, Restic(copy, say), say)
    return figures
