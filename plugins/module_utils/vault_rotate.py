# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Rotate the secrets that are in Vault, step by step, under what runs.

Every step is safe to repeat, and what is stored in Vault says which comes next: a rotation that
was killed is finished by the next call. The module ``rotate_secrets`` calls the steps in a run; the
timer runs this file as a program, which does them all.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import fcntl
import json
import os
import sys
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import jobs, rotation
from ansible_collections.vedfolnir.stack.plugins.module_utils import new_secrets as consumers
from ansible_collections.vedfolnir.stack.plugins.module_utils import secrets as provider
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_deliver as delivery
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_kv as kv
from ansible_collections.vedfolnir.stack.plugins.module_utils.files import write_atomic
from ansible_collections.vedfolnir.stack.plugins.module_utils.rotation import (
    RotationError,
    Step,
    state_of,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_server import VaultError

LOCK = "/run/vedfolnir/rotation.lock"
REENCRYPT_JOB = "app-reencrypt"
LOGIN_ROLE = "auth/approle/role/vedfolnir-ansible"
STEPS = ("prepare", "switch", "reencrypt", "retire", "login")
"""The steps in their order."""

PROBLEMS = (RotationError, VaultError, consumers.ProjectError, provider.SecretError, OSError)
"""Whatever can go wrong and is to be said, not traced: the next call goes on from there."""

Entries = dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the role ``stack`` writes for the program."""

    vault: str
    """File of :class:`delivery.Settings`."""
    manifest: str
    """File with the manifest and the consumers' files."""
    policy: rotation.Policy
    project: consumers.Project
    metrics: str
    """File for the node exporter's textfile collector."""
    log: str
    """File that tells who rotated what, a JSON object a line."""

    @classmethod
    def read(cls, path: str) -> Settings:
        """Return the settings in a file.

        Raises:
            RotationError: when the host has none.
        """
        try:
            with open(path, encoding="utf-8") as handle:
                content = json.load(handle)
        except FileNotFoundError as exc:
            raise RotationError(
                "the secrets of this host are not in Vault yet; run site.yml"
            ) from exc
        content["policy"] = rotation.Policy(**content["policy"])
        content["project"] = consumers.Project(**content["project"])
        return cls(**content)


@contextlib.contextmanager
def alone() -> t.Iterator[None]:
    """Let one rotation at a time go on.

    Raises:
        RotationError: when there is another one.
    """
    os.makedirs(os.path.dirname(LOCK), mode=0o711, exist_ok=True)
    with open(LOCK, "w", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise RotationError("another rotation is going on; wait for it") from exc
        yield


class Rotation:
    """One rotation of the secrets of this host."""

    def __init__(self, settings: Settings, who: str, say: t.Callable[[str], None]) -> None:
        """Read what there is to rotate.

        Args:
            settings: See :class:`Settings`.
            who: Whom the log names.
            say: Is told of every step.
        """
        self.settings = settings
        self.say = say
        self._who = who
        self._vault = delivery.read_settings(settings.vault)
        with open(settings.manifest, encoding="utf-8") as handle:
            content = json.load(handle)
        self._manifest: list[dict[str, t.Any]] = content["secrets"]
        self._files: dict[str, t.Any] = content["files"]
        self._items = {str(item["name"]): item for item in self._manifest}

    # What there is to do

    def plan(self, only: t.Sequence[str] = ()) -> list[Step]:
        """Return what a rotation would do, see :func:`rotation.plan`."""
        documents = self._documents()
        store = {name: document.value for name, document in documents.items()}
        since = {name: kv.since(document) for name, document in documents.items()}
        now = datetime.datetime.now(datetime.UTC)
        return rotation.plan(self._manifest, store, since, now, self.settings.policy, only)

    def late(self) -> list[str]:
        """Return the services that have not got what Vault has.

        A run that is killed after its last write to Vault leaves them, and then no secret tells.
        """
        store = {name: document.value for name, document in self._documents().items()}
        contents = provider.rendered_files(self._files, store)
        project = self.settings.project
        revisions = self._revisions(contents, store)
        return consumers.late(project, project.services(), revisions)

    # The steps

    def settle(self) -> list[str]:
        """Bring what Vault has into the services that have not got it; return those."""
        late = self.late()
        if late:
            self._apply("finish what an earlier run has begun")
        return late

    def prepare(self, names: t.Sequence[str], servers_only: bool = False) -> list[str]:
        """Make new values for these secrets and let everybody accept them beside the old ones.

        Certificates are issued anew and are in use after this step.

        Args:
            names: The secrets.
            servers_only: Only servers have to accept them, which takes seconds.

        Returns:
            The names of what was made.

        Raises:
            RotationError: when the stack is not well; nothing is changed then.
        """
        documents = self._documents()
        store = {name: document.value for name, document in documents.items()}
        unfinished = [name for name, entry in store.items() if state_of(entry) == "prepared"]
        names = [name for name in names if name not in unfinished]
        if names and not self._unfinished(store):
            self._require_health()
        for name in names:
            item = self._items[name]
            if item["rotate"] == "reissue":
                names_of = [str(entry) for entry in item["names"]]
                value: t.Any = provider.make_leaf(store[str(item["issuer"])], names_of)
                self._write(documents[name], name, value, renewed=True)
            else:
                value = rotation.prepare(store[name], item["kind"], int(item.get("length", 40)))
                self._write(documents[name], name, value)
            self._tell(name, "prepare")
        self._apply("accept the new values", servers_only)
        return list(names)

    def switch(self) -> list[str]:
        """Let consumers use the prepared values; take it back when they do not get well.

        Raises:
            RotationError: after it was taken back.
        """
        switched = self._switch() + [
            name for name in self._in_state("switched") if self._method(name) != "fallback"
        ]
        try:
            self._apply("use the new values")
            self._require_health()
        except (consumers.ProjectError, RotationError) as exc:
            raise RotationError(self._take_back(set(switched), exc)) from exc
        return switched

    def _switch(self) -> list[str]:
        names: list[str] = []
        for name, document in self._documents().items():
            if state_of(document.value) == "prepared":
                self._write(document, name, rotation.switch(document.value), renewed=True)
                self._tell(name, "switch")
                names.append(name)
        return names

    def replace_at_once(self, names: t.Sequence[str]) -> None:
        """Let the old values of these secrets die now, before consumers have the new ones.

        For a value that somebody else has. Consumers fail until they are made anew, one after the
        other; what a Flask key has signed is worth nothing any more.

        Args:
            names: Secrets of which nothing is encrypted with.
        """
        self.prepare(names, servers_only=True)
        self._switch()
        self.retire(encrypted=(), everything=True)

    def reencrypt(self) -> list[str]:
        """Write anew what the old Fernet key has encrypted.

        Raises:
            RotationError: when it could not be done; both keys are accepted then.
        """
        names = [name for name in self._in_state("switched") if self._method(name) == "reencrypt"]
        if names:
            self.say("encrypt with the new key what the old one has encrypted")
            project = self.settings.project
            try:
                jobs.run(project.src, project.name, REENCRYPT_JOB, consumers.JOB_SECONDS)
            except jobs.JobError as exc:
                raise RotationError(f"{exc}. Both keys are accepted; run again") from exc
            for name in names:
                self._tell(name, "reencrypt")
        return names

    def retire(self, encrypted: t.Collection[str], everything: bool = False) -> list[str]:
        """Refuse the old values; earlier keys of Flask when their time is over.

        Args:
            encrypted: Keys with which everything is encrypted by now; other ones stay accepted.
            everything: Earlier keys of Flask, too, which ends the sessions that they signed.
        """
        documents = self._documents()
        now = datetime.datetime.now(datetime.UTC)
        retired: list[str] = []
        for name in self._in_state("switched"):
            document, method = documents[name], self._method(name)
            young = (now - kv.since(document)).days < self.settings.policy.fallback_days
            if method == "fallback" and young and not everything:
                continue
            if method == "reencrypt" and name not in encrypted:
                continue
            self._note(name, document, kv.since(document))
            self._write(document, name, rotation.retire(document.value))
            self._tell(name, "retire")
            retired.append(name)
        self._apply("refuse the old values")
        return retired

    def login(self) -> None:
        """Give the host's own AppRole a new secret id, and destroy all others."""
        path = self._vault.credentials_file
        with open(path, encoding="utf-8") as handle:
            credentials = json.load(handle)
        with delivery.session(self._vault) as api:
            before = _keys(api.call("LIST", f"{LOGIN_ROLE}/secret-id"))
            made = api.call("POST", f"{LOGIN_ROLE}/secret-id", {})
            if not made:
                raise RotationError("Vault has made no secret id for this host's AppRole")
            credentials["secret_id"] = made["data"]["secret_id"]
            write_atomic(path, json.dumps(credentials).encode(), uid=0, gid=0, mode=0o400)
        # With the new one, so that the old is given up by somebody who can still get in.
        with delivery.session(self._vault) as api:
            for accessor in before:
                body = {"secret_id_accessor": accessor}
                api.call("POST", f"{LOGIN_ROLE}/secret-id-accessor/destroy", body)
        self._tell("the AppRole of this host", "new secret id")

    def export(self) -> None:
        """Write the metrics: age and state of each secret, and when a rotation last succeeded."""
        steps = self.plan()
        documents = self._documents()
        write_atomic(
            self.settings.metrics,
            metrics(steps, documents, datetime.datetime.now(datetime.UTC)).encode(),
            uid=0,
            gid=0,
            mode=0o644,
        )

    # How

    def _documents(self) -> dict[str, kv.Document]:
        with delivery.session(self._vault) as api:
            return kv.read_documents(api, self._vault.mount)

    def _in_state(self, state: str) -> list[str]:
        documents = self._documents()
        return [
            name
            for name in self._items
            if name in documents and state_of(documents[name].value) == state
        ]

    def _method(self, name: str) -> str:
        return str(self._items[name].get("rotate"))

    def _unfinished(self, store: Entries) -> list[str]:
        return [
            name
            for name, entry in store.items()
            if state_of(entry) == "prepared"
            or (state_of(entry) == "switched" and self._method(name) != "fallback")
        ]

    def _write(self, document: kv.Document, name: str, value: t.Any, renewed: bool = False) -> None:
        with delivery.session(self._vault) as api:
            kv.write_document(api, self._vault.mount, name, value, document.version)
        if renewed:
            self._note(name, document, datetime.datetime.now(datetime.UTC))

    def _note(self, name: str, document: kv.Document, moment: datetime.datetime) -> None:
        notes = kv.wanted_notes(self._items[name], document.notes, kv.timestamp(moment))
        with delivery.session(self._vault) as api:
            body = {"custom_metadata": notes}
            api.call("POST", f"{self._vault.mount}/metadata/{name}", body)

    def _apply(self, what: str, servers_only: bool = False) -> None:
        """Deliver what Vault has, and bring it into what runs: servers first, then the others."""
        self.say(what)
        with delivery.session(self._vault) as api:
            documents = kv.read_documents(api, self._vault.mount)
            store = {name: document.value for name, document in documents.items()}
            contents = provider.rendered_files(self._files, store)
            delivery.deliver(api, self._vault, self._files, contents)
        revisions = self._revisions(contents, store)
        project = self.settings.project
        consumers.set_revisions(project, revisions)
        services = project.services()
        for name in consumers.read_again(project, services, revisions):
            self.say(f"{name} has read its new files")
        for name in consumers.run_jobs(project, services, revisions):
            self.say(f"{name} has run")
        if not servers_only:
            consumers.replace(project, services, revisions, self.say)

    def _revisions(self, contents: t.Mapping[str, t.Any], store: Entries) -> dict[str, str]:
        return {
            consumer: provider.revision(contents[consumer], str(store["__salt"]))
            for consumer in self._files
        }

    def _require_health(self) -> None:
        ill = consumers.wait_for_health(self.settings.project)
        if ill:
            raise RotationError(f"not healthy: {', '.join(ill)}; see docs/troubleshooting.md")

    def _take_back(self, names: t.Collection[str], cause: Exception) -> str:
        """Let consumers use the old values again; return what is to be said."""
        self.say("the new values do not work; take them back")
        documents = self._documents()
        for name in names:
            self._write(documents[name], name, rotation.switch_back(documents[name].value))
            self._tell(name, "take back")
        # Perhaps a server has lost what it was told.
        consumers.forget(self.settings.project, self.settings.project.services())
        try:
            self._apply("use the old values again")
        except (consumers.ProjectError, VaultError) as exc:
            return f"{cause}. The old values were restored, but: {exc}"
        return (
            f"{cause}. The old values are in use again, the new ones are accepted beside them; "
            "the next rotation tries again"
        )

    def _tell(self, name: str, step: str) -> None:
        """Write who did what to the log and say it; never a value."""
        write_log(self.settings.log, self._who, name, step)
        self.say(f"{step}: {name}")


def write_log(path: str, who: str, name: str, step: str) -> None:
    """Write down who did what with a secret, and when; never a value."""
    now = kv.timestamp(datetime.datetime.now(datetime.UTC))
    line = json.dumps({"time": now, "who": who, "secret": name, "step": step})
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    with os.fdopen(descriptor, "a", encoding="utf-8") as handle:
        handle.write(f"{line}\n")


def _keys(answer: t.Mapping[str, t.Any] | None) -> list[str]:
    return [str(key) for key in ((answer or {}).get("data") or {}).get("keys") or []]


def metrics(
    steps: t.Sequence[Step], documents: t.Mapping[str, kv.Document], now: datetime.datetime
) -> str:
    """Return the metrics in Prometheus' text format.

    Reference: prometheus.io/docs/instrumenting/exposition_formats
    """
    lines = [
        "# HELP vedfolnir_secret_since_seconds When the present value came into use, Unix time.",
        "# TYPE vedfolnir_secret_since_seconds gauge",
        *(
            f'vedfolnir_secret_since_seconds{{name="{step.name}",method="{step.method}"}} '
            f"{kv.since(documents[step.name]).timestamp():.0f}"
            for step in steps
        ),
        "# HELP vedfolnir_secret_unfinished Whether a rotation was begun and not finished.",
        "# TYPE vedfolnir_secret_unfinished gauge",
        *(
            f'vedfolnir_secret_unfinished{{name="{step.name}"}} {int(step.action == "finish")}'
            for step in steps
        ),
        "# HELP vedfolnir_secrets_checked_seconds When these figures were taken, Unix time.",
        "# TYPE vedfolnir_secrets_checked_seconds gauge",
        f"vedfolnir_secrets_checked_seconds {now.timestamp():.0f}",
    ]
    return "\n".join(lines) + "\n"


def run(work: Rotation, only: t.Sequence[str] = (), emergency: bool = False) -> list[str]:
    """Do all steps; return the names of the secrets that were rotated."""
    wanted = [step.name for step in work.plan(only) if step.action != "keep"]
    if not wanted:
        if not work.settle():
            work.say("nothing is due")
        work.export()
        return []
    steps = [step for step in work.plan(only) if step.action == "rotate"]
    at_once = [step.name for step in steps if emergency and step.method != "reencrypt"]
    try:
        if at_once:
            work.replace_at_once(at_once)
        work.prepare([step.name for step in steps if step.name not in at_once])
        work.switch()
        work.retire(work.reencrypt(), everything=emergency)
        if not only:
            work.login()
    finally:
        with contextlib.suppress(VaultError):
            work.export()
    return wanted


def main(argv: t.Sequence[str]) -> int:
    """Rotate what is due: ``vault_rotate.py SETTINGS [NAME …]``; called by the timer."""
    parser = argparse.ArgumentParser(prog="vedfolnir-rotate")
    parser.add_argument("settings")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args(argv)

    def say(text: str) -> None:
        sys.stdout.write(f"vedfolnir rotation: {text}\n")
        sys.stdout.flush()

    try:
        with alone():
            run(Rotation(Settings.read(options.settings), "timer", say), options.names)
    except PROBLEMS as exc:
        sys.stderr.write(f"vedfolnir rotation: {exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
