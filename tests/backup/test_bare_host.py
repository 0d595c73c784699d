"""A lost host comes back on another, bare one, from the repository and what people have.

``VEDFOLNIR_BARE_MB`` is the size of the rows, ``VEDFOLNIR_BARE_IMAGES`` the number of images.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import typing as t

import bare
import kept
import pytest
import visitor
import yaml
from bare import Bare
from kept import Deploy
from lab import Lab, Run
from target import Target

PLAYBOOK = "playbooks/restore_host.yml"
TOKEN = "SELECT COUNT(*) FROM platform_connections WHERE access_token LIKE 'gAAAA%'"


class Lost(t.NamedTuple):
    """A host before it was lost: its data, and what people have of it."""

    data: kept.Data
    rows: str
    arguments: list[str]
    password: str


@pytest.fixture(scope="module")
def lost(lab: Lab, deploy: Deploy, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Lost]:
    """The deployed host with work done on it, saved, and out of reach."""
    assert deploy.run.status == 0
    lab.wait_healthy()
    kept.clear(lab)
    admin = visitor.administrator(lab)
    platform = visitor.Platform.of(lab, "fediverse.lab")
    platform.publish()
    admin.add_platform(platform.url, platform.token)
    admin.caption()
    kept.write(lab, "lost")
    rows = bare.fill(lab)
    done = kept.program(lab, "backup")
    assert done.returncode == 0, done.stderr
    arguments = bare.keep(tmp_path_factory.mktemp("sheet"), lab)
    password = lab.run("cat /run/vedfolnir/secrets/app-admin/admin_password").strip()
    data = kept.data(lab)
    subprocess.run(["docker", "pause", lab.name], check=True, capture_output=True)
    yield Lost(data, rows, arguments, password)
    subprocess.run(["docker", "unpause", lab.name], check=True, capture_output=True)
    lab.wait_healthy()
    kept.sql(lab, "DROP TABLE backup_bulk; DELETE FROM images WHERE local_path LIKE '%many-%'")
    lab.run("rm -f /srv/vedfolnir/storage/images/many-*")
    admin.remove_platforms()
    kept.clear(lab)


@pytest.fixture(scope="module")
def host(lab: Lab, lost: Lost) -> t.Iterator[Bare]:
    """Another host, with nothing on it."""
    assert lost
    result = Bare(f"{lab.name}-bare")
    result.make()
    yield result
    result.forget()


def restore(host: Bare, lost: Lost, deploy: Deploy, *arguments: str, **variables: str) -> Run:
    """Run the playbook; what is given here stands behind the sheet and holds instead of it."""
    given = [*lost.arguments, "--extra-vars", json.dumps(variables), *arguments]
    return host.playbook(PLAYBOOK, *given, variables=deploy.variables, timeout=2400)


def test_the_sheet_goes_to_nobody_but_a_person(lab: Lab, deploy: Deploy) -> None:
    assert deploy.run.status == 0
    key = lab.run(f"cat {kept.SECRETS}/backup/repository_key").strip()
    text = bare.sheet(lab)
    content = yaml.safe_load(text)
    assert content["restore_repository_key"] == key
    assert content["restore_source"] == lab.name
    assert "PRIVATE KEY" in content["restore_ssh_key"]
    assert "any 2 of 3" in text
    refused = {
        "a file": f"{kept.PROGRAM} keys --pipe >/root/sheet",
        "a pipe": f"{kept.PROGRAM} keys | cat",
        "the journal": f"systemd-run --quiet --wait {kept.PROGRAM} keys --pipe",
        "somebody else": f"setpriv --reuid=65534 --clear-groups {kept.PROGRAM} keys --pipe | cat",
    }
    for what, command in refused.items():
        done = lab.ssh(f"set -o pipefail; {command}")
        assert key not in done.stdout + done.stderr, what
        assert done.returncode != 0 or what == "the journal"
    assert key not in lab.run("cat /root/sheet; rm /root/sheet; journalctl --no-pager -o cat")
    assert key in lab.run(f"{kept.PROGRAM} keys --pipe | cat")


def test_a_host_that_lives_is_refused(lab: Lab, deploy: Deploy, tmp_path: pathlib.Path) -> None:
    started = lab.started()
    arguments = bare.keep(tmp_path, lab)
    run = lab.playbook(
        PLAYBOOK, *arguments, variables=deploy.variables | {"restore_confirm": lab.name}
    )
    said = " ".join(run.output.split())
    assert run.status != 0
    assert "this host is not bare, nothing was changed: it has /srv/vedfolnir/data/mysql" in said
    run = lab.playbook(PLAYBOOK, *arguments, variables=deploy.variables)
    assert f"name the bare host: -e restore_confirm={lab.name}" in " ".join(run.output.split())
    assert lab.started() == started


def test_check_shows_the_plan_and_changes_nothing(host: Bare, lost: Lost, deploy: Deploy) -> None:
    run = restore(host, lost, deploy, "--check").check()
    assert "restore the backup latest of" in " ".join(run.output.split())
    assert host.ssh("test -e /srv/vedfolnir || command -v docker").returncode != 0


def test_the_wrong_keys_are_told(host: Bare, lost: Lost, deploy: Deploy) -> None:
    wrong = {"restore_confirm": host.name, "restore_repository_key": "of-somebody-else-012345678"}
    run = restore(host, lost, deploy, **wrong)
    assert run.status != 0
    assert "the key of this host does not open it" in " ".join(run.output.split())
    wrong = {"restore_confirm": host.name, "restore_manifest_key": "0" * 64}
    run = restore(host, lost, deploy, **wrong)
    assert "signed with another key" in " ".join(run.output.split())
    # Nothing was begun that a later run would have to go on with.
    assert host.ssh("test -e /srv/vedfolnir/.state/restore-host.json").returncode != 0


@pytest.mark.parametrize("moment", ["Put it in place]", "Put the data in place and prove them]"])
def test_a_run_that_is_killed(host: Bare, lost: Lost, deploy: Deploy, moment: str) -> None:
    variables = deploy.variables | {"restore_confirm": host.name}
    bare.killed_at(host.playbook_argv(PLAYBOOK, *lost.arguments, variables=variables), moment)
    host.run(
        "while pgrep -f '[b]ring-back|[A]nsiballZ'; do sleep 1; pkill -9 -f '[b]ring-back'; done"
    )
    assert host.ssh("test -e /srv/vedfolnir/.state/restore-host.json").returncode == 0
    if "data" in moment:
        done = kept.program(host, "backup")
        assert "onto this bare host is not finished" in done.stderr


def test_the_lost_host_is_back(
    host: Bare, lost: Lost, deploy: Deploy, capsys: pytest.CaptureFixture[str]
) -> None:
    run = restore(host, lost, deploy, restore_confirm=host.name).check()
    rto, age = bare.figures(run.output)
    with capsys.disabled():
        print(
            f"\n{bare.MEGABYTES} MB of rows, {bare.IMAGES} images: RTO {rto} s, backup {age} s old"
        )
    assert 0 < rto < 4 * 3600
    assert kept.data(host) == lost.data
    assert kept.sql(host, bare.BULK) == lost.rows
    assert int(kept.sql(host, TOKEN)) >= 1
    name = host.variables.get("app_admin_username", "admin")
    person = visitor.Visitor(host, name, lost.password)
    assert person.login_answer.status_code == 302
    assert person.export()["user_profile"]["platform_connections"]
    answer = person.request("GET", "/images/many-0.png")
    assert (answer.status_code, len(answer.content)) == (200, 30000)
    assert kept.left_behind(host) == []
    assert (
        host.run("ls /run/vedfolnir; ls /srv/vedfolnir/backups").split().count("restore-host") == 0
    )


def test_it_is_a_host_like_any_other(host: Bare, lost: Lost, deploy: Deploy) -> None:
    run = host.playbook(variables=deploy.variables).check()
    assert run.did("changed") == []
    done = kept.program(host, "backup")
    assert done.returncode == 0, done.stderr
    assert kept.program(host, "drill").returncode == 0
    run = host.playbook("playbooks/self_check.yml", variables=deploy.variables).check()
    assert "last proven restore" in run.output
    host.run("docker restart vedfolnir-vault-1 && systemctl start vedfolnir-vault-keep")
    run = restore(host, lost, deploy, restore_confirm=host.name)
    assert "this host is not bare" in " ".join(run.output.split())


def test_the_target_is_as_it_was(host: Bare, target: Target) -> None:
    assert host
    assert target.run("ls /srv/backups/repository/locks").split() == []
