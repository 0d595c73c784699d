"""Names of models, and the content that a pull of a name brings."""

from __future__ import annotations

import dataclasses
import hashlib
import re

_NAME = re.compile(r"[a-z0-9][a-z0-9._/-]{0,127}(:[A-Za-z0-9_][A-Za-z0-9._-]{0,79})?")
# A name that begins so is one that the library does not have.
_UNKNOWN_PREFIX = "no-such-"
# kind of layer, size in bytes: the first stands for the gigabytes of weights
_LAYERS = (("model", 4 * 1024 * 1024), ("license", 7020), ("params", 64))


class BadNameError(ValueError):
    """Not a name of a model."""


def normalise(name: object) -> str:
    """Return the full name: without a tag, ``:latest`` is meant."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        msg = "invalid model name"
        raise BadNameError(msg)
    return name if ":" in name else f"{name}:latest"


def is_available(name: str) -> bool:
    """Return whether the library has a model of this name."""
    return not name.startswith(_UNKNOWN_PREFIX)


@dataclasses.dataclass(frozen=True)
class Layer:
    """A blob of a model; its bytes follow from its seed."""

    kind: str
    seed: str
    size: int

    def content(self) -> bytes:
        """Return the bytes."""
        block = hashlib.sha256(self.seed.encode()).digest() * 32
        return (block * (self.size // len(block) + 1))[: self.size]

    def digest(self) -> str:
        """Return the digest in Ollama's form."""
        return "sha256:" + hashlib.sha256(self.content()).hexdigest()


def layers_of(name: str) -> list[Layer]:
    """Return the layers that a pull brings."""
    return [Layer(kind, f"{name}/{kind}", size) for kind, size in _LAYERS]
