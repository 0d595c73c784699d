from __future__ import annotations

from pathlib import Path

import pytest
from vedfolnir_lab import hosts, parts, paths
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
    for variable in ("CI", "VEDFOLNIR_FRESH"):
        monkeypatch.delenv(variable, raising=False)


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


CASES = """<testsuites><testsuite tests="3" failures="0" errors="0" skipped="1">
  <testcase name="test_a"/><testcase name="test_b"/>
  <testcase name="test_c"><skipped type="pytest.skip" message="no cat">x.py:3</skipped></testcase>
</testsuite></testsuites>"""


@pytest.mark.parametrize(
    ("variable", "more", "code", "last"),
    [
        ("", "", 0, "2 passed, 0 failed, 1 skipped"),
        ("CI", "", 1, "2 passed, 1 failed, 0 skipped"),
        ("CI", "  skips: {no dog: dogs are rare}\n", 1, "2 passed, 1 failed, 0 skipped"),
        ("CI", "  skips: {no cat: cats are rare}\n", 0, "2 passed, 0 failed, 1 skipped"),
    ],
)
def test_a_skip_in_ci_needs_a_written_reason(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    variable: str,
    more: str,
    code: int,
    last: str,
) -> None:
    (tmp_path / "report").write_text(CASES)
    command = f"[cp, {tmp_path / 'report'}, '{{junit}}']"
    catalogue(tmp_path, monkeypatch, f"c:\n  what: z\n{more}  commands: [{command}]\n")
    if variable:
        monkeypatch.setenv(variable, "true")
    assert parts.run(["c"]) == code
    said = capfd.readouterr().out
    assert said.splitlines()[-1] == last
    assert ("skipped in CI: test_c: no cat" in said) is bool(code)


def test_tests_that_only_skip_are_not_hidden_by_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report").write_text(REPORT.format(1, 0, 0, 1))
    only_skips = f"[cp, {tmp_path / 'report'}, '{{junit}}']"
    text = f"a: {{what: x, commands: [['true'], {only_skips}]}}\n"
    catalogue(tmp_path, monkeypatch, text)
    assert parts.run(["a"]) == 1
    said = capfd.readouterr().out
    assert "nothing passed: tests that only skip prove nothing" in said
    assert said.splitlines()[-1] == "1 passed, 1 failed, 1 skipped"


LAB = """
a: {what: x, lab: true, commands: [[touch, '{state}/a']]}
b: {what: y, lab: true, commands: [[touch, '{state}/b']]}
c: {what: z, lab: true, fresh: [[touch, '{state}/fresh']], commands: [[touch, '{state}/c']]}
"""


@pytest.mark.parametrize(
    ("variable", "hosts_made_anew", "files"),
    [
        ("", [False, False, False], ["a", "b", "c"]),
        ("CI", [True, False, True], ["a", "b", "c", "fresh"]),
        ("VEDFOLNIR_FRESH", [True, False, True], ["a", "b", "c", "fresh"]),
    ],
)
def test_a_fresh_host_is_for_ci_and_for_who_asks(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    hosts_made_anew: list[bool],
    files: list[str],
) -> None:
    catalogue(tmp_path, monkeypatch, LAB)
    state = tmp_path / "state"
    state.mkdir()
    monkeypatch.setattr(paths, "STATE", state)
    if variable:
        monkeypatch.setenv(variable, "1")
    made: list[bool] = []
    monkeypatch.setattr(hosts, "start", lambda _images, *, fresh: made.append(fresh))
    assert parts.run(["a", "b", "c"]) == 0
    assert made == hosts_made_anew
    assert sorted(path.name for path in state.iterdir()) == files


def test_the_slowest_tests_are_named_before_the_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    cases = "".join(f'<testcase classname="t" name="n{i}" time="{i}.5"/>' for i in range(20))
    (tmp_path / "report").write_text(
        f'<testsuite tests="20" failures="0" errors="0" skipped="0">{cases}</testsuite>'
    )
    command = f"[cp, {tmp_path / 'report'}, '{{junit}}']"
    catalogue(tmp_path, monkeypatch, f"a: {{what: x, ci: true, commands: [{command}]}}\n")
    assert parts.run([]) == 0
    lines = capfd.readouterr().out.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.endswith("The slowest tests:"))
    named = [line.split() for line in lines[begin + 1 : begin + 16]]
    assert named == [[f"{i}.5s", f"t::n{i}"] for i in range(19, 4, -1)]
    assert lines[-1] == "20 passed, 0 failed, 0 skipped"


def test_an_unknown_part_is_refused_with_the_list() -> None:
    with pytest.raises(LabError, match=r"No part named nonsense\. The parts are:\ngates "):
        parts.run(["nonsense"])


def test_the_catalogue_reads() -> None:
    assert any(part.ci for part in parts.catalogue().values())
    for part in parts.catalogue().values():
        assert part.commands
        assert all(part.skips.values())


LANES = """
host: {what: x, lab: true, commands: [[sh, -c, 'until [ -e {state}/second ]; do sleep 0.1; done']]}
first: {what: y, commands: [[echo, one], [echo, two]]}
second: {what: z, commands: [[touch, '{state}/second']]}
third: {what: z, commands: [['false']]}
"""


def test_parts_that_need_no_host_run_beside_the_others_and_show_their_output_in_one_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    catalogue(tmp_path, monkeypatch, LANES)
    monkeypatch.setattr(paths, "STATE", tmp_path)
    monkeypatch.setattr(hosts, "start", lambda _images, *, fresh: None)  # noqa: ARG005
    # It would wait for ever if the second began after the first had ended.
    assert parts.run(["host", "first", "second", "third"]) == 1
    lines = capfd.readouterr().out.splitlines()
    said = [line.split("] ")[-1] for line in lines]
    begin = said.index("=== first: y")
    assert said[begin : begin + 6] == [
        "=== first: y",
        "$ echo one",
        "one",
        "$ echo two",
        "two",
        "=== first: 2 passed, 0 failed, 0 skipped",
    ]
    assert lines[-1] == "4 passed, 1 failed, 0 skipped"
    assert [line.split()[0] for line in lines[-5:-1]] == ["host", "first", "second", "third"]


def test_a_package_that_cannot_be_installed_fails_the_parts_that_need_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def no_archive(name: str, _argv: object) -> None:
        raise LabError(f"{name}: no archive")

    catalogue(
        tmp_path,
        monkeypatch,
        "a: {what: x, apt: [no-such-package], commands: [['true']]}\n"
        "b: {what: y, commands: [['true']]}\n",
    )
    monkeypatch.setattr(parts, "logged", no_archive)
    assert parts.run(["a", "b"]) == 1
    said = capfd.readouterr().out
    assert "ERROR: apt-update: no archive" in said
    assert said.splitlines()[-1] == "1 passed, 1 failed, 0 skipped"
