from __future__ import annotations

import pathlib
import typing as t

import pytest
from ansible_collections.vedfolnir.stack.plugins.modules import build_context

Run = t.Callable[..., dict[str, t.Any]]


def test_check_do_check_do(tmp_path: pathlib.Path, run_module: Run) -> None:
    args = {"parts": [{"dest": "a", "content": "ä"}], "dest": f"{tmp_path}/context.tar.gz"}
    main = build_context.main
    results = [run_module(main, check=check, **args) for check in (True, False, True, False)]
    assert [result["changed"] for result in results] == [True, True, False, False]
    assert len({result["digest"] for result in results}) == 1
    assert (results[0]["files"], results[0]["bytes"]) == (1, 2)
    assert (tmp_path / "context.tar.gz").stat().st_mode & 0o777 == 0o600


def test_without_a_destination_nothing_is_written(tmp_path: pathlib.Path, run_module: Run) -> None:
    result = run_module(build_context.main, parts=[{"dest": "a", "content": "x"}], salt="s")
    assert not result["changed"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            {"dest": "a", "src": "/no/such/place"},
            "The build context cannot be assembled: /no/such/place: No such file or directory",
        ),
        ({"dest": "a"}, "one of the following is required: src, content, ordered found in parts"),
        (
            {"dest": "a", "src": "/", "content": "x"},
            "parameters are mutually exclusive: src|content|ordered found in parts",
        ),
    ],
)
def test_bad_parts(run_module: Run, part: dict[str, str], message: str) -> None:
    result = run_module(build_context.main, parts=[part])
    assert (result["failed"], result["msg"]) == (True, message)
