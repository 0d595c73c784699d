from __future__ import annotations

from pathlib import Path

import pytest
from vedfolnir_lab import parts, paths
from vedfolnir_lab.shell import LabError

REPORT = '<testsuites><testsuite tests="{}" failures="{}" errors="{}" skipped="{}"/></testsuites>'


@pytest.mark.parametrize(
    ("numbers", "code", "expected"),
    [
        ((5, 0, 0, 0), 0, parts.Count(5, 0, 0)),
        ((5, 1, 1, 2), 1, parts.Count(1, 2, 2)),
        ((3, 0, 0, 3), 0, parts.Count(0, 0, 3)),
        # Green tests and a red exit code (a crash at the end) are not a success.
        ((5, 0, 0, 0), 3, parts.Count(5, 1, 0)),
        (None, 0, parts.Count(1, 0, 0)),
        (None, 1, parts.Count(0, 1, 0)),
    ],
)
def test_counting(
    tmp_path: Path, numbers: tuple[int, ...] | None, code: int, expected: parts.Count
) -> None:
    report = tmp_path / "0.xml"
    if numbers:
        report.write_text(REPORT.format(*numbers))
    assert parts._result(report, code) == expected


def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    file = tmp_path / "parts.yml"
    file.write_text(text)
    monkeypatch.setattr(parts, "CATALOGUE", file)
    monkeypatch.setattr(paths, "JUNIT", tmp_path / "junit")


def test_a_failing_part_fails_the_run_and_later_parts_still_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    catalogue(
        tmp_path,
        monkeypatch,
        "a: {what: x, ci: true, commands: [['false'], [touch, '%s']]}\n"
        "b: {what: y, ci: true, commands: [['true']]}\n"
        "c: {what: z, commands: [['false']]}\n" % (tmp_path / "not-run"),
    )
    assert parts.run([]) == 1
    assert capfd.readouterr().out.splitlines()[-1] == "1 passed, 1 failed, 0 skipped"
    assert not (tmp_path / "not-run").exists()


def test_a_part_runs_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    catalogue(tmp_path, monkeypatch, "c: {what: z, commands: [['true'], ['true']]}\n")
    assert parts.run(["c"]) == 0
    assert capfd.readouterr().out.splitlines()[-1] == "2 passed, 0 failed, 0 skipped"


def test_only_skipped_tests_are_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = REPORT.format(1, 0, 0, 1).replace('"', '\\"')
    command = f"""["sh", "-c", "echo '{report}' > {{junit}}"]"""
    catalogue(tmp_path, monkeypatch, f"c:\n  what: z\n  commands: [{command}]\n")
    assert parts.run(["c"]) == 1


def test_an_unknown_part_is_refused_with_the_list() -> None:
    with pytest.raises(LabError, match=r"No part named nonsense\. The parts are:\ngates "):
        parts.run(["nonsense"])


def test_the_catalogue_reads() -> None:
    assert any(part.ci for part in parts.catalogue().values())
    for part in parts.catalogue().values():
        assert part.commands
