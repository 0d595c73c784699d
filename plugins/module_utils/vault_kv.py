# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The secrets as documents of Vault's key-value store, version 2.

One document per secret of the manifest, with the parts that placeholders name as its fields and,
while it is being rotated, ``state``. Read together they are the store that values are made in and
rendered from.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils.secrets import (
    VAULT_MARKER,
    parts,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_server import (
    VaultError,
    asking,
)


class Caller(t.Protocol):
    """Calls Vault's HTTP interface as somebody who is logged in."""

    def call(
        self,
        method: str,
        path: str,
        body: t.Mapping[str, t.Any] | None = None,
        wrap_ttl: str | None = None,
    ) -> dict[str, t.Any] | None:
        """Return the answer, nothing when Vault has nothing at that path.

        Raises:
            VaultError: when Vault refuses or does not answer.
        """


class Api:
    """Calls Vault with a client of hvac that has logged in.

    Paths and bodies instead of the library's own methods: the calls are the same for Vault,
    OpenBao and every version of the library.
    """

    def __init__(self, client: t.Any) -> None:
        """Keep the client."""
        self._client = client

    def call(
        self,
        method: str,
        path: str,
        body: t.Mapping[str, t.Any] | None = None,
        wrap_ttl: str | None = None,
    ) -> dict[str, t.Any] | None:
        """See :class:`Caller`."""
        options: dict[str, t.Any] = {} if body is None else {"json": dict(body)}
        if wrap_ttl:
            options["wrap_ttl"] = wrap_ttl
        try:
            with asking(f"{method} {path}"):
                answer = self._client.adapter.request(method, f"/v1/{path}", **options)
        except VaultError as exc:
            if exc.reason == "missing":
                return None
            raise
        return answer if isinstance(answer, dict) else {}


@dataclasses.dataclass(frozen=True)
class Document:
    """A secret as Vault has it: its newest version, when that was written, what is noted of it."""

    data: dict[str, str]
    version: int
    notes: dict[str, str]
    written_at: str = ""

    @property
    def value(self) -> t.Any:
        """The secret as a store has it."""
        if "value" not in self.data:
            return {part: self.data[part] for part in ("certificate", "private_key")}
        if "state" not in self.data:
            return self.data["value"]
        return {
            "value": self.data["value"],
            "others": self.data["others"].split("\n"),
            "state": self.data["state"],
        }


def data_of(value: t.Any) -> dict[str, str]:
    """Return the fields of a secret's document."""
    state = {"state": value["state"]} if "state" in value and isinstance(value, dict) else {}
    return parts(value) | state


def since(document: Document) -> datetime.datetime:
    """Return when the present value of a secret came into use, at the latest.

    It is noted after the document was written; a run that was killed in between did not note it.
    """
    switched = document.data.get("state") == "switched"
    text = document.written_at if switched else document.notes.get("rotated_at", "")
    try:
        moment = datetime.datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")
    except ValueError:
        return datetime.datetime.now(datetime.UTC)
    return moment.replace(tzinfo=datetime.UTC)


def read_documents(api: Caller, mount: str) -> dict[str, Document]:
    """Return every document below a mount.

    Raises:
        VaultError: also for a document that was deleted: what was in it must not be made anew.
    """
    listed = api.call("LIST", f"{mount}/metadata") or {}
    documents: dict[str, Document] = {}
    for name in listed.get("data", {}).get("keys", []):
        if name.endswith("/"):
            continue
        answer = api.call("GET", f"{mount}/data/{name}")
        try:
            content = (answer or {})["data"]
            metadata = content["metadata"]
            document = Document(
                data=dict(content["data"]),
                version=int(metadata["version"]),
                notes=dict(metadata.get("custom_metadata") or {}),
                written_at=str(metadata.get("created_time") or ""),
            )
            documents[name] = document
            _value = document.value  # raises for a document of another form
        except (KeyError, TypeError, ValueError) as exc:
            raise VaultError(
                "missing",
                f"{name}: what Vault has of it is deleted or damaged; undelete it or roll it back "
                f"(kv undelete, kv rollback of {mount}/{name})",
            ) from exc
    return documents


def expected_names(local: t.Mapping[str, t.Any]) -> list[str]:
    """Return the names that Vault must have, from the marker that the host keeps."""
    return [str(name) for name in local.get(VAULT_MARKER) or []]


def merged(
    local: t.Mapping[str, t.Any], documents: t.Mapping[str, Document]
) -> tuple[dict[str, t.Any], list[str]]:
    """Return all values, Vault's first, and the names that Vault takes over from the host.

    Raises:
        VaultError: when Vault lacks what it once had. New values would lock everybody out.
    """
    missing = sorted(set(expected_names(local)) - set(documents))
    if missing:
        raise VaultError(
            "missing",
            f"Vault no longer has {', '.join(missing)}, which it had; restore a snapshot of Vault. "
            "Nothing was made anew, because the services still use the old values",
        )
    values = {
        name: value for name, value in local.items() if name != VAULT_MARKER and value is not None
    }
    adopted = sorted(set(values) - set(documents))
    values.update({name: document.value for name, document in documents.items()})
    return values, adopted


def write_document(api: Caller, mount: str, name: str, value: t.Any, version: int) -> None:
    """Write a new version of a secret, only on top of the version that was read (0: none).

    Raises:
        VaultError: when somebody else wrote in the meantime.
    """
    body = {"options": {"cas": version}, "data": data_of(value)}
    try:
        api.call("POST", f"{mount}/data/{name}", body)
    except VaultError as exc:
        if "check-and-set" not in str(exc):
            raise
        raise VaultError(
            "refused", f"{name}: was changed by somebody else meanwhile; run again"
        ) from exc


def wanted_notes(
    item: t.Mapping[str, t.Any] | None, notes: t.Mapping[str, str], rotated_at: str | None
) -> dict[str, str]:
    """Return what is to be noted of a secret: when its value was made, and how it rotates."""
    result = dict(notes)
    if rotated_at:
        result["rotated_at"] = rotated_at
    if item is not None:
        result["method"] = str(item.get("rotate", "never"))
    return result


def write_documents(
    api: Caller,
    mount: str,
    manifest: t.Sequence[t.Mapping[str, t.Any]],
    store: t.Mapping[str, t.Any],
    documents: t.Mapping[str, Document],
    made_at: t.Mapping[str, str],
) -> list[str]:
    """Bring Vault's documents into the state of ``store``; return the names that were written.

    Args:
        made_at: When a value was made, by name, where that is not now.
    """
    items = {str(item["name"]): item for item in manifest}
    now = timestamp(datetime.datetime.now(datetime.UTC))
    written: list[str] = []
    for name, value in store.items():
        known = documents.get(name)
        fresh = known is None or known.value != value
        if known is None or known.data != data_of(value):
            write_document(api, mount, name, value, known.version if known else 0)
            written.append(name)
        # A run that was killed between the two writes has left a document without its notes.
        notes = known.notes if known else {}
        made = made_at.get(name, now) if fresh or "rotated_at" not in notes else None
        wanted = wanted_notes(items.get(name), notes, made)
        if wanted != notes:
            api.call("POST", f"{mount}/metadata/{name}", {"custom_metadata": wanted})
    return written


def timestamp(moment: datetime.datetime) -> str:
    """Return a moment as it is noted: UTC, to the second."""
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def file_moment(path: str) -> str:
    """Return when a file was last written, now if it is not there."""
    try:
        moment = datetime.datetime.fromtimestamp(os.stat(path).st_mtime, datetime.UTC)
    except FileNotFoundError:
        moment = datetime.datetime.now(datetime.UTC)
    return timestamp(moment)
