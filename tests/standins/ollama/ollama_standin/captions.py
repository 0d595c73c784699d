"""Captions: a sentence chosen by the digest of the image, always the same for the same bytes."""

from __future__ import annotations

import base64
import binascii
import hashlib

_SUBJECTS = ("a quiet lake", "two bicycles", "a market stall", "an old oak", "a lighthouse")
_SCENES = (
    "under a clear morning sky",
    "in the rain",
    "at dusk",
    "in bright snow",
    "by a stone wall",
)
_MANNERS = ("seen from above", "in close-up", "from across the street", "through a window")


class BadImageError(ValueError):
    """The image is not base64, or empty."""


def caption(images: list[str]) -> str:
    """Return a caption of 80 to 200 characters that names the digest of the first image."""
    try:
        data = base64.b64decode(images[0], validate=True) if images else b""
    except (binascii.Error, ValueError) as exc:
        msg = "illegal base64 data"
        raise BadImageError(msg) from exc
    if images and not data:
        msg = "image is empty"
        raise BadImageError(msg)
    digest = hashlib.sha256(data).digest()
    return (
        f"A photograph of {_SUBJECTS[digest[0] % len(_SUBJECTS)]} "
        f"{_SCENES[digest[1] % len(_SCENES)]}, {_MANNERS[digest[2] % len(_MANNERS)]} "
        f"(stand-in caption {digest.hex()[:8]})."
    )
