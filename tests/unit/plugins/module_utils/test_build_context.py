from __future__ import annotations

import errno
import io
import os
import pathlib
import tarfile
import typing as t

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import build_context as context
from ansible_collections.vedfolnir.stack.plugins.module_utils.build_context import ContextError


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        (".git", ".git"),
        (".git/config", ".git"),
        ("deep/.git/config", ".git"),
        ("a/b/c.pyc", "*.pyc"),
        (".env.production", ".env.*"),
        ("data", "/data"),
        ("data/deep/file", "/data"),
        ("tests/a.py", "/test*"),
        ("node/x", "node/"),
        ("docs/a.md", "docs/*.md"),
        ("a/b/c", "a/b"),
        ("a/b/c", "/*/b"),
    ],
)
def test_paths_that_a_pattern_leaves_out(path: str, pattern: str) -> None:
    assert context.excluded(path, ["other", pattern])


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("git", ".git"),
        ("gitignore", ".git"),
        ("app/data", "/data"),
        ("database", "/data"),
        ("app/tests/a.py", "/test*"),
        ("docs/deep/a.md", "docs/*.md"),
        ("a.pyc.txt", "*.pyc"),
        ("A.PYC", "*.pyc"),
        ("a", "a/b"),
        ("x/a/b", "a/b"),
    ],
)
def test_paths_that_a_pattern_keeps(path: str, pattern: str) -> None:
    assert not context.excluded(path, [pattern])


@pytest.fixture
def source(tmp_path: pathlib.Path) -> pathlib.Path:
    root = tmp_path / "source"
    for name, mode in (
        ("main.py", 0o600),
        ("run.sh", 0o750),
        ("data/secret", 0o644),
        ("app/data/kept", 0o664),
        ("app/x.pyc", 0o644),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
        (root / name).chmod(mode)
    (tmp_path / "outside").write_text("outside")
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "app" / "up").symlink_to(tmp_path)
    (root / "dangling").symlink_to("nowhere")
    os.mkfifo(root / "pipe")
    return root


def test_a_directory_without_links_pipes_and_what_is_left_out(source: pathlib.Path) -> None:
    files = context.collect([{"dest": "src", "src": source, "exclude": ["/data", "*.pyc"]}])
    assert files == {
        "src/main.py": (b"main.py", 0o644),
        "src/run.sh": (b"run.sh", 0o755),
        "src/app/data/kept": (b"app/data/kept", 0o644),
    }


@pytest.mark.parametrize("dest", ["", ".", "/", "./"])
def test_the_context_itself_is_a_destination(source: pathlib.Path, dest: str) -> None:
    files = context.collect([{"dest": dest, "src": source}])
    assert sorted(files) == ["app/data/kept", "app/x.pyc", "data/secret", "main.py", "run.sh"]


def test_later_parts_win_whatever_way_their_place_is_written(source: pathlib.Path) -> None:
    files = context.collect(
        [
            {"dest": ".", "src": source, "exclude": ["app", "data"]},
            {"dest": "./main.py", "content": "later"},
            {"dest": "/bin/run", "src": source / "run.sh"},
        ]
    )
    assert files == {
        "main.py": (b"later", 0o644),
        "run.sh": (b"run.sh", 0o755),
        "bin/run": (b"run.sh", 0o755),
    }


def test_ordered_files_keep_their_order(tmp_path: pathlib.Path) -> None:
    for name in ("b.patch", "a.patch"):
        (tmp_path / name).write_text(name)
    part = {"dest": "patches", "ordered": [tmp_path / "b.patch", tmp_path / "a.patch"]}
    assert list(context.collect([part])) == ["patches/001-b.patch", "patches/002-a.patch"]


@pytest.mark.parametrize("dest", ["..", "../x", "/../x", "a/../../x"])
def test_nothing_leads_out_of_the_context(dest: str) -> None:
    with pytest.raises(ContextError) as error:
        context.collect([{"dest": dest, "content": ""}])
    assert str(error.value) == f"{dest}: leads out of the context"


def test_a_file_needs_a_name(source: pathlib.Path) -> None:
    for part in ({"content": "x"}, {"src": source / "main.py"}):
        with pytest.raises(ContextError) as error:
            context.collect([{"dest": ".", **part}])
        assert str(error.value) == ".: a file needs a name in the context"


def test_a_missing_source_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ContextError) as error:
        context.collect([{"dest": "a", "src": tmp_path / "none"}])
    assert str(error.value) == f"{tmp_path}/none: No such file or directory"


def test_a_directory_that_cannot_be_read_is_not_left_out_silently(
    source: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def scandir(path: str) -> t.Any:
        if path.endswith("/app"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(ContextError) as error:
        context.collect([{"dest": ".", "src": source}])
    assert str(error.value) == f"{source}/app: Permission denied"


FILES = {"a": (b"1", 0o644), "b/c": (b"2", 0o755)}


@pytest.mark.parametrize(
    ("files", "salt", "same"),
    [
        ({"b/c": (b"2", 0o755), "a": (b"1", 0o644)}, "s", True),
        ({"a": (b"1", 0o755), "b/c": (b"2", 0o755)}, "s", False),
        ({"a": (b"3", 0o644), "b/c": (b"2", 0o755)}, "s", False),
        ({"x": (b"1", 0o644), "b/c": (b"2", 0o755)}, "s", False),
        ({"a": (b"1", 0o644)}, "s", False),
        ({**FILES, "d": (b"", 0o644)}, "s", False),
        (FILES, "", False),
    ],
)
def test_the_digest_changes_exactly_with_the_content(
    files: dict[str, tuple[bytes, int]], salt: str, same: bool
) -> None:
    assert len(context.digest(FILES, "s")) == 12
    assert (context.digest(files, salt) == context.digest(FILES, "s")) is same


def test_the_same_files_give_the_same_archive(
    source: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = context.archive(context.collect([{"dest": ".", "src": source}]))
    for path in source.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.utime(path, (1, 1))
    monkeypatch.setattr("time.time", lambda: 0.0)
    again = context.archive(dict(reversed(context.collect([{"dest": ".", "src": source}]).items())))
    assert again == first


def test_the_archive_holds_the_files() -> None:
    with tarfile.open(fileobj=io.BytesIO(context.archive(FILES))) as tar:
        found = {}
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            found[member.name] = (content.read(), member.mode)
            assert (member.uid, member.gid, member.mtime) == (0, 0, 0)
    assert found == FILES
