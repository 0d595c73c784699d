# Copyright: the vedfolnir.stack maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fingerprints of OpenPGP keys, without a program such as gpg, which a small host lacks."""

from __future__ import annotations

DOCUMENTATION = r"""
name: openpgp_fingerprints
short_description: List the fingerprints of the keys in an OpenPGP text
version_added: 0.1.0
author: The vedfolnir.stack maintainers (@vedfolnir)
description:
  - Returns the fingerprint of every primary key in a text of armoured public keys, in its order.
  - Nothing is returned for a text that has no key or one that cannot be read to its end, so that
    a comparison with what is wanted fails.
positional: _input
options:
  _input:
    description: The text.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Trust no other key
  ansible.builtin.assert:
    that: >-
      lookup('ansible.builtin.file', 'docker.asc') | vedfolnir.stack.openpgp_fingerprints
      == ['9DC858229FC7DD38854AE2D88D81803C0EBFCD88']
"""

RETURN = r"""
_value:
  description: Fingerprints in hexadecimal digits and capitals.
  type: list
  elements: str
  sample: [9DC858229FC7DD38854AE2D88D81803C0EBFCD88]
"""

import base64
import hashlib
import re
import typing as t

from ansible.errors import AnsibleFilterError

_BLOCK = re.compile(
    r"^-----BEGIN PGP PUBLIC KEY BLOCK-----[ \t]*\r?\n"
    r"(?:[^\r\n]+\r?\n)*?[ \t]*\r?\n"  # headers, closed by an empty line
    r"(?P<data>[A-Za-z0-9+/=\s]*?)"
    r"(?:^=[A-Za-z0-9+/]{4}\s*)?"
    r"^-----END PGP PUBLIC KEY BLOCK-----",
    re.MULTILINE,
)
_PUBLIC_KEY = 6
"""Tag of a primary key (RFC 9580, section 5)."""


def openpgp_fingerprints(text: object) -> list[str]:
    """Return the fingerprint of every primary key in a text of armoured keys."""
    if not isinstance(text, str):
        raise AnsibleFilterError(f"openpgp_fingerprints expects a text, got {type(text).__name__}")
    try:
        blocks = [base64.b64decode(match["data"]) for match in _BLOCK.finditer(text)]
        if len(blocks) != text.count("-----BEGIN"):
            raise ValueError("something that is no block of public keys")
        return [
            _fingerprint(body)
            for block in blocks
            for tag, body in _packets(block)
            if tag == _PUBLIC_KEY
        ]
    except (ValueError, IndexError):
        return []


def _packets(data: bytes) -> t.Iterator[tuple[int, bytes]]:
    """Yield the tag and the body of each packet (RFC 9580, section 4.2)."""
    position = 0
    while position < len(data):
        first = data[position]
        if not first & 0x80:
            raise ValueError("not the start of a packet")
        new = bool(first & 0x40)
        tag = first & 0x3F if new else first >> 2 & 0x0F
        start, length = (_new_length if new else _old_length)(data, position)
        if start + length > len(data):
            raise ValueError("cut off")
        yield tag, data[start : start + length]
        position = start + length


def _new_length(data: bytes, position: int) -> tuple[int, int]:
    """Return where a packet's body starts and its length, in the present format."""
    first = data[position + 1]
    if first < 192:
        return position + 2, first
    if first < 224:
        return position + 3, (first - 192 << 8) + data[position + 2] + 192
    if first < 255:
        raise ValueError("a key has no partial lengths")
    return position + 6, int.from_bytes(data[position + 2 : position + 6], "big")


def _old_length(data: bytes, position: int) -> tuple[int, int]:
    """Return where a packet's body starts and its length, in the legacy format."""
    size = 1 << (data[position] & 0x03)
    if size == 8:
        raise ValueError("a key has no indeterminate length")
    start = position + 1 + size
    return start, int.from_bytes(data[position + 1 : start], "big")


def _fingerprint(body: bytes) -> str:
    """Return the fingerprint of a key packet's body (RFC 9580, section 5.5.4)."""
    if body[0] == 4:
        text = b"\x99" + len(body).to_bytes(2, "big") + body
        return hashlib.sha1(text, usedforsecurity=False).hexdigest().upper()
    if body[0] == 6:
        return hashlib.sha256(b"\x9b" + len(body).to_bytes(4, "big") + body).hexdigest().upper()
    raise ValueError("a version of keys that is not known")


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filter by its name."""
        return {"openpgp_fingerprints": openpgp_fingerprints}
