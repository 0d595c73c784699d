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

MANIFEST = [
    {"name": "ca", "kind": "ca", "names": ["CA"]},
    {"name": "root", "kind": "password"},
    {"name": "user", "kind": "password"},
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
    """Call the module with a Vault in memory and agents that render as the local provider does."""

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
            provider.write_private(path, text, *provider.owner_of(spec))

    monkeypatch.setattr(vault_deliver, "session", session)
    monkeypatch.setattr(vault_deliver, "_compose_run", agent)
    (tmp_path / "ca.pem").write_text("CA")

    def run(check: bool = False, kind: str = "vault", **args: t.Any) -> dict[str, t.Any]:
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
        given = {"manifest": MANIFEST, "files": FILES, "provider": kind, **args}
        if kind == "vault":
            given["vault"] = options | args.get("vault", {})
        directories = {"directory": f"{tmp_path}/etc", "runtime_directory": f"{tmp_path}/run"}
        return run_module(secrets.main, check=check, **directories, **given)

    return run


def store(tmp_path: pathlib.Path) -> dict[str, t.Any]:
    content: dict[str, t.Any] = json.loads((tmp_path / "etc" / "store.json").read_text())
    return content


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
    tmp_path: pathlib.Path, call: Call, fake_vault: t.Any
) -> None:
    local = call(kind="local")
    values, before = store(tmp_path), files(tmp_path)
    predicted, moved, again = call(check=True), call(), call()
    for result in (predicted, moved):
        assert (result["changed"], result["generated"], result["changed_files"]) == (True, [], [])
        assert result["moved"] == sorted(values)
    assert again["changed"] is False
    assert moved["revisions"] == again["revisions"] == predicted["revisions"] == local["revisions"]
    assert files(tmp_path) == before
    assert sorted(fake_vault.agents) == ["app", "mysql"], "once, to prove that they work"
    assert fake_vault.values()["root"]["value"] == values["root"]
    assert store(tmp_path) == {provider.VAULT_MARKER: sorted(values)}
    back = call(kind="local")
    assert back["msg"] == (
        "The secrets cannot be made: the values of this host are in Vault; "
        "set stack_secrets_provider to vault"
    )


def test_a_check_before_vault_is_there_predicts_the_move(
    tmp_path: pathlib.Path, call: Call
) -> None:
    fresh = call(check=True, vault={"credentials_file": f"{tmp_path}/none"})
    assert (fresh["changed"], fresh["generated"]) == (True, ["ca", "root", "user"])
    local = call(kind="local")
    predicted = call(check=True, vault={"credentials_file": f"{tmp_path}/none"})
    assert (predicted["changed"], predicted["generated"], predicted["changed_files"]) == (
        True,
        [],
        [],
    )
    assert predicted["revisions"] == local["revisions"]


@pytest.mark.parametrize(
    "step",
    [
        "vault_provider.access.converge_access",
        "vault_provider.delivery.deliver",
        "vault_provider.marker",
    ],
)
def test_a_killed_move_is_completed_by_the_next(
    tmp_path: pathlib.Path, call: Call, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_args: t.Any, **_options: t.Any) -> t.NoReturn:
        raise Killed

    local = call(kind="local")
    values = store(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(f"{secrets.__name__}.{step}", kill)
        with pytest.raises(Killed):
            call()
    assert store(tmp_path) == values, "the local values are there until Vault has delivered"
    done = call()
    assert (done["changed"], done["generated"]) == (True, [])
    assert done["revisions"] == local["revisions"]
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
