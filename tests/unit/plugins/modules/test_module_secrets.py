from __future__ import annotations

import json
import os
import pathlib
import typing as t

import pytest
from ansible_collections.vedfolnir.stack.plugins.modules import secrets

Run = t.Callable[..., dict[str, t.Any]]
Call = t.Callable[..., dict[str, t.Any]]

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="the store belongs to root")

MANIFEST = [
    {"name": "ca", "kind": "ca", "names": ["CA"]},
    {"name": "tls", "kind": "tls", "issuer": "ca", "names": ["mysql"]},
    {"name": "root", "kind": "password"},
    {"name": "user", "kind": "password"},
    {"name": "mail", "kind": "given", "optional": True},
]
FILES: dict[str, t.Any] = {
    "mysql": {"owner": "999:999", "files": {"root": "${root}", "cert": "${tls.certificate}"}},
    "app": {"owner": "1990:1990", "files": {"user": "${user}"}},
}
NAMES = ["ca", "tls", "root", "user"]
PATHS = ["mysql/root", "mysql/cert", "app/user"]


@pytest.fixture
def call(tmp_path: pathlib.Path, run_module: Run) -> Call:
    """Call the module with the directories of this test."""

    def run(check: bool = False, **args: t.Any) -> dict[str, t.Any]:
        given = {"manifest": MANIFEST, "files": FILES, **args}
        directories = {"directory": f"{tmp_path}/etc", "runtime_directory": f"{tmp_path}/run"}
        return run_module(secrets.main, check=check, **directories, **given)

    return run


def store(tmp_path: pathlib.Path) -> dict[str, t.Any]:
    content: dict[str, t.Any] = json.loads((tmp_path / "etc" / "store.json").read_text())
    return content


def test_check_do_check_do(tmp_path: pathlib.Path, call: Call) -> None:
    predicted = call(check=True)
    assert list(tmp_path.iterdir()) == []
    done = call()
    for result in (predicted, done):
        assert (result["changed"], result["generated"], result["changed_files"]) == (
            True,
            NAMES,
            PATHS,
        )
    assert predicted["revisions"] == {}
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    for again in (call(check=True), call()):
        assert (again["changed"], again["generated"], again["changed_files"]) == (False, [], [])
        assert again["revisions"] == done["revisions"]
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_only_root_reads_the_store(tmp_path: pathlib.Path, call: Call) -> None:
    call()
    modes = {
        path.name: f"{path.stat().st_mode & 0o7777:04o}"
        for path in (tmp_path / "etc", *(tmp_path / "etc").iterdir())
    }
    assert modes == {"etc": "0700", "store.json": "0600", "manifest.json": "0600"}


def test_no_value_is_shown(tmp_path: pathlib.Path, call: Call) -> None:
    shown = json.dumps([call(given={"mail": "hunter2-mail", "root": "hunter2-root"}), call()])
    content = store(tmp_path)
    assert (content["root"], content["mail"]) == ("hunter2-root", "hunter2-mail")
    values = [content[name] for name in ("root", "user", "mail", "__salt")]
    values += [content[name]["private_key"].splitlines()[1] for name in ("ca", "tls")]
    assert [value for value in values if value in shown] == []


def test_a_refused_value_is_not_shown(call: Call) -> None:
    result = call(given={"root": "hunter2\n", "mail": None})
    assert result["msg"] == (
        "The secrets cannot be made: "
        "root: is empty, or has control characters or blanks at an end; "
        "mail: is empty, or has control characters or blanks at an end"
    )
    assert "hunter2" not in json.dumps(result)


@pytest.mark.parametrize("check", [True, False])
def test_a_bad_manifest_is_named_in_a_check_too(
    tmp_path: pathlib.Path, call: Call, check: bool
) -> None:
    result = call(check=check, manifest=[*MANIFEST, {"name": "x", "kind": "given"}])
    assert result["msg"] == "The secrets cannot be made: x: must be given in stack_secrets_given"
    assert list(tmp_path.iterdir()) == []


def test_a_bad_placeholder_changes_nothing(tmp_path: pathlib.Path, call: Call) -> None:
    result = call(files={"a": {"owner": "0:0", "files": {"x": "${none}"}}})
    assert result["msg"] == "The secrets cannot be made: ${none}: there is no such secret"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("check", [True, False])
def test_a_damaged_store_is_not_overwritten(
    tmp_path: pathlib.Path, call: Call, check: bool
) -> None:
    call()
    damaged = (tmp_path / "etc" / "store.json").read_bytes()[:-20]
    (tmp_path / "etc" / "store.json").write_bytes(damaged)
    result = call(check=check)
    assert result["msg"] == (
        f"The secrets cannot be made: {tmp_path}/etc/store.json: "
        "cannot be read (JSONDecodeError); restore it from a backup"
    )
    assert (tmp_path / "etc" / "store.json").read_bytes() == damaged


@pytest.mark.parametrize("step", ["_read", "provider.write_runtime"])
def test_a_killed_run_is_completed_by_the_next(
    tmp_path: pathlib.Path, call: Call, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_args: t.Any, **_options: t.Any) -> t.NoReturn:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(f"{secrets.__name__}.{step}", kill)
        with pytest.raises(Killed):
            call()
    left = store(tmp_path) if (tmp_path / "etc" / "store.json").exists() else None
    done = call()
    assert (done["changed"], done["changed_files"]) == (True, PATHS)
    if left:
        assert done["generated"] == []
        assert store(tmp_path) == left
    assert call()["changed"] is False


def test_an_empty_tmpfs_is_filled_again_with_the_same(tmp_path: pathlib.Path, call: Call) -> None:
    first = call()
    (tmp_path / "run").rename(tmp_path / "before")
    predicted, done = call(check=True), call()
    assert predicted["changed_files"] == done["changed_files"] == PATHS
    assert predicted["revisions"] == done["revisions"] == first["revisions"]
    for path in PATHS:
        assert (tmp_path / "run" / path).read_text() == (tmp_path / "before" / path).read_text()


def test_a_check_predicts_removals_and_changed_owners(call: Call) -> None:
    call()
    files = {"mysql": {"owner": "998:998", "files": {"root": "${root}"}}}
    predicted, done, again = call(check=True, files=files), call(files=files), call(files=files)
    assert (
        predicted["changed_files"] == done["changed_files"] == ["mysql/root", "mysql/cert", "app"]
    )
    assert again["changed"] is False


def test_a_revision_changes_for_the_consumers_of_a_new_value_alone(call: Call) -> None:
    before = call()["revisions"]
    after = call(given={"root": "brought-along"})
    assert (after["generated"], after["changed_files"]) == (["root"], ["mysql/root"])
    assert after["revisions"]["mysql"] != before["mysql"]
    assert after["revisions"]["app"] == before["app"]


def test_values_of_names_that_were_dropped_are_kept(tmp_path: pathlib.Path, call: Call) -> None:
    call()
    before = store(tmp_path)
    result = call(manifest=MANIFEST[:2], files={})
    assert (result["generated"], result["changed_files"]) == ([], ["app", "mysql"])
    assert store(tmp_path) == before
