from __future__ import annotations

import contextlib
import json
import os
import pathlib
import typing as t

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import secrets as provider
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_deliver
from ansible_collections.vedfolnir.stack.plugins.modules import secrets

Run = t.Callable[..., dict[str, t.Any]]
Call = t.Callable[..., dict[str, t.Any]]

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="the store belongs to root")

MANIFEST: list[dict[str, t.Any]] = [
    {"name": "ca", "kind": "ca", "names": ["CA"]},
    {"name": "root", "kind": "password"},
    {"name": "user", "kind": "password"},
    {"name": "mail", "kind": "given", "optional": True},
]
FILES: dict[str, t.Any] = {
    "mysql": {"owner": "999:999", "files": {"root": "${root}", "cert": "${ca.certificate}"}},
    "app": {"owner": "1990:1990", "files": {"user": "${user}"}},
}
PATHS = ["mysql/root", "mysql/cert", "app/user"]


@pytest.fixture
def call(
    tmp_path: pathlib.Path,
    run_module: Run,
    fake_vault: t.Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Call:
    """Call the module with a Vault in memory and agents that render in its place."""

    @contextlib.contextmanager
    def session(_settings: vault_deliver.Settings) -> t.Iterator[t.Any]:
        yield fake_vault

    def agent(where: vault_deliver.Settings, consumer: str) -> None:
        fake_vault.agents.append(consumer)
        values = {name: data.get("value", data) for name, data in fake_vault.values().items()}
        spec = FILES[consumer]
        for name, template in spec["files"].items():
            path = f"{where.runtime_directory}/{consumer}/{name}"
            text = provider.render(template, values)
            if not provider.is_right(path, text, *provider.owner_of(spec)):
                provider.write_private(path, text, *provider.owner_of(spec))

    monkeypatch.setattr(vault_deliver, "session", session)
    monkeypatch.setattr(vault_deliver, "_compose_run", agent)
    (tmp_path / "ca.pem").write_text("CA")

    def run(check: bool = False, **args: t.Any) -> dict[str, t.Any]:
        options = {
            "address": "https://172.30.0.250:8200",
            "agent_address": "https://vault:8200",
            "ca_file": f"{tmp_path}/ca.pem",
            "credentials_file": f"{tmp_path}/ca.pem",
            "bound_cidrs": ["172.30.0.0/24"],
            "project_src": str(tmp_path),
            "project_name": "p",
            "compose_files": ["compose.yml"],
            "agents_directory": f"{tmp_path}/agents",
            "settings_file": f"{tmp_path}/etc/vault.json",
        }
        given = {"manifest": MANIFEST, "files": FILES, **args}
        given["vault"] = options | args.get("vault", {})
        directories = {"directory": f"{tmp_path}/etc", "runtime_directory": f"{tmp_path}/run"}
        return run_module(secrets.main, check=check, **directories, **given)

    return run


def store(tmp_path: pathlib.Path) -> dict[str, t.Any]:
    content: dict[str, t.Any] = json.loads((tmp_path / "etc" / "store.json").read_text())
    return content


@pytest.fixture
def older(tmp_path: pathlib.Path) -> dict[str, t.Any]:
    """Make what a host of a release before Vault has: the values and their files."""
    values, _made = provider.converge_store({}, MANIFEST, {})
    (tmp_path / "etc").mkdir(0o700)
    (tmp_path / "etc" / "store.json").write_text(json.dumps(values))
    for consumer, contents in provider.rendered_files(FILES, values).items():
        owner = provider.owner_of(FILES[consumer])
        provider.make_directory(f"{tmp_path}/run/{consumer}", owner, 0o500)
        for name, text in contents.items():
            provider.write_private(f"{tmp_path}/run/{consumer}/{name}", text, *owner)
    return values


def files(tmp_path: pathlib.Path) -> dict[str, tuple[int, str]]:
    return {
        path: ((tmp_path / "run" / path).stat().st_ino, (tmp_path / "run" / path).read_text())
        for path in PATHS
    }


def test_a_fresh_host_check_do_check_do(call: Call, fake_vault: t.Any) -> None:
    predicted = call(check=True)
    assert fake_vault.documents == {}
    done = call()
    for result in (predicted, done):
        assert (result["changed"], result["changed_files"]) == (True, PATHS)
        assert result["generated"] == ["ca", "root", "user"]
        assert (result["moved"], len(result["access"])) == ([], 4)
    for again in (call(check=True), call()):
        assert again == done | {"changed": False, "generated": [], "changed_files": []} | {
            "access": [],
            "invocation": again["invocation"],
        }


def test_the_move_changes_no_value_and_touches_no_file(
    tmp_path: pathlib.Path, call: Call, fake_vault: t.Any, older: dict[str, t.Any]
) -> None:
    before = files(tmp_path)
    predicted, moved, again = call(check=True), call(), call()
    for result in (predicted, moved):
        assert (result["changed"], result["generated"], result["changed_files"]) == (True, [], [])
        assert result["moved"] == sorted(older)
    assert again["changed"] is False
    assert moved["revisions"] == again["revisions"] == predicted["revisions"] == revisions(older)
    assert files(tmp_path) == before
    assert sorted(fake_vault.agents) == ["app", "mysql"], "once, to prove that they work"
    assert fake_vault.values()["root"]["value"] == older["root"]
    assert store(tmp_path) == {provider.VAULT_MARKER: sorted(older)}


def revisions(values: dict[str, t.Any]) -> dict[str, str]:
    """Return what the labels of an older host's containers say."""
    contents = provider.rendered_files(FILES, values)
    return {name: provider.revision(contents[name], values["__salt"]) for name in FILES}


def test_a_check_before_vault_is_there_predicts_the_first_delivery(
    tmp_path: pathlib.Path, call: Call
) -> None:
    predicted = call(check=True, vault={"credentials_file": f"{tmp_path}/none"})
    assert (predicted["changed"], predicted["generated"]) == (True, ["ca", "root", "user"])
    assert (predicted["changed_files"], predicted["revisions"]) == (PATHS, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca.pem"]


def test_a_check_before_vault_is_there_predicts_the_move(
    tmp_path: pathlib.Path, call: Call, older: dict[str, t.Any]
) -> None:
    predicted = call(check=True, vault={"credentials_file": f"{tmp_path}/none"})
    assert (predicted["changed"], predicted["generated"]) == (True, [])
    assert (predicted["changed_files"], predicted["moved"]) == ([], sorted(older))
    assert predicted["revisions"] == revisions(older)
    assert store(tmp_path) == older


@pytest.mark.parametrize(
    "step",
    [
        "vault_provider.access.converge_access",
        "vault_provider.delivery.deliver",
        "vault_provider.marker",
    ],
)
def test_a_killed_move_is_completed_by_the_next(
    tmp_path: pathlib.Path,
    call: Call,
    older: dict[str, t.Any],
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_args: t.Any, **_options: t.Any) -> t.NoReturn:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(f"{secrets.__name__}.{step}", kill)
        with pytest.raises(Killed):
            call()
    assert store(tmp_path) == older, "the local values are there until Vault has delivered"
    done = call()
    assert (done["changed"], done["generated"]) == (True, [])
    assert done["revisions"] == revisions(older)
    assert call()["changed"] is False


def test_a_vault_that_lost_its_data_gets_no_new_values(call: Call, fake_vault: t.Any) -> None:
    call()
    del fake_vault.documents["root"]
    result = call()
    assert "Vault no longer has root, which it had; restore a snapshot of Vault" in result["msg"]
    assert "root" not in fake_vault.documents


def test_a_given_value_replaces_the_one_in_vault(call: Call, fake_vault: t.Any) -> None:
    before = call()["revisions"]
    result = call(given={"root": "brought-along"})
    assert (result["generated"], result["changed_files"]) == (["root"], ["mysql/root"])
    assert fake_vault.values()["root"]["value"] == "brought-along"
    assert result["revisions"]["app"] == before["app"]
    assert "brought-along" not in json.dumps(result)


def test_only_root_reads_what_the_host_keeps(tmp_path: pathlib.Path, call: Call) -> None:
    call()
    modes = {
        path.name: f"{path.stat().st_mode & 0o7777:04o}"
        for path in (tmp_path / "etc", *(tmp_path / "etc").iterdir())
    }
    private = dict.fromkeys(("store.json", "manifest.json", "vault.json"), "0600")
    assert modes == {"etc": "0700"} | private


def test_no_value_is_shown(call: Call, fake_vault: t.Any) -> None:
    shown = json.dumps([call(given={"mail": "hunter2-mail", "root": "hunter2-root"}), call()])
    content = fake_vault.values()
    assert content["root"]["value"] == "hunter2-root"
    values = [content[name]["value"] for name in ("root", "user", "mail", "__salt")]
    values.append(content["ca"]["private_key"].splitlines()[1])
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
@pytest.mark.parametrize("credentials", ["ca.pem", "none"], ids=["vault", "no vault"])
def test_a_bad_manifest_is_named_in_a_check_too(
    tmp_path: pathlib.Path, call: Call, fake_vault: t.Any, check: bool, credentials: str
) -> None:
    manifest = [*MANIFEST, {"name": "x", "kind": "given"}]
    where = {"credentials_file": f"{tmp_path}/{credentials}"}
    result = call(check=check, manifest=manifest, vault=where)
    assert result["msg"] == "The secrets cannot be made: x: must be given in stack_secrets_given"
    assert fake_vault.documents == {}
    assert not (tmp_path / "run").exists()


def test_a_bad_placeholder_changes_nothing(call: Call, fake_vault: t.Any) -> None:
    result = call(files={"a": {"owner": "0:0", "files": {"x": "${none}"}}})
    assert result["msg"] == "The secrets cannot be made: ${none}: there is no such secret"
    assert fake_vault.documents == {}


@pytest.mark.parametrize("check", [True, False])
def test_a_damaged_file_is_not_overwritten(
    tmp_path: pathlib.Path, call: Call, older: dict[str, t.Any], check: bool
) -> None:
    damaged = json.dumps(older)[:-20]
    (tmp_path / "etc" / "store.json").write_text(damaged)
    result = call(check=check)
    assert result["msg"] == (
        f"The secrets cannot be made: {tmp_path}/etc/store.json: "
        "cannot be read (JSONDecodeError); restore it from a backup"
    )
    assert (tmp_path / "etc" / "store.json").read_text() == damaged


def test_an_empty_tmpfs_is_filled_again_with_the_same(tmp_path: pathlib.Path, call: Call) -> None:
    first = call()
    (tmp_path / "run").rename(tmp_path / "before")
    predicted, done = call(check=True), call()
    assert predicted["changed_files"] == done["changed_files"] == PATHS
    assert predicted["revisions"] == done["revisions"] == first["revisions"]
    for path in PATHS:
        assert (tmp_path / "run" / path).read_text() == (tmp_path / "before" / path).read_text()


def test_values_of_names_that_were_dropped_are_kept(call: Call, fake_vault: t.Any) -> None:
    call()
    before = fake_vault.values()
    result = call(manifest=MANIFEST[:1], files={})
    assert (result["generated"], result["changed_files"]) == ([], ["app", "mysql"])
    assert fake_vault.values() == before
