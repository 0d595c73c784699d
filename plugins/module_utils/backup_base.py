# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every step of a backup stands on: settings, errors with an exit code, lock, deadline.

The playbooks, the timer and a person at the console run the same program, ``backup_main``; these
modules are installed on the host below ``/usr/local/lib/vedfolnir/python``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import signal
import subprocess
import tempfile
import types
import typing as t

LOCK = "/run/vedfolnir/backup.lock"
SETTINGS = "/etc/vedfolnir/backup/settings.json"

Say = t.Callable[[str], None]
Part = t.Literal["mysql", "redis", "storage", "config", "vault"]
PARTS: tuple[Part, ...] = ("mysql", "redis", "storage", "config", "vault")
"""Everything that a backup is made of, in the order in which it is taken."""

EXIT_FAILED = 1
EXIT_BUSY = 3
EXIT_DEADLINE = 4
EXIT_DAMAGED = 5
EXIT_TARGET = 6
EXIT_COPY = 7


class BackupError(Exception):
    """Something did not work; the message is for people and has no secret in it."""

    exit_code = EXIT_FAILED


class BusyError(BackupError):
    """Another backup, restore or drill is going on."""

    exit_code = EXIT_BUSY


class DeadlineError(BackupError):
    """The time is over."""

    exit_code = EXIT_DEADLINE


class DamagedError(BackupError):
    """A backup is not what it says it is."""

    exit_code = EXIT_DAMAGED


class TargetError(BackupError):
    """The repository cannot be used: not there, not reachable, or with another key."""

    exit_code = EXIT_TARGET


class LockedError(TargetError):
    """Something else works on the repository right now."""


class CopyError(BackupError):
    """The backup is good, but another repository did not get its copy."""

    exit_code = EXIT_COPY


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the role ``backup`` writes for the program; there is no secret in it."""

    host: str
    project_src: str
    project_name: str
    database: str
    repository: str
    repository_user: str
    """Login at a rest-server, or access key at S3; what belongs to it is a secret."""
    sftp_arguments: str
    """What ssh is called with, for a repository at ``sftp:``."""
    secrets_directory: str
    users_file: str
    """Statements that bring MySQL's accounts into their state."""
    vault_settings: str
    append_only: bool
    keep: dict[str, int]
    upload_kib: int
    deadline_seconds: int
    read_data_percent: int
    state_directory: str
    metrics: str
    log: str
    binlogs_image: str = ""
    """Image with mysqlbinlog; empty when binary logs are not streamed here."""
    streams_directory: str = ""
    streams_keep_days: int = 0
    source: str = ""
    """Host whose backups are meant; this one without."""
    copies: t.Sequence[dict[str, t.Any]] = ()
    """Further repositories that get each backup: ``repository``, ``repository_user``,
    ``append_only``."""
    login_of: t.Literal["repository", "copy"] = "repository"
    """Which secret has the password at a rest-server, or the secret key at S3."""
    repository_ca: str = ""
    """File with the authority of a rest-server or of S3, where it is not a public one."""
    max_age_hours: int = 0
    """Age from which the newest backup is too old; 0 for never."""
    drill_max_age_days: int = 0
    """Age from which the last proven restore is too old; 0 for never."""
    patience_seconds: int = 120
    """For how long a request is tried again that the target refuses."""

    @classmethod
    def read(cls, path: str = SETTINGS) -> Settings:
        """Return the settings in a file.

        Raises:
            BackupError: when this host has none.
        """
        try:
            with open(path, encoding="utf-8") as handle:
                return cls(**json.load(handle))
        except FileNotFoundError as exc:
            raise BackupError(
                f"{path} is not there; name a backup_repository and run site.yml"
            ) from exc

    @property
    def owner(self) -> str:
        """The host that the backups are of."""
        return self.source or self.host

    @property
    def work_directory(self) -> str:
        """Where scratch copies lie: on the file system of the data, so that they can be moved."""
        return os.path.join(self.project_src, "backups", "scratch")

    def secret_file(self, name: str) -> str:
        """Return the path of one of the program's own secrets."""
        return os.path.join(self.secrets_directory, name)

    def secret(self, name: str) -> str:
        """Return one of the program's own secrets.

        Raises:
            BackupError: when it has not been delivered.
        """
        try:
            with open(self.secret_file(name), encoding="utf-8") as handle:
                return handle.read().strip()
        except OSError as exc:
            raise BackupError(
                f"{self.secret_file(name)} cannot be read; the secrets have not been delivered: "
                "look at `systemctl status vedfolnir-vault`, or run site.yml"
            ) from exc


@contextlib.contextmanager
def alone(path: str = LOCK) -> t.Iterator[None]:
    """Let one backup, restore or drill at a time go on; the lock ends with its process.

    Raises:
        BusyError: when there is another one.
    """
    os.makedirs(os.path.dirname(path), mode=0o711, exist_ok=True)
    with open(path, "w", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise BusyError(
                "another backup, restore or drill is going on; wait for it to end"
            ) from exc
        yield


@contextlib.contextmanager
def deadline(seconds: int) -> t.Iterator[None]:
    """End what goes on inside when the time is over, or when somebody asks for it (SIGTERM).

    Both become an error, so that everything that was begun is cleaned up on the way out.
    """

    def late(_number: int, _frame: types.FrameType | None) -> t.NoReturn:
        raise DeadlineError(f"not done within {seconds // 60} minutes; raise the deadline")

    def ended(_number: int, _frame: types.FrameType | None) -> t.NoReturn:
        raise BackupError("was asked to end")

    before = signal.signal(signal.SIGALRM, late), signal.signal(signal.SIGTERM, ended)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before[0])
        signal.signal(signal.SIGTERM, before[1])


@contextlib.contextmanager
def process(
    argv: t.Sequence[str], **options: t.Any
) -> t.Iterator[tuple[subprocess.Popen[bytes], t.Callable[[], str]]]:
    """Run a program for the length of a block; whatever happens, it does not outlive it.

    Yields:
        The process, and a function that returns the last lines of what it complained about.
    """
    with talking(argv, **options) as (child, said):
        yield child, lambda: last_lines(said())


@contextlib.contextmanager
def talking(
    argv: t.Sequence[str], **options: t.Any
) -> t.Iterator[tuple[subprocess.Popen[bytes], t.Callable[[], str]]]:
    """Run a program as :func:`process` does.

    Yields:
        The process, and a function that returns all that it has complained about until now.
    """
    with tempfile.TemporaryFile() as errors:

        def said() -> str:
            # Where the program goes on to write must stay as it is.
            size = os.fstat(errors.fileno()).st_size
            return os.pread(errors.fileno(), size, 0).decode(errors="replace")

        try:
            # In a session of its own: the engine's client has children that must end with it.
            child = subprocess.Popen(list(argv), stderr=errors, start_new_session=True, **options)
        except OSError as exc:
            raise BackupError(f"{argv[0]} cannot be run: {exc.strerror}") from exc
        try:
            yield child, said
        finally:
            if child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    # Whoever was on the other end may be gone.
                    with contextlib.suppress(OSError):
                        pipe.close()
            child.wait()


def output(argv: t.Sequence[str], text: str | None = None, **options: t.Any) -> str:
    """Run a program to its end and return what it printed.

    Raises:
        BackupError: with its last lines when it fails.
    """
    try:
        result = subprocess.run(
            list(argv),
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            check=False,
            **options,
        )
    except OSError as exc:
        raise BackupError(f"{argv[0]} cannot be run: {exc.strerror}") from exc
    if result.returncode != 0:
        said = last_lines(result.stderr) or last_lines(result.stdout)
        raise BackupError(f"`{' '.join(argv[:6])} …` failed: {said}")
    return str(result.stdout)


def last_lines(text: str, count: int = 3) -> str:
    """Return the end of what a program said, in one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(lines[-count:])
