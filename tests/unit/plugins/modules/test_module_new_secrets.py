from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import jobs
from ansible_collections.vedfolnir.stack.plugins.modules import new_secrets

Run = t.Callable[..., dict[str, t.Any]]

CONFIG = {
    "services": {
        name: {
            "labels": {
                "org.vedfolnir.digest": "d",
                "org.vedfolnir.consumer": name,
                "org.vedfolnir.new-secrets": '["reload"]',
            }
        }
        for name in ("nginx", "redis")
    }
}
DOCKER = """#!/bin/sh
case "$*" in
  *" config "*) cat "{config}" ;;
  "compose ps --services"*) printf 'nginx\\nredis\\n' ;;
  "compose ps --quiet"*) echo c0ffee ;;
  inspect*) echo 2020-01-01T00:00:00Z ;;
  "compose exec --no-TTY"*) echo "$4" >> "{log}" ;;
esac
"""


def test_check_do_check_do_and_what_is_made_anew_is_left_alone(
    tmp_path: pathlib.Path, run_module: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, log, docker = (tmp_path / name for name in ("config", "log", "docker"))
    config.write_text(json.dumps(CONFIG))
    log.touch()
    docker.write_text(DOCKER.format(config=config, log=log))
    docker.chmod(0o755)
    monkeypatch.setattr(jobs, "DOCKER", str(docker))
    for name in ("nginx", "redis"):
        (tmp_path / "secrets" / name).mkdir(parents=True)
        (tmp_path / "secrets" / name / "file").touch()

    def call(check: bool, *replaced: str) -> list[str]:
        result = run_module(
            new_secrets.main,
            check=check,
            project_src=str(tmp_path),
            project_name="stack",
            revisions={"nginx": "1", "redis": "1"},
            record=f"{tmp_path}/state/read.json",
            runtime_directory=f"{tmp_path}/secrets",
            except_services=list(replaced),
        )
        assert result["changed"] is bool(result["read"])
        return list(result["read"])

    assert [call(check, "nginx") for check in (True, False, True, False)] == [
        ["redis"],
        ["redis"],
        [],
        [],
    ]
    assert log.read_text() == "redis\n"
    assert call(False) == ["nginx"]
