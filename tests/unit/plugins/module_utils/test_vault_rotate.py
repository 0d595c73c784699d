"""The steps of a rotation, with Vault and the project in memory; tests/vault has the real ones."""

from __future__ import annotations

import contextlib
import json
import pathlib
import typing as t

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import (
    jobs,
    new_secrets,
    rotation,
    secrets,
    vault_deliver,
    vault_kv,
    vault_rotate,
)

MANIFEST: list[dict[str, t.Any]] = [
    {"name": "ca", "kind": "ca", "names": ["CA"], "rotate": "never"},
    {"name": "site", "kind": "tls", "names": ["x"], "issuer": "ca", "rotate": "reissue"},
    {"name": "user", "kind": "password", "rotate": "dual"},
    {"name": "flask", "kind": "hex", "length": 32, "rotate": "fallback"},
    {"name": "fernet", "kind": "fernet", "rotate": "reencrypt"},
]
NAMES = ["site", "user", "flask", "fernet"]
FILES: dict[str, t.Any] = {
    "server": {"owner": "0:0", "files": {"acl": "${user.older} ${user.newer}"}},
    "app": {
        "owner": "0:0",
        "files": {"user": "${user}", "flask": "${flask} ${flask.others}", "fernet": "${fernet}"},
    },
}


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the program runs after it."""


class World:
    """What a rotation works on: remembers what it was asked to do, and can die at any moment."""

    def __init__(self, vault: t.Any, directory: pathlib.Path) -> None:
        self.vault = vault
        self.events: list[str] = []
        self.ill: list[str] = []
        self.dies_at = -1
        self.broken = ""
        self.told: dict[str, str] = {}
        self.files: dict[str, dict[str, str]] = {}
        (directory / "manifest.json").write_text(json.dumps({"secrets": MANIFEST, "files": FILES}))
        project = new_secrets.Project(str(directory), "p", str(directory / "read.json"))
        self.settings = vault_rotate.Settings(
            vault="",
            manifest=str(directory / "manifest.json"),
            policy=rotation.Policy(),
            project=project,
            metrics=str(directory / "secrets.prom"),
            log=str(directory / "rotation.log"),
        )

    def happens(self, what: str) -> None:
        """Note an event, or die in its place."""
        if self.dies_at == len(self.events):
            raise Killed
        self.events.append(what)

    def store(self) -> dict[str, t.Any]:
        documents = vault_kv.read_documents(self.vault, "vedfolnir")
        return {name: document.value for name, document in documents.items()}

    def rotate(self, *only: str, emergency: bool = False) -> list[str]:
        work = vault_rotate.Rotation(self.settings, "tester", lambda _text: None)
        return vault_rotate.run(work, only, emergency)


def noted(world: World, real: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
    """Return what answers for Vault and notes what is written to it."""

    def call(method: str, path: str, body: t.Any = None, wrap_ttl: str | None = None) -> t.Any:
        if path.endswith("secret-id") and method == "LIST":
            return {"data": {"keys": ["old"]}}
        if path.endswith(("secret-id", "destroy")):
            world.happens(f"{method} {path.rpartition('/')[2]}")
            return {"data": {"secret_id": "new"}}
        if method == "POST" and "/data/" in path:
            world.happens(f"write {path.rpartition('/')[2]} {body['data'].get('state', '-')}")
        return real(method, path, body, wrap_ttl)

    return call


@pytest.fixture
def world(tmp_path: pathlib.Path, fake_vault: t.Any, monkeypatch: pytest.MonkeyPatch) -> World:
    """A deployed stack."""
    store, _made = secrets.converge_store({}, MANIFEST, {})
    vault_kv.write_documents(fake_vault, "vedfolnir", MANIFEST, store, {}, {})
    world = World(fake_vault, tmp_path)
    (tmp_path / ".env").write_text("COMPOSE_FILE=x\n")
    (tmp_path / "approle.json").write_text('{"role_id": "r", "secret_id": "s"}')
    monkeypatch.setattr(fake_vault, "call", noted(world, fake_vault.call))
    where = vault_deliver.Settings(
        address="",
        agent_address="",
        ca_file="",
        credentials_file=str(tmp_path / "approle.json"),
        mount="vedfolnir",
        project_src=str(tmp_path),
        project_name="p",
        compose_files=(),
        runtime_directory="",
        agents_directory="",
    )
    monkeypatch.setattr(vault_deliver, "read_settings", lambda _path: where)
    monkeypatch.setattr(vault_deliver, "session", lambda _where: contextlib.nullcontext(fake_vault))

    def deliver(_api: t.Any, _where: t.Any, _files: t.Any, contents: t.Any) -> None:
        world.happens("deliver")
        world.files = contents

    def read_again(_project: t.Any, _services: t.Any, _revisions: t.Any) -> list[str]:
        world.happens("server")
        return []

    def replace(_project: t.Any, _services: t.Any, revisions: t.Any, _say: t.Any) -> list[str]:
        world.happens("replace")
        world.told = dict(revisions)
        if world.broken and world.broken in world.files["app"].values():
            raise new_secrets.ProjectError("app did not become healthy")
        return []

    def late(_project: t.Any, _services: t.Any, revisions: t.Any) -> list[str]:
        return [name for name, one in revisions.items() if world.told.get(name, one) != one]

    def run_job(_src: str, _name: str, job: str, _timeout: float) -> str:
        world.happens(f"job {job}")
        return ""

    monkeypatch.setattr(vault_deliver, "deliver", deliver)
    monkeypatch.setattr(new_secrets, "read_again", read_again)
    monkeypatch.setattr(new_secrets, "run_jobs", lambda *_arguments: [])
    monkeypatch.setattr(new_secrets, "replace", replace)
    monkeypatch.setattr(new_secrets, "late", late)
    monkeypatch.setattr(new_secrets, "wait_for_health", lambda _project: world.ill)
    monkeypatch.setattr(new_secrets.Project, "services", lambda _self: {})
    monkeypatch.setattr(jobs, "run", run_job)
    return world


def test_the_steps_in_their_order(world: World) -> None:
    before = world.store()
    assert world.rotate(*NAMES) == NAMES
    apply = ["deliver", "server", "replace"]
    assert world.events == [
        "write site -",
        "write user prepared",
        "write flask prepared",
        "write fernet prepared",
        *apply,
        "write fernet switched",
        "write flask switched",
        "write user switched",
        *apply,
        "job app-reencrypt",
        "write user -",
        "write fernet -",
        *apply,
    ]
    after = world.store()
    assert after["ca"] == before["ca"]
    assert after["site"] != before["site"]
    for name in ("user", "fernet"):
        assert isinstance(after[name], str)
        assert after[name] != before[name]
    assert after["flask"]["others"] == [before["flask"]]
    assert after["flask"]["state"] == "switched"


def test_nothing_is_due(world: World) -> None:
    before = world.store()
    assert world.rotate() == []
    assert (world.events, world.store()) == ([], before)


def test_the_host_gets_a_new_secret_id_when_what_is_due_is_rotated(
    world: World, tmp_path: pathlib.Path
) -> None:
    world.vault.documents["user"]["notes"] = {"rotated_at": "2020-01-01T00:00:00Z"}
    assert world.rotate() == ["user"]
    assert world.events[-2:] == ["POST secret-id", "POST destroy"]
    content = json.loads((tmp_path / "approle.json").read_text())
    assert content == {"role_id": "r", "secret_id": "new"}
    assert world.rotate() == []


def works_after_a_restart(world: World) -> None:
    """What consumers would get at a boot is what the server accepts that runs now."""
    if world.files:
        value = secrets.parts(world.store()["user"])["value"]
        assert value in world.files["server"]["acl"].split()


def test_killed_at_every_moment_the_next_run_finishes(world: World) -> None:
    """And in between, what consumers would get at a restart is what servers accept."""
    world.rotate(*NAMES)
    moments = len(world.events)
    assert moments > 15
    for moment in range(moments):
        world.events.clear()
        world.dies_at = moment
        before = world.store()
        with pytest.raises(Killed):
            world.rotate(*NAMES)
        works_after_a_restart(world)
        world.dies_at = -1
        world.events.clear()
        # Before the first write nothing has begun, so nothing is unfinished.
        world.rotate(*(NAMES if moment < 2 else ()))
        after = world.store()
        for name in ("user", "fernet"):
            assert isinstance(after[name], str), (moment, name)
        if moment >= 4:
            assert after["user"] != before["user"]
            assert after["fernet"] != before["fernet"]
        flask = after["flask"]
        assert flask["state"] == "switched"
        # What nobody uses any more is accepted by nobody, wherever the run was killed.
        assert world.files == secrets.rendered_files(FILES, after)
        works_after_a_restart(world)


def test_what_does_not_work_is_taken_back(world: World) -> None:
    before = world.store()
    real = rotation.switch

    def switch(entry: t.Any) -> dict[str, t.Any]:
        result = real(entry)
        if not world.broken:
            world.broken = result["value"]
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rotation, "switch", switch)
        with pytest.raises(rotation.RotationError) as error:
            world.rotate("user")
    assert str(error.value) == (
        "app did not become healthy. The old values are in use again, the new ones are accepted "
        "beside them; the next rotation tries again"
    )
    store = world.store()
    assert store["user"]["value"] == before["user"]
    assert store["user"]["state"] == "prepared"
    assert world.files["app"]["user"] == before["user"]
    world.broken = ""
    assert world.rotate() == ["user"]
    assert world.store()["user"] not in (before["user"], store["user"])


def test_a_stack_that_is_ill_is_left_alone(world: World) -> None:
    world.ill = ["redis"]
    before = world.store()
    with pytest.raises(rotation.RotationError, match=r"^not healthy: redis; see docs/trouble"):
        world.rotate("user")
    assert (world.events, world.store()) == ([], before)


def test_in_an_emergency_the_old_value_dies_before_consumers_have_the_new(world: World) -> None:
    world.rotate(*NAMES, emergency=True)
    retired = world.events.index("write user -")
    assert "replace" not in world.events[:retired]
    store = world.store()
    assert all(isinstance(store[name], str) for name in ("user", "flask", "fernet"))
    assert "job app-reencrypt" in world.events


def test_the_log_and_the_metrics_have_no_value(world: World, tmp_path: pathlib.Path) -> None:
    world.rotate("user")
    log = (tmp_path / "rotation.log").read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    assert [line["step"] for line in lines] == ["prepare", "switch", "retire"]
    assert {(line["who"], line["secret"]) for line in lines} == {("tester", "user")}
    text = (tmp_path / "secrets.prom").read_text()
    assert 'vedfolnir_secret_unfinished{name="user"} 0\n' in text
    assert 'vedfolnir_secret_since_seconds{name="user",method="dual"} ' in text
    assert world.store()["user"] not in log + text


def test_the_program_says_what_is_wrong_in_one_line(
    world: World,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(vault_rotate, "LOCK", str(tmp_path / "lock"))
    monkeypatch.setattr(vault_rotate.Settings, "read", lambda _path: world.settings)
    assert vault_rotate.main(["settings", "user"]) == 0
    assert "vedfolnir rotation: retire: user" in capsys.readouterr().out

    def full(*_arguments: t.Any) -> None:
        raise OSError(28, "No space left on device", "/run/x")

    monkeypatch.setattr(vault_deliver, "deliver", full)
    assert vault_rotate.main(["settings", "user"]) == 1
    assert capsys.readouterr().err == (
        "vedfolnir rotation: [Errno 28] No space left on device: '/run/x'\n"
    )


def test_one_rotation_at_a_time(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault_rotate, "LOCK", str(tmp_path / "lock"))
    with (
        vault_rotate.alone(),
        pytest.raises(rotation.RotationError, match="another rotation is going on"),
        vault_rotate.alone(),
    ):
        pass


def test_a_host_without_vault_says_so(tmp_path: pathlib.Path) -> None:
    with pytest.raises(rotation.RotationError, match="are not in Vault yet; run site"):
        vault_rotate.Settings.read(str(tmp_path / "none"))
