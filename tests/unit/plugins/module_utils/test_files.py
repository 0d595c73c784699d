from __future__ import annotations

import errno
import os
import pathlib
import resource
import signal
import subprocess
import sys
import typing as t

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import files
from ansible_collections.vedfolnir.stack.plugins.module_utils.files import FileError, Reconciler

UID, GID = os.getuid(), os.getgid()
needs_root = pytest.mark.skipif(UID != 0, reason="only root gives files away")


def write(path: pathlib.Path, content: bytes, **options: t.Any) -> None:
    files.write_atomic(str(path), content, **{"uid": UID, "gid": GID, "mode": 0o640, **options})


def file(path: pathlib.Path, content: bytes, check: bool = False, **options: t.Any) -> Reconciler:
    work = Reconciler(check=check)
    work.file(str(path), content, **{"owner": UID, "group": GID, "mode": "0640", **options})
    return work


def directory(path: pathlib.Path, check: bool = False, **options: t.Any) -> Reconciler:
    work = Reconciler(check=check)
    work.directory(str(path), **{"owner": UID, "group": GID, "mode": "0750", **options})
    return work


def state(path: pathlib.Path) -> tuple[int, int, str]:
    status = path.stat()
    return status.st_uid, status.st_gid, f"{status.st_mode & 0o7777:04o}"


def test_a_file_is_written_with_its_mode_whatever_the_umask(tmp_path: pathlib.Path) -> None:
    before = os.umask(0o077)
    try:
        write(tmp_path / "a", b"one", mode=0o644)
        directory(tmp_path / "d", mode="0755")
    finally:
        os.umask(before)
    assert (tmp_path / "a").read_bytes() == b"one"
    assert state(tmp_path / "a") == (UID, GID, "0644")
    assert state(tmp_path / "d") == (UID, GID, "0755")


@needs_root
@pytest.mark.parametrize(
    ("uid", "gid", "mode"), [(999, 999, 0o400), (1990, 0, 0o640), (0, 5, 0o2755)]
)
def test_owner_and_mode_arrive(tmp_path: pathlib.Path, uid: int, gid: int, mode: int) -> None:
    write(tmp_path / "a", b"one", uid=uid, gid=gid, mode=mode)
    assert state(tmp_path / "a") == (uid, gid, f"{mode:04o}")
    again = file(tmp_path / "a", b"one", owner=uid, group=gid, mode=f"{mode:04o}")
    assert again.changed == []


def test_a_reader_keeps_the_old_file(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "a", b"old")
    with (tmp_path / "a").open("rb") as reader:
        write(tmp_path / "a", b"new")
        assert reader.read() == b"old"
    assert (tmp_path / "a").read_bytes() == b"new"


@pytest.mark.parametrize("step", ["fchown", "fchmod", "fsync", "replace"])
def test_a_kill_leaves_the_old_file_and_the_next_run_writes(
    tmp_path: pathlib.Path, step: str
) -> None:
    path = tmp_path / "a"
    write(path, b"old")
    program = (
        "import os, signal, sys\n"
        "from ansible_collections.vedfolnir.stack.plugins.module_utils import files\n"
        f"os.{step} = lambda *_args: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"files.write_atomic(sys.argv[1], b'new', uid={UID}, gid={GID}, mode=0o640)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    killed = subprocess.run([sys.executable, "-c", program, path], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    write(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_full_disk_leaves_the_old_file_and_no_litter(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a", b"old")

    def full(_descriptor: int) -> t.NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError) as error:
        write(tmp_path / "a", b"new")
    assert str(error.value) == f"{tmp_path}/a: cannot write: No space left on device"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_write_that_the_kernel_refuses_leaves_the_old_file(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "a", b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(FileError) as error:
            write(tmp_path / "a", b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(error.value) == f"{tmp_path}/a: cannot write: File too large"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_missing_directory_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileError) as error:
        write(tmp_path / "none" / "a", b"new")
    assert str(error.value) == f"{tmp_path}/none/a: cannot write: No such file or directory"


def test_a_check_sees_the_candidate_and_lets_it_pass(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "a", b"good", validate="grep -q good %s")
    assert (tmp_path / "a").read_bytes() == b"good"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("grep -c good %s", "refused by `grep -c good %s`: 0"),
        (
            "no-such-checker %s",
            "cannot be checked by `no-such-checker %s`: No such file or directory",
        ),
    ],
)
def test_refused_content_leaves_the_old_file(
    tmp_path: pathlib.Path, command: str, message: str
) -> None:
    write(tmp_path / "a", b"old")
    with pytest.raises(FileError) as error:
        write(tmp_path / "a", b"bad", validate=command)
    assert str(error.value) == f"{tmp_path}/a: {message}"
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def absent(path: pathlib.Path) -> None:
    assert not path.exists()


def regular(path: pathlib.Path) -> None:
    path.write_bytes(b"old")
    path.chmod(0o640)


def other_mode(path: pathlib.Path) -> None:
    path.write_bytes(b"new")
    path.chmod(0o600)


def link(path: pathlib.Path) -> None:
    (path.parent / "target").write_bytes(b"old")
    path.symlink_to("target")


def dangling_link(path: pathlib.Path) -> None:
    path.symlink_to("nowhere")


def as_wanted(path: pathlib.Path) -> None:
    path.write_bytes(b"new")
    path.chmod(0o640)


@pytest.mark.parametrize("given", [absent, regular, other_mode, link, dangling_link])
@pytest.mark.parametrize("secret", [False, True])
def test_files_check_do_check_do(
    tmp_path: pathlib.Path, given: t.Callable[[pathlib.Path], None], secret: bool
) -> None:
    path = tmp_path / "a"
    given(path)
    before = sorted((item.name, item.lstat().st_ino) for item in tmp_path.iterdir())
    predicted = file(path, b"new", check=True, secret=secret)
    assert sorted((item.name, item.lstat().st_ino) for item in tmp_path.iterdir()) == before
    done = file(path, b"new", secret=secret)
    assert predicted.changed == done.changed == [str(path)]
    assert predicted.diff == done.diff
    assert path.read_bytes() == b"new"
    assert not path.is_symlink()
    assert state(path) == (UID, GID, "0640")
    assert file(path, b"new", check=True).changed == file(path, b"new").changed == []


def test_a_file_in_its_state_is_not_touched(tmp_path: pathlib.Path) -> None:
    as_wanted(tmp_path / "a")
    inode = (tmp_path / "a").stat().st_ino
    assert file(tmp_path / "a", b"new").changed == []
    assert (tmp_path / "a").stat().st_ino == inode


def test_the_diff_shows_the_text_and_never_a_secret(tmp_path: pathlib.Path) -> None:
    regular(tmp_path / "a")
    shown = file(tmp_path / "a", b"new", check=True).diff
    hidden = file(tmp_path / "a", b"new", check=True, secret=True).diff
    name = str(tmp_path / "a")
    head = {"before_header": name, "after_header": name}
    assert shown == [{**head, "before": "old", "after": "new"}]
    assert hidden == [{**head, "before": "(hidden)\n", "after": "(hidden)\n"}]


@pytest.mark.parametrize("check", [True, False])
def test_things_of_another_type_are_refused(tmp_path: pathlib.Path, check: bool) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    messages = []
    for attempt, name in (
        (file, "directory"),
        (file, "pipe"),
    ):
        with pytest.raises(FileError) as error:
            attempt(tmp_path / name, b"new", check=check)
        messages.append(str(error.value))
    with pytest.raises(FileError) as error:
        directory(tmp_path / "file", check=check)
    messages.append(str(error.value))
    assert messages == [
        f"{tmp_path}/directory: is there, but is a directory; move it away",
        f"{tmp_path}/pipe: is there, but is not a file; move it away",
        f"{tmp_path}/file: is there, but is not a directory; move it away",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"owner": "no-such-user"}, "there is no user 'no-such-user' on this host"),
        ({"group": "no-such-group"}, "there is no group 'no-such-group' on this host"),
        ({"mode": "u=rw"}, "{path}: the mode 'u=rw' is not octal such as '0640'"),
        ({"mode": "0999"}, "{path}: the mode '0999' is not octal such as '0640'"),
        ({"mode": "4"}, "{path}: the mode '4' is not octal such as '0640'"),
    ],
)
def test_unusable_ownership_is_named(
    tmp_path: pathlib.Path, options: dict[str, t.Any], message: str
) -> None:
    path = tmp_path / "a"
    with pytest.raises(FileError) as of_file:
        file(path, b"new", **options)
    with pytest.raises(FileError) as of_directory:
        directory(path, **options)
    assert str(of_file.value) == str(of_directory.value) == message.format(path=path)
    assert list(tmp_path.iterdir()) == []


def test_a_prediction_needs_no_account_that_the_run_will_make(tmp_path: pathlib.Path) -> None:
    regular(tmp_path / "a")
    assert file(tmp_path / "a", b"old", check=True, owner="not-yet").changed != []
    assert directory(tmp_path, check=True, owner="not-yet").changed == [str(tmp_path)]


@pytest.mark.parametrize("mode", ["0700", "0711", "2755"])
def test_directories_check_do_check_do(tmp_path: pathlib.Path, mode: str) -> None:
    path = tmp_path / "a" / "b"
    predicted = directory(path, check=True, mode=mode)
    assert list(tmp_path.iterdir()) == []
    done = directory(path, mode=mode)
    assert predicted.changed == done.changed == [str(path)]
    assert predicted.diff == done.diff
    assert state(path) == (UID, GID, mode)
    (path / "kept").write_text("x")
    assert (
        directory(path, check=True, mode=mode).changed == directory(path, mode=mode).changed == []
    )
    assert directory(path, check=True).changed == directory(path).changed == [str(path)]
    assert state(path) == (UID, GID, "0750")
    assert (path / "kept").read_text() == "x"


@pytest.mark.parametrize("kind", ["file", "directory", "link", "dangling"])
def test_removals_check_do_check_do(tmp_path: pathlib.Path, kind: str) -> None:
    path, outside = tmp_path / "a", tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    make: dict[str, t.Callable[[], t.Any]] = {
        "file": lambda: path.write_text("x"),
        "directory": lambda: (path / "sub").mkdir(parents=True),
        "link": lambda: path.symlink_to(outside),
        "dangling": lambda: path.symlink_to("nowhere"),
    }
    make[kind]()
    for check, expected in ((True, [str(path)]), (False, [str(path)]), (True, []), (False, [])):
        work = Reconciler(check=check)
        work.absent(str(path))
        assert work.changed == expected
    assert not os.path.lexists(path)
    assert (outside / "kept").read_text() == "x"


@pytest.mark.parametrize(("name", "number"), [("0", 0), (7, 7), ("1990", 1990), ("root", 0)])
def test_accounts_are_names_or_numbers(name: str | int, number: int) -> None:
    assert files.uid_of(name) == files.gid_of(name) == number


def test_a_tree_is_removed_or_it_is_said(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    files.remove_tree(str(tmp_path / "a"))
    assert not (tmp_path / "a").exists()
    files.remove_tree(str(tmp_path / "a"))

    def refuse(_path: str) -> None:
        raise PermissionError("Read-only file system")

    monkeypatch.setattr("shutil.rmtree", refuse)
    with pytest.raises(PermissionError):
        files.remove_tree(str(tmp_path))
