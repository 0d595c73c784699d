from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import (
    secrets,
    vault_access,
    vault_agent,
    vault_deliver,
    vault_kv,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_server import VaultError

MANIFEST: list[dict[str, t.Any]] = [
    {"name": "ca", "kind": "ca", "names": ["CA"], "rotate": "never"},
    {"name": "root", "kind": "password", "rotate": "dual"},
    {"name": "user", "kind": "password"},
]
FILES: dict[str, t.Any] = {
    "mysql": {"owner": "999:998", "files": {"root": "${root}${root}", "ca": "${ca.certificate}"}},
    "app": {"owner": "1990", "files": {"user": "${user|sha256} $${root}"}},
}


def written(vault: t.Any, store: dict[str, t.Any]) -> list[str]:
    documents = vault_kv.read_documents(vault, "vedfolnir")
    return vault_kv.write_documents(vault, "vedfolnir", MANIFEST, store, documents, {})


def test_documents_read_together_are_the_store(fake_vault: t.Any) -> None:
    store, _made = secrets.converge_store({}, MANIFEST, {})
    assert sorted(written(fake_vault, store)) == sorted(store)
    assert fake_vault.values()["root"] == secrets.parts(store["root"])
    assert sorted(fake_vault.values()["ca"]) == ["certificate", "private_key"]
    documents = vault_kv.read_documents(fake_vault, "vedfolnir")
    assert vault_kv.merged({}, documents) == (store, [])
    assert documents["root"].notes["method"] == "dual"
    assert documents["user"].notes["method"] == "never"
    assert documents["root"].notes["rotated_at"].endswith("Z")
    assert written(fake_vault, store) == []


def test_vault_takes_over_what_it_lacks_and_keeps_what_it_has(fake_vault: t.Any) -> None:
    written(fake_vault, {"root": "of-vault"})
    documents = vault_kv.read_documents(fake_vault, "vedfolnir")
    local = {"root": "of-the-host", "user": "of-the-host", "mail": None}
    assert vault_kv.merged(local, documents) == (
        {"root": "of-vault", "user": "of-the-host"},
        ["user"],
    )


def test_a_lost_document_is_not_made_anew(fake_vault: t.Any) -> None:
    with pytest.raises(VaultError, match=r"^Vault no longer has a, b, which it had; restore"):
        vault_kv.merged({secrets.VAULT_MARKER: ["b", "a"]}, {})
    written(fake_vault, {"root": "x"})
    fake_vault.documents["root"]["data"] = None
    with pytest.raises(VaultError, match=r"^root: what Vault has of it is deleted or damaged"):
        vault_kv.read_documents(fake_vault, "vedfolnir")


def test_another_writer_is_not_overwritten(fake_vault: t.Any) -> None:
    documents = vault_kv.read_documents(fake_vault, "vedfolnir")
    written(fake_vault, {"root": "theirs"})
    with pytest.raises(VaultError, match="root: was changed by somebody else meanwhile; run again"):
        vault_kv.write_documents(fake_vault, "vedfolnir", MANIFEST, {"root": "ours"}, documents, {})
    assert fake_vault.values()["root"]["value"] == "theirs"


def test_notes_of_a_killed_run_are_added(fake_vault: t.Any) -> None:
    written(fake_vault, {"root": "x"})
    fake_vault.documents["root"]["notes"] = None
    assert written(fake_vault, {"root": "x"}) == []
    assert fake_vault.documents["root"]["notes"]["method"] == "dual"


def test_a_policy_names_what_the_files_mention_and_nothing_else() -> None:
    assert vault_access.secrets_of(FILES["mysql"]) == ["ca", "root"]
    assert vault_access.secrets_of(FILES["app"]) == ["user"]
    assert vault_access.policy_text("kv", ["user"]) == (
        'path "kv/data/user" {\n  capabilities = ["read"]\n}\n'
    )


def test_access_converges_and_removes_what_nobody_asks_for(fake_vault: t.Any) -> None:
    def converge(files: dict[str, t.Any], check: bool = False) -> list[str]:
        cidrs = ["172.30.0.0/24"]
        return vault_access.converge_access(fake_vault, "vedfolnir", files, cidrs, check)

    fake_vault.settings["sys/policies/acl/vedfolnir-ansible"] = {"policy": "own"}
    predicted = converge(FILES, check=True)
    assert list(fake_vault.settings) == ["sys/policies/acl/vedfolnir-ansible"]
    assert predicted == converge(FILES)
    assert len(predicted) == 4
    assert converge(FILES) == []
    role = "auth/approle/role/vedfolnir-agent-app"
    fake_vault.settings[role]["secret_id_num_uses"] = 0
    assert converge(FILES) == [role]
    policy = "sys/policies/acl/vedfolnir-agent-app"
    assert converge({"mysql": FILES["mysql"]}) == [role, policy]
    assert "sys/policies/acl/vedfolnir-ansible" in fake_vault.settings


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        ("plain", "plain"),
        ("${a}", '{{ with secret "kv/data/a" }}{{ .Data.data.value }}{{ end }}'),
        ("${a.part}", '{{ with secret "kv/data/a" }}{{ .Data.data.part }}{{ end }}'),
        (
            "#${a|sha256} $$",
            '#{{ with secret "kv/data/a" }}{{ .Data.data.value | sha256Hex }}{{ end }} $',
        ),
        ("{{ x }}", '{{ "{{" }} x }}'),
    ],
)
def test_templates_of_agents(template: str, wanted: str) -> None:
    assert vault_agent.agent_template(template, "kv") == wanted


def test_an_unknown_filter_is_refused() -> None:
    with pytest.raises(secrets.SecretError, match="there is no filter 'rot13'"):
        vault_agent.agent_template("${a|rot13}", "kv")


def test_an_agent_sees_its_own_directories_alone() -> None:
    services = vault_agent.agent_services(FILES, "image", "openbao", "/s", "/a")
    assert sorted(services) == ["agent-app", "agent-mysql"]
    agent = services["agent-mysql"]
    assert [volume["source"] for volume in agent["volumes"]] == ["/a/mysql", "/s/mysql"]
    assert (agent["user"], agent["job"], agent["entrypoint"]) == ("999:998", True, ["bao"])
    config = json.loads(vault_agent.agent_config("mysql", FILES["mysql"], "https://v", "kv"))
    assert config["exit_after_auth"] is True
    assert config["auto_auth"]["method"][0]["config"]["secret_id_response_wrapping_path"] == (
        "auth/approle/role/vedfolnir-agent-mysql/secret-id"
    )


def settings(tmp_path: pathlib.Path) -> vault_deliver.Settings:
    ca = tmp_path / "ca.pem"
    ca.write_text("CA")
    return vault_deliver.Settings(
        address="https://v",
        agent_address="https://vault",
        ca_file=str(ca),
        credentials_file="",
        mount="vedfolnir",
        project_src=str(tmp_path),
        project_name="p",
        compose_files=("compose.yml",),
        runtime_directory=str(tmp_path / "secrets"),
        agents_directory=str(tmp_path / "agents"),
    )


def test_settings_survive_a_file(tmp_path: pathlib.Path) -> None:
    wanted = settings(tmp_path)
    path = tmp_path / "settings.json"
    path.write_text(wanted.text())
    assert vault_deliver.read_settings(str(path)) == wanted


def test_only_what_differs_is_delivered(
    tmp_path: pathlib.Path, fake_vault: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {name: {**spec, "owner": "0:0"} for name, spec in FILES.items()}
    store, _made = secrets.converge_store({}, MANIFEST, {})
    contents = secrets.rendered_files(files, store)
    ran: list[str] = []

    def agent(where: vault_deliver.Settings, consumer: str) -> None:
        ran.append(consumer)
        start = pathlib.Path(where.agents_directory, consumer)
        assert sorted(path.name for path in start.iterdir()) == [
            "agent.json",
            "ca.pem",
            "role_id",
            "secret_id",
        ]
        assert {path.stat().st_mode & 0o777 for path in start.iterdir()} == {0o400}
        for name, text in contents[consumer].items():
            path = f"{where.runtime_directory}/{consumer}/{name}"
            secrets.write_private(path, text, 0, 0)

    monkeypatch.setattr(vault_deliver, "_compose_run", agent)
    where = settings(tmp_path)

    def deliver(check: bool = False) -> list[str]:
        return vault_deliver.deliver(fake_vault, where, files, contents, check)

    predicted = deliver(check=True)
    assert not (tmp_path / "secrets").exists()
    assert deliver() == predicted == ["mysql/root", "mysql/ca", "app/user"]
    assert sorted(ran) == ["app", "mysql"]
    assert list((tmp_path / "agents").iterdir()) == []
    (tmp_path / "secrets/app/user").unlink()
    (tmp_path / "secrets/mysql/old").write_text("")
    assert deliver() == ["app/user", "mysql/old"]
    assert deliver() == []
    assert (tmp_path / "secrets/app").stat().st_mode & 0o777 == 0o500
    ran.clear()
    assert vault_deliver.deliver(fake_vault, where, files, contents, prove=True) == []
    assert sorted(ran) == ["app", "mysql"]
    monkeypatch.setattr(vault_deliver, "_compose_run", lambda _where, _consumer: None)
    (tmp_path / "secrets/app/user").unlink()
    with pytest.raises(VaultError, match=r"not as they should be: \['app/user'\]"):
        deliver()
    assert list((tmp_path / "agents").iterdir()) == []


def test_the_boot_has_nothing_to_do_before_the_move(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vault_deliver.main([str(tmp_path / "none"), str(tmp_path / "manifest")]) == 0
    assert "Vault has nothing to deliver yet" in capsys.readouterr().out


def test_of_an_agents_output_the_problems_are_told() -> None:
    output = "x [INFO] a\n" * 5 + "x [WARN] b\nx [INFO] c\nx [ERROR] d\n\n"
    assert vault_deliver.problem_lines(output) == "x [WARN] b / x [ERROR] d"
    assert vault_deliver.problem_lines("only\nthis\n") == "only / this"
