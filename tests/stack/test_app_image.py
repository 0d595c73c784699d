"""The application's image: what it holds, where it comes from, what its targets promise."""

from __future__ import annotations

import dataclasses
import fnmatch
import gzip
import io
import json
import pathlib
import shutil
import subprocess
import sys
import tarfile
import typing as t

import pytest
from lab import ROOT, Lab, wait_until

SCANNER = pathlib.Path(__file__).with_name("find_in_image.py")
STANDIN = ROOT / "tests/standins/app"
MARKER = "not-a-secret-marker"
"""The text in the stand-in's files that no image may hold."""
FORBIDDEN = (
    *("*/.git", "*/.git/*", ".git/*", "*/.env", "*/.env.*"),
    *("app/tests", "app/tests/*", "app/test_*", "app/secrets", "app/secrets/*", "app/docs/*"),
    *("app/*.pem", "app/*.key", "app/*.sql", "app/*.log"),
)
PLANTED = [
    *(".git/config", "app/.git/HEAD", "app/.env", "opt/x/.env.production", "app/tests/x"),
    *("app/test_x.py", "app/secrets/key", "app/docs/a.md", "app/deep/a.pem", "app/logs/a.log"),
]
ALLOWED = ["app/.gitignore", "app/app/services/tests.py", "opt/venv/lib/x/tests/y", "etc/a.pem"]
LARGEST_MB = 600
"""More than twice what the image has; one of the giants that the rules drop would not fit in."""
LANDING = "Captions for the images of the Fediverse."
PATCHED = "Captions, patched."
HIDDEN = f"""\
FROM scratch
COPY <<END /app/secrets/key
{MARKER}
END
COPY <<END /app/secrets/key
harmless
END
LABEL planted={MARKER}
"""
BUILD = "Assemble the build context"
"""A task that runs only when an image is built."""
KEEP_ALL = {"app_keep_versions": 9}


def _read_archive(lab: Lab, image: str) -> dict[str, t.Any]:
    """Return what the scanner says of an image on the host."""
    path = "/root/test-image.tar"
    scan = f"python3 - {path} {MARKER}"
    try:
        output = lab.run(f"docker save --output {path} {image} && {scan}", stdin=_scanner())
    finally:
        lab.run(f"rm -f {path}")
    return t.cast("dict[str, t.Any]", json.loads(output))


def _scanner() -> str:
    return SCANNER.read_text("utf-8")


def _forbidden(names: t.Iterable[str]) -> list[str]:
    """Return the names that no layer may have."""
    return [
        name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in FORBIDDEN)
    ]


def _image(lab: Lab) -> str:
    """Return the image of the first web container."""
    return str(lab.inspect()["app-1"]["Config"]["Image"])


def _images(lab: Lab) -> set[str]:
    return set(lab.run("docker image ls --quiet --no-trunc vedfolnir-app").split())


def _page(lab: Lab, path: str = "/landing") -> str:
    answer = lab.session().get(lab.https + path, timeout=60)
    assert answer.status_code == 200, f"{path}: {answer.status_code}"
    return answer.text


@pytest.fixture(scope="module", autouse=True)
def inventory_image(lab: Lab) -> t.Iterator[str]:
    """The image that the inventory's values give, in use again in the end, and alone."""
    before = _image(lab)
    yield before
    lab.playbook().check()
    assert _image(lab) == before
    assert lab.unhealthy() == []


def test_no_layer_holds_tests_history_or_secrets(
    lab: Lab, inventory_image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = _read_archive(lab, inventory_image)
    assert archive["found"] == []
    names = [name for layer in archive["layers"] for name in layer]
    assert {"app/web_app.py", "opt/adapter/vedfolnir_adapter/serve.py"} <= set(names)
    assert _forbidden(names) == []
    size = int(lab.run(f"docker image inspect --format '{{{{.Size}}}}' {inventory_image}")) / 1e6
    with capsys.disabled():
        print(f"\nsize of {inventory_image}: {size:.0f} MB in {len(archive['layers'])} layers")
    assert size < LARGEST_MB


def test_the_scanner_finds_what_a_later_layer_hides(lab: Lab) -> None:
    """Else the test above would prove nothing."""
    image = "test-planted:1"
    try:
        lab.run(f"docker build --quiet --tag {image} -", stdin=HIDDEN)
        archive = _read_archive(lab, image)
    finally:
        lab.run(f"docker image rm --force {image}")
    assert "app/secrets/key" in archive["layers"][0]
    in_layers = [place for place in archive["found"] if place.startswith("layer")]
    assert in_layers == [f"layer 0 app/secrets/key: {MARKER}"]
    assert any(place.startswith("settings") for place in archive["found"])


@pytest.mark.parametrize("compress", [gzip.compress, bytes], ids=["gzip", "plain"])
def test_the_scanner_reads_compressed_layers(
    compress: t.Callable[[bytes], bytes], tmp_path: pathlib.Path
) -> None:
    """As engines save them that keep images compressed; what is forbidden is told from the rest."""
    layer = "blobs/sha256/0123"
    files = {f"./{name}": b"" for name in PLANTED + ALLOWED}
    content = {
        layer: compress(_tar(files | {"./app/tests/x": MARKER.encode()})),
        "manifest.json": json.dumps([{"Layers": [layer]}]).encode(),
    }
    (tmp_path / "image.tar").write_bytes(_tar(content))
    argv = [sys.executable, str(SCANNER), f"{tmp_path}/image.tar", MARKER]
    archive = json.loads(subprocess.check_output(argv))
    assert archive["layers"] == [PLANTED + ALLOWED]
    assert _forbidden(archive["layers"][0]) == PLANTED
    assert archive["found"] == [f"layer 0 app/tests/x: {MARKER}"]


def _tar(content: t.Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@dataclasses.dataclass(frozen=True)
class Repository:
    """A git repository with the stand-in's source."""

    path: pathlib.Path

    def git(self, *arguments: str) -> str:
        """Run git in it."""
        person = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
        argv = ["git", "-C", str(self.path), *person, *arguments]
        return subprocess.check_output(argv, text=True).strip()

    @property
    def variables(self) -> dict[str, t.Any]:
        """Options that deploy its present commit."""
        return {
            "app_source": "git",
            "app_git_url": f"file://{self.path}",
            "app_git_revision": self.git("rev-parse", "HEAD"),
        }


@pytest.fixture
def repository(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A repository, and a controller that has no clone of it nor of any other."""
    result = Repository(tmp_path / "upstream")
    shutil.copytree(STANDIN, result.path, ignore=shutil.ignore_patterns("__pycache__"))
    (result.path / ".mypy_cache").mkdir(exist_ok=True)
    (result.path / ".mypy_cache/left.db").write_text("by a tool, and no reason for another image")
    result.git("init", "--quiet")
    result.git("add", "--all", "--force")
    result.git("commit", "--quiet", "--message", "the stand-in")
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return result


@pytest.fixture
def patch(repository: Repository) -> pathlib.Path:
    """A patch file that changes the landing page."""
    page = repository.path / "templates/landing.html"
    page.write_text(page.read_text("utf-8").replace(LANDING, PATCHED), encoding="utf-8")
    path = repository.path.parent / "landing.patch"
    path.write_text(repository.git("diff") + "\n", encoding="utf-8")
    repository.git("checkout", "--quiet", ".")
    return path


@pytest.mark.slow
def test_a_revision_of_a_repository_with_a_patch(
    lab: Lab, repository: Repository, patch: pathlib.Path
) -> None:
    """Planned from nothing, built, served, and not asked for again."""
    same = repository.variables
    run = lab.playbook("site.yml", "--check", variables=same).check()
    assert run.recap["changed"] == 0, run.output[-6000:]  # the content names the image

    variables = same | KEEP_ALL | {"app_patches": [str(patch)]}
    assert LANDING in _page(lab)
    run = lab.playbook(variables=variables).check()
    assert BUILD in run.output
    page = _page(lab)
    assert PATCHED in page
    assert LANDING not in page
    labels = json.loads(
        lab.run(f"docker image inspect --format '{{{{json .Config.Labels}}}}' {_image(lab)}")
    )
    revision = same["app_git_revision"]
    assert labels["org.opencontainers.image.revision"] == revision
    assert labels["org.opencontainers.image.version"] == revision

    repository.path.rename(repository.path.with_name("gone"))
    run = lab.playbook(variables=variables).check()
    assert run.recap["changed"] == 0, run.output[-6000:]


@pytest.mark.slow
def test_the_development_target_has_its_tools_and_reloads(lab: Lab) -> None:
    """In a container like the deployed one, with the source mounted that the image has."""
    tools = "/opt/venv/bin/python3 -c 'import debugpy' && py-spy --version"
    assert lab.exec("app-1", tools).returncode != 0
    lab.playbook(variables={"app_target": "development", **KEEP_ALL}).check()
    assert LANDING in _page(lab)
    assert lab.exec("app-1", tools).returncode == 0

    source, name = "/root/test-source", "test-development"
    module = f"{source}/app/blueprints/main/routes.py"
    ask = f"docker exec {name} python3 -c 'import urllib.request as r;" + (
        ' print(r.urlopen("http://127.0.0.1:5000/test_route").read().decode())\''
    )

    def answers(text: str) -> t.Callable[[], bool]:
        return lambda: lab.ssh(ask).stdout.strip() == text

    try:
        lab.run(
            f"mkdir {source} && docker run --rm {_image(lab)} tar -C /app -c . | tar -C {source} -x"
        )
        # In the place of a replica: the address is one container's.
        lab.compose("stop app-2")
        lab.compose(
            f"run --detach --no-deps --name {name} --volume {source}:/app:ro app-2",
        )
        wait_until(answers("Test route works"), 90, "the container with mounted source is not up")
        lab.run(f"sed -i 's/Test route works/Test route reloaded/' {module}")
        wait_until(answers("Test route reloaded"), 60, "the changed source does not show")
    finally:
        lab.run(f"docker rm --force --volumes {name}; rm -rf {source}")
        lab.compose("start app-2")


@pytest.mark.slow
def test_an_image_that_is_there_is_deployed_without_a_build(lab: Lab, inventory_image: str) -> None:
    """Also the way back: the versions that the tests above made go."""
    before = _images(lab)
    variables = {"app_source": "image", "app_image": inventory_image, "app_keep_versions": 1}
    run = lab.playbook(variables=variables).check()
    assert BUILD not in run.output
    assert _image(lab) == inventory_image
    assert LANDING in _page(lab)
    assert _images(lab) <= before
