from __future__ import annotations

import pathlib

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import jobs

JOBS = [{"name": "users", "digest": "1"}, {"name": "schema", "digest": "2"}]


@pytest.mark.parametrize(
    ("record", "due"),
    [
        ({}, ["users", "schema"]),
        ({"users": "1"}, ["schema"]),
        ({"users": "1", "schema": "old"}, ["schema"]),
        ({"users": "1", "schema": "2", "gone": "3"}, []),
    ],
)
def test_jobs_are_due_when_their_digest_differs(record: dict[str, str], due: list[str]) -> None:
    assert [job["name"] for job in jobs.due(JOBS, record)] == due


@pytest.mark.parametrize(
    ("content", "record"),
    [
        (b'{"users": "1", "n": 2}', {"users": "1", "n": "2"}),
        (b"", {}),
        (b'{"users"', {}),
        (b"[]", {}),
        (b"\xff", {}),
    ],
)
def test_a_damaged_record_makes_every_job_due(
    tmp_path: pathlib.Path, content: bytes, record: dict[str, str]
) -> None:
    (tmp_path / "jobs.json").write_bytes(content)
    assert jobs.read_record(str(tmp_path / "jobs.json")) == record


def test_no_record_is_an_empty_one(tmp_path: pathlib.Path) -> None:
    assert jobs.read_record(str(tmp_path / "none")) == {}
    assert jobs.read_record(str(tmp_path)) == {}


@pytest.mark.parametrize(
    ("text", "count", "end"),
    [("", 3, ""), ("a\nb\n", 3, "a\nb"), ("a\nb\nc\nd\n\n", 2, "c\nd")],
)
def test_the_end_of_an_output(text: str, count: int, end: str) -> None:
    assert jobs.last_lines(text, count) == end
