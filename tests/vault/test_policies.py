"""Each AppRole reads its own documents and is refused all others; every pair is tried."""

from __future__ import annotations

import json
import typing as t

import pytest
from lab import RUNTIME, Lab
from vaulted import ask, consumers, values

_TRY = """
def status(client, method, path, body=None):
    answer = client.session.request(
        method, f"{settings.address}/v1/{path}", json=body, timeout=20,
        headers={"X-Vault-Token": client.token or ""}, verify=settings.ca_file)
    return answer.status_code, answer
found = {}
with vault_deliver.session(settings) as api:
    documents = list(vault_kv.read_documents(api, settings.mount))
    roles = [name for name in api.call("LIST", "auth/approle/role")["data"]["keys"]
             if name.startswith(vault_access.PREFIX)]
    for role in roles:
        path = f"auth/approle/role/{role}"
        login = {"role_id": api.call("GET", f"{path}/role-id")["data"]["role_id"],
                 "secret_id": api.call("POST", f"{path}/secret-id", {})["data"]["secret_id"]}
        client = vault_server.connect(settings.address, settings.ca_file)
        client.token = ""
        first, answer = status(client, "POST", "auth/approle/login", login)
        second, _answer = status(client, "POST", "auth/approle/login", login)
        client.token = answer.json()["auth"]["client_token"]
        tried = {f"GET {name}": status(client, "GET", f"vedfolnir/data/{name}")[0]
                 for name in documents}
        for name in documents:
            body = {"data": {"value": "planted"}}
            tried[f"POST {name}"] = status(client, "POST", f"vedfolnir/data/{name}", body)[0]
        for method, path in (
            ("LIST", "vedfolnir/metadata"), ("GET", "sys/policies/acl/" + role),
            ("GET", "sys/mounts"), ("POST", f"auth/approle/role/{role}/secret-id"),
            ("POST", "auth/approle/role/vedfolnir-ansible/secret-id"),
            ("POST", "auth/token/create"), ("GET", "sys/storage/raft/snapshot"),
        ):
            tried[f"{method} {path}"] = status(client, method, path)[0]
        found[role] = {"login": [first, second], "tried": tried}
print(json.dumps({"documents": documents, "roles": found}))
"""


@pytest.fixture(scope="module")
def tried(lab: Lab) -> dict[str, t.Any]:
    """What every AppRole was answered, request by request."""
    return dict(ask(lab, _TRY))


def own(spec: dict[str, t.Any], names: list[str]) -> set[str]:
    """Return the secrets that a consumer's templates mention, found by their text alone."""
    text = json.dumps(spec["files"])
    return {name for name in names if any(f"${{{name}{end}" in text for end in ("}", ".", "|"))}


def test_each_consumer_has_an_approle_and_nobody_else(lab: Lab, tried: dict[str, t.Any]) -> None:
    wanted = {f"vedfolnir-agent-{name}" for name in consumers(lab)}
    assert set(tried["roles"]) == wanted
    assert len(wanted) >= 6


def test_every_pair_of_consumer_and_secret(lab: Lab, tried: dict[str, t.Any]) -> None:
    documents, pairs = tried["documents"], 0
    for name, spec in consumers(lab).items():
        answers = tried["roles"][f"vedfolnir-agent-{name}"]["tried"]
        allowed = own(spec, documents)
        assert allowed, f"{name} reads nothing, what is it for?"
        wanted = {document: 200 if document in allowed else 403 for document in documents}
        assert {document: answers[f"GET {document}"] for document in documents} == wanted, name
        pairs += len(wanted)
    print(f"{pairs} pairs tried")
    assert pairs == len(documents) * len(consumers(lab)) >= 72


def test_no_consumer_reads_the_key_of_an_authority(lab: Lab, tried: dict[str, t.Any]) -> None:
    """Those who trust it read a copy of its certificate; who issues is Ansible's login alone."""
    store = values(lab)
    for authority, trusted in (("internal_ca", "internal_trust"), ("nginx_ca", "nginx_trust")):
        assert store[trusted] == store[authority]["certificate"]
        answers = {
            role: (found["tried"][f"GET {authority}"], found["tried"][f"GET {trusted}"])
            for role, found in tried["roles"].items()
        }
        assert {key for key, _certificate in answers.values()} == {403}
        assert 200 in {certificate for _key, certificate in answers.values()}
    text = json.dumps(consumers(lab))
    assert "_ca." not in text
    assert not any(f"${{{name}" in text for name in ("internal_ca", "nginx_ca"))


def test_nobody_writes_lists_or_climbs(tried: dict[str, t.Any]) -> None:
    for role, found in tried["roles"].items():
        others = {
            what: status
            for what, status in found["tried"].items()
            if not (what.startswith("GET ") and what[4:] in tried["documents"])
        }
        assert set(others.values()) == {403}, (role, others)


def test_a_secret_id_serves_once(tried: dict[str, t.Any]) -> None:
    for role, found in tried["roles"].items():
        assert found["login"][0] == 200, role
        assert found["login"][1] in (400, 403), role


def test_agents_and_services_see_their_own_directories(lab: Lab) -> None:
    config = json.loads(lab.compose("--profile jobs config --format json"))
    seen = {
        name: sorted(
            volume["source"]
            for volume in service.get("volumes") or []
            if volume["source"].startswith("/run/vedfolnir")
        )
        for name, service in config["services"].items()
    }
    for name in consumers(lab):
        assert seen[f"agent-{name}"] == [f"/run/vedfolnir/agents/{name}", f"{RUNTIME}/{name}"]
    for name, sources in seen.items():
        if not name.startswith("agent-"):
            assert len(sources) <= 1, (name, sources)
            assert not any("/agents" in source for source in sources)
    assert seen["vault"] == []
