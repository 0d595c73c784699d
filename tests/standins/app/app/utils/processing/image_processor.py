"""Keep downloaded images under a name made from their URL."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import PIL.Image

_EXTENSIONS = {
    "image/png": ".png",
    "image/webp": ".webp",
    "image/gif": ".gif",
    "image/avif": ".avif",
    "image/heic": ".heic",
}
_MAX_BYTES = 20 * 1024 * 1024
_MIN_EDGE, _MAX_EDGE = 50, 10_000


class ImageRefusedError(ValueError):
    """The image is too small, too big, or none."""


def stored_name(url: str, content_type: str) -> str:
    """Return the file name for an image: two users with one URL share the file."""
    digest = hashlib.md5(url.encode(), usedforsecurity=False).hexdigest()
    return digest[:12] + _EXTENSIONS.get(content_type, ".jpg")


def store_image(directory: str, url: str, content: bytes, content_type: str) -> str:
    """Check an image, write it and return its path relative to the working directory."""
    if len(content) > _MAX_BYTES:
        msg = "The image is larger than 20 MB"
        raise ImageRefusedError(msg)
    try:
        with PIL.Image.open(io.BytesIO(content)) as image:
            size = image.size
            image.verify()
    except (OSError, SyntaxError) as exc:
        msg = "The image cannot be read"
        raise ImageRefusedError(msg) from exc
    if min(size) < _MIN_EDGE or max(size) > _MAX_EDGE:
        msg = f"The image measures {size[0]}x{size[1]} pixels"
        raise ImageRefusedError(msg)
    path = Path(directory) / stored_name(url, content_type)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
    return str(path)
