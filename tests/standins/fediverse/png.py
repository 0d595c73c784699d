"""Valid PNG images made from a name: the same name gives the same bytes, another name others."""

from __future__ import annotations

import hashlib
import struct
import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def make_png(name: str, edge: int = 64) -> bytes:
    """Return a square image of two colours in stripes that depend on ``name``."""
    digest = hashlib.sha256(name.encode()).digest()
    colours = (digest[0:3], digest[3:6])
    rows = [
        b"\x00" + b"".join(colours[(digest[(x + y) % 32] >> (x % 8)) & 1] for x in range(edge))
        for y in range(edge)
    ]
    header = struct.pack(">IIBBBBB", edge, edge, 8, 2, 0, 0, 0)
    return (
        _SIGNATURE
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(b"".join(rows)))
        + _chunk(b"IEND", b"")
    )
