"""Runs where an image is saved: list what each of its layers holds, and find texts in them.

``find_in_image.py ARCHIVE TEXT…`` reads what ``docker save`` wrote, in the old layout or OCI's, and
prints a JSON object: ``layers``, the names in each layer from the lowest up, deleted and replaced
files included, and ``found``, one ``place: text`` for each find in a file or in the image's own
settings. A layer that cannot be read is an error.
"""

from __future__ import annotations

import json
import sys
import tarfile
import typing as t


def files(archive: tarfile.TarFile) -> t.Iterator[tuple[str, bytes]]:
    """Yield name and content of everything in an archive; only files have content."""
    for member in archive:
        content = archive.extractfile(member) if member.isfile() else None
        yield member.name.removeprefix("./"), content.read() if content else b""


def finds(place: str, content: bytes, wanted: t.Sequence[str]) -> t.Iterator[str]:
    """Yield a line for each text that is in the content."""
    for text in wanted:
        if text.encode() in content:
            yield f"{place}: {text}"


def main(path: str, *wanted: str) -> None:
    """Read the archive and print what is in it."""
    layers: list[list[str]] = []
    found: list[str] = []
    with tarfile.open(path) as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        (image,) = json.load(manifest)
        for number, layer in enumerate(image["Layers"]):
            # However it is compressed.
            with tarfile.open(fileobj=archive.extractfile(layer), mode="r:*") as content:
                names: list[str] = []
                for name, text in files(content):
                    names.append(name)
                    found += finds(f"layer {number} {name}", text, wanted)
                layers.append(names)
        for name, text in files(archive):
            if name not in image["Layers"]:
                found += finds(f"settings {name}", text, wanted)
    print(json.dumps({"layers": layers, "found": found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
