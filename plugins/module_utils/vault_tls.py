# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Vault's certificate: made on the host by an authority of its own, renewed before its end.

Vault cannot issue it itself: it must answer over TLS before it is unsealed.
"""

from __future__ import annotations

import dataclasses
import os
import ssl
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import secrets as provider
from ansible_collections.vedfolnir.stack.plugins.module_utils.files import write_atomic

AUTHORITY = "Vedfolnir Vault CA"


@dataclasses.dataclass(frozen=True)
class Certificate:
    """Where the certificate is and for whom it is."""

    directory: str
    """Root's own, with ``ca.pem`` and ``ca.key``; ``tls`` below it is what the server sees."""
    names: t.Sequence[str]
    uid: int
    gid: int

    @property
    def served(self) -> str:
        """The file that the server presents."""
        return os.path.join(self.directory, "tls", "server.pem")

    def ensure(self, check: bool = False) -> list[str]:
        """Make or renew what is missing or ends soon; return the files that (would) change.

        Raises:
            SecretError: when what is there is damaged.
        """
        tls = os.path.dirname(self.served)
        authority_files = _pair(self.directory, "ca")
        server_files = _pair(tls, "server")
        authority, leaf = _read(authority_files), _read(server_files)
        changed: list[str] = []
        if authority is None:
            changed += authority_files
            if check:
                return [*changed, *server_files]
            authority, leaf = provider.make_ca(AUTHORITY), None
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            # The certificate last: without it the next run makes both anew.
            self._write(authority_files[1], authority["private_key"], root=True)
            self._write(authority_files[0], authority["certificate"], root=True, mode=0o444)
        if leaf is None or not _current(leaf, authority, self.names, server_files[0]):
            changed += server_files
            if not check:
                leaf = provider.make_leaf(authority, self.names)
                os.makedirs(tls, mode=0o700, exist_ok=True)
                self._write(server_files[1], leaf["private_key"])
                self._write(server_files[0], leaf["certificate"])
        return changed + self._copies(tls, authority, check)

    def _copies(self, tls: str, authority: t.Mapping[str, str], check: bool) -> list[str]:
        """Put the authority's certificate beside the server's; give the directory its owner."""
        copy = os.path.join(tls, "ca.pem")
        differs = _text(copy) != authority["certificate"]
        if not check:
            if differs:
                self._write(copy, authority["certificate"], mode=0o444)
            os.chown(tls, self.uid, self.gid)
            os.chmod(tls, 0o500)
        return [copy] if differs else []

    def _write(self, path: str, text: str, *, root: bool = False, mode: int = 0o400) -> None:
        uid, gid = (0, 0) if root else (self.uid, self.gid)
        write_atomic(path, text.encode(), uid=uid, gid=gid, mode=mode)


def is_served(address: str, port: int, path: str) -> bool:
    """Tell whether the server at an address presents the certificate in a file.

    One that does not answer presents nothing old: True.
    """
    try:
        presented = ssl.get_server_certificate((address, port), timeout=5)
    except (OSError, ValueError):
        return True
    wanted = _text(path) or ""
    return ssl.PEM_cert_to_DER_cert(presented) == ssl.PEM_cert_to_DER_cert(wanted)


def _pair(directory: str, name: str) -> list[str]:
    return [os.path.join(directory, f"{name}.pem"), os.path.join(directory, f"{name}.key")]


def _text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read()
    except FileNotFoundError:
        return None


def _read(files: t.Sequence[str]) -> dict[str, str] | None:
    certificate, private_key = map(_text, files)
    if certificate is None or private_key is None:
        return None
    return {"certificate": certificate, "private_key": private_key}


def _current(
    leaf: t.Mapping[str, str], authority: t.Mapping[str, str], names: t.Sequence[str], path: str
) -> bool:
    try:
        return provider.leaf_is_current(leaf, authority, names)
    except ValueError as exc:
        raise provider.SecretError(
            f"{path}: the certificate or its authority's is damaged; remove the damaged file"
        ) from exc
