"""The parts of ./lab test: data in parts.yml, summed up at the end.

Parts with a lab host run in their order, and beside them, in theirs, those that need no engine.

A command is green when something of it passed and nothing failed. In CI a skipped test counts as
failed unless parts.yml says why it may be: what is skipped there is never run.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import yaml

from vedfolnir_lab import hosts, paths
from vedfolnir_lab.shell import LabError, logged, say, shown_at_the_end, visible

CATALOGUE = paths.SOURCES / "parts.yml"


@dataclass
class Count:
    """How many tests passed, failed and were skipped."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, other: Count) -> None:
        """Add another count to this one."""
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self) -> str:
        """Return the plain line that any reader of test output knows."""
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


@dataclass(frozen=True)
class Part:
    """One part of the tests: commands, each of which is a test or reports tests as JUnit XML."""

    name: str
    what: str
    commands: Sequence[Sequence[str]]
    fresh: Sequence[Sequence[str]] = field(default_factory=tuple)
    skips: Mapping[str, str] = field(default_factory=dict)
    ci: bool = False
    lab: bool = False
    apt: Sequence[str] = field(default_factory=tuple)
    images: Sequence[str] = field(default_factory=tuple)


Results = dict[str, tuple[float, Count]]
"""Of parts by name: seconds, and what their tests said."""


def catalogue() -> dict[str, Part]:
    """Return all parts by name, in the order in which CI runs them."""
    data = yaml.safe_load(CATALOGUE.read_text(encoding="utf-8"))
    return {name: Part(name=name, **fields) for name, fields in data.items()}


def table() -> str:
    """Return the list of parts for people."""
    return "\n".join(
        f"{part.name:12} {'CI' if part.ci else '  '}  {part.what}" for part in catalogue().values()
    )


def run(names: Sequence[str]) -> int:
    """Run the named parts (default: CI's); return 0 only when each passed and none failed."""
    known = catalogue()
    if unknown := [name for name in names if name not in known]:
        raise LabError(f"No part named {', '.join(unknown)}. The parts are:\n{table()}")
    chosen = [known[name] for name in names] or [part for part in known.values() if part.ci]
    total, rows = Count(), []
    # CI starts from a host that no earlier run has touched; a developer's is used as it is.
    anew = _wanted("CI") or _wanted("VEDFOLNIR_FRESH")
    # Packages come first: two lanes would wait for each other's lock.
    failed = _install([package for part in chosen for package in part.apt])
    waiting = [part for part in chosen if part.lab or part.images]
    computing = [part for part in chosen if part not in waiting]
    # What only computes goes on beside what mostly waits for containers.
    with ThreadPoolExecutor(max_workers=1) as beside:
        behind = beside.submit(_run_beside, computing, bool(waiting), failed)
        results = _run_lane(waiting, anew=anew, failed=failed)
        results |= behind.result()
    if slowest := _slowest(part.name for part in chosen):
        say("The slowest tests:")
        print("\n".join(f"  {seconds:7.1f}s  {name}" for seconds, name in slowest))
    for part in chosen:
        seconds, count = results[part.name]
        total.add(count)
        rows.append(f"  {part.name:12} {seconds:7.1f}s  {count}")
    say("All parts:")
    print("\n".join(rows))
    print(total, flush=True)
    return 0 if total.passed and not total.failed else 1


def _run_beside(chosen: Sequence[Part], quiet: bool, failed: bool) -> Results:
    """Run parts one after the other; `quiet`: show what each has printed when it has ended."""
    results: Results = {}
    for part in chosen:
        with shown_at_the_end() if quiet else nullcontext():
            results |= _run_lane([part], anew=False, failed=failed)
    return results


def _run_lane(chosen: Sequence[Part], *, anew: bool, failed: bool) -> Results:
    """Run parts one after the other; the first on a lab host gets a new one if `anew`.

    `failed`: a package is not there, so parts that need packages cannot run.
    """
    results: Results = {}
    touched = False
    for part in chosen:
        start = time.monotonic()
        say(f"=== {part.name}: {part.what}")
        if failed and part.apt:
            say("ERROR: packages that it needs could not be installed")
            count = Count(failed=1)
        else:
            count = _run_part(part, anew=anew and (bool(part.fresh) or not touched))
        touched = touched or part.lab
        results[part.name] = time.monotonic() - start, count
        say(f"=== {part.name}: {count}")
    return results


def _wanted(variable: str) -> bool:
    return bool(os.environ.get(variable))


def _run_part(part: Part, *, anew: bool) -> Count:
    directory = paths.JUNIT / part.name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    try:
        if part.lab:
            hosts.start(part.images, fresh=anew)
        elif part.images:
            hosts.prepare(part.images)
    except LabError as error:
        say(f"ERROR: {error}")
        return Count(failed=1)
    return _run_commands([*(part.fresh if anew else ()), *part.commands], part, directory)


def _run_commands(commands: Sequence[Sequence[str]], part: Part, directory: Path) -> Count:
    """Run a part's commands until one fails."""
    count = Count()
    for number, command in enumerate(commands):
        junit = directory / f"{number}.xml"
        places = {"junit": str(junit), "root": str(paths.ROOT), "state": str(paths.STATE)}
        argv = [word.format_map(places) for word in command]
        say(f"$ {' '.join(argv)}")
        code = visible(argv, hosts.ansible_environment())
        outcome = _result(junit, code)
        if _wanted("CI"):
            _judge_skips(junit, part, outcome)
        if not outcome.passed and not outcome.failed:
            say("ERROR: nothing passed: tests that only skip prove nothing")
            outcome.failed = 1
        count.add(outcome)
        if outcome.failed and number + 1 < len(commands):
            say(f"The other commands of {part.name} need this one: not run")
            break
    return count


def _result(junit: Path, code: int) -> Count:
    """Count the tests in a report; a command without one is itself the test."""
    count = Count()
    if junit.exists():
        for suite in _report(junit).iter("testsuite"):
            tests, failed, errors, skipped = (
                int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")
            )
            count.add(Count(tests - failed - errors - skipped, failed + errors, skipped))
    if code != 0:
        count.failed = max(count.failed, 1)
    elif not junit.exists():
        count.passed = 1
    return count


def _slowest(names: Iterable[str], most: int = 15) -> list[tuple[float, str]]:
    """Return seconds and names of the slowest tests that parts have reported."""
    cases = [
        (float(case.get("time", "0")), f"{case.get('classname')}::{case.get('name')}")
        for name in names
        for report in sorted((paths.JUNIT / name).glob("*.xml"))
        for case in _report(report).iter("testcase")
    ]
    return sorted(cases, reverse=True)[:most]


def _judge_skips(junit: Path, part: Part, count: Count) -> None:
    """Turn the skipped tests whose reason the part does not list into failed ones."""
    if not junit.exists():
        return
    for case in _report(junit).iter("testcase"):
        for skipped in case.iter("skipped"):
            reason = skipped.get("message", "")
            if reason not in part.skips:
                say(f"ERROR: skipped in CI: {case.get('name')}: {reason}")
                count.skipped -= 1
                count.failed += 1


def _report(junit: Path) -> ElementTree.Element:
    return ElementTree.parse(junit).getroot()  # noqa: S314 - pytest on this machine wrote it


def _install(packages: Iterable[str]) -> bool:
    """Install Debian packages that parts need and this machine lacks; True when that failed."""
    missing = sorted(
        {name for name in packages if not Path(f"/var/lib/dpkg/info/{name}.list").exists()}
    )
    if missing:
        say(f"Installing {', '.join(missing)}")
        install = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
        try:
            logged("apt-update", ["apt-get", "update"])
            # Test servers are started by the tests, never as services of this machine.
            logged("apt-install", ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", *install])
        except LabError as error:
            say(f"ERROR: {error}")
            return True
    return False
