"""Fixtures of all plugin tests."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible.module_utils import basic

Run = t.Callable[..., dict[str, t.Any]]


@pytest.fixture
def run_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a module's main function with its real argument parsing and return what it prints."""

    def run(main: t.Callable[[], None], check: bool = False, **args: t.Any) -> dict[str, t.Any]:
        given = {"ANSIBLE_MODULE_ARGS": {**args, "_ansible_check_mode": check}}
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps(given).encode())
        # ansible-core 2.19 asks how the arguments were written; older ones know no such name.
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        capsys.readouterr()
        with pytest.raises(SystemExit):
            main()
        result: dict[str, t.Any] = json.loads(capsys.readouterr().out)
        return result

    return run
