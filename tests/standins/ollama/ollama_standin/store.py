"""Models on disk: manifests, and blobs that a broken pull leaves as ``-partial``."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import threading
import time
import typing as t
from pathlib import Path

from ollama_standin import names, settings
from ollama_standin.names import Layer

Json = dict[str, t.Any]

_CHUNK = 256 * 1024


class PullError(Exception):
    """A pull failed; the text is Ollama's."""


class Store:
    """The models of one directory; pulls of the same blob wait for each other."""

    def __init__(self, directory: Path) -> None:
        self.manifests = directory / "manifests"
        self.blobs = directory / "blobs"
        for path in (self.manifests, self.blobs):
            path.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()

    def _manifest(self, name: str) -> Path:
        model, _, tag = name.partition(":")
        return self.manifests / model / tag

    def _blob(self, digest: str) -> Path:
        return self.blobs / digest.replace(":", "-")

    def has(self, name: str) -> bool:
        """Return whether a model was pulled."""
        return self._manifest(name).is_file()

    def models(self) -> list[Json]:
        """Return all models as ``/api/tags`` shows them, newest first."""
        found = [self._describe(path) for path in self.manifests.rglob("*") if path.is_file()]
        return sorted(found, key=lambda model: str(model["modified_at"]), reverse=True)

    def _describe(self, path: Path) -> Json:
        name = ":".join(str(path.relative_to(self.manifests)).rsplit("/", 1))
        text = path.read_text(encoding="utf-8")
        modified = dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC)
        return {
            "name": name,
            "model": name,
            "modified_at": modified.isoformat(),
            "size": sum(layer["size"] for layer in json.loads(text)["layers"]),
            "digest": hashlib.sha256(text.encode()).hexdigest(),
            "details": details(name),
        }

    def delete(self, name: str) -> bool:
        """Remove a model and the blobs nobody else needs; return whether it was there."""
        if not self.has(name):
            return False
        self._manifest(name).unlink()
        used = {
            layer["digest"]
            for path in self.manifests.rglob("*")
            if path.is_file()
            for layer in json.loads(path.read_text(encoding="utf-8"))["layers"]
        }
        for layer in names.layers_of(name):
            if layer.digest() not in used:
                self._blob(layer.digest()).unlink(missing_ok=True)
        return True

    def pull(self, name: str) -> t.Iterator[Json]:
        """Fetch a model and yield what Ollama says meanwhile."""
        yield {"status": "pulling manifest"}
        if not names.is_available(name):
            msg = "pull model manifest: file does not exist"
            raise PullError(msg)
        layers = names.layers_of(name)
        with self._lock:
            for layer in layers:
                yield from self._fetch(layer)
        yield {"status": "verifying sha256 digest"}
        yield {"status": "writing manifest"}
        described = [
            {"mediaType": layer.kind, "digest": layer.digest(), "size": layer.size}
            for layer in layers
        ]
        path = self._manifest(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"schemaVersion": 2, "layers": described}), encoding="utf-8")
        yield {"status": "success"}

    def _fetch(self, layer: Layer) -> t.Iterator[Json]:
        """Write one blob, from where an earlier pull stopped."""
        digest = layer.digest()
        blob = self._blob(digest)
        partial = blob.with_name(blob.name + "-partial")
        content = layer.content()
        report = {
            "status": f"pulling {digest.removeprefix('sha256:')[:12]}",
            "digest": digest,
            "total": layer.size,
        }
        if blob.is_file():
            yield report | {"completed": layer.size}
            return
        done = partial.stat().st_size if partial.is_file() else 0
        yield report | {"completed": done} if done else report
        rate = settings.pull_bytes_per_second()
        with partial.open("ab") as target:
            while done < layer.size:
                chunk = content[done : done + _CHUNK]
                if rate:
                    time.sleep(len(chunk) / rate)
                target.write(chunk)
                target.flush()
                done += len(chunk)
                yield report | {"completed": done}
        if hashlib.sha256(partial.read_bytes()).hexdigest() != digest.removeprefix("sha256:"):
            partial.unlink()
            msg = "digest mismatch, file must be downloaded again"
            raise PullError(msg)
        partial.replace(blob)


def details(name: str) -> Json:
    """Return what is said of every model."""
    family = name.partition(":")[0].rpartition("/")[2]
    return {
        "parent_model": "",
        "format": "gguf",
        "family": family,
        "families": [family, "clip"],
        "parameter_size": "7B",
        "quantization_level": "Q4_0",
    }
