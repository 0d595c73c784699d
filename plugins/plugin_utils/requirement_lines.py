# Copyright: the vedfolnir.stack maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the lines of a requirements file as pip does."""

from __future__ import annotations

import dataclasses
import itertools
import os.path
import re
from collections.abc import Iterator

try:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name
except ImportError as error:  # ansible-core depends on it, but its import test lacks it
    _MISSING: ImportError | None = error
else:
    _MISSING = None

_COMMENT = re.compile(r"(^|\s+)#.*$")
_INCLUDE = re.compile(r"(?:-r|--requirement)[\s=]*(?P<file>\S+)$")
_CONSTRAINT = re.compile(r"(?:-c|--constraint)[\s=]*(?P<file>\S+)$")
_EDITABLE = re.compile(r"(?:-e|--editable)[\s=]+(?P<where>\S+)$")
_EGG = re.compile(r"[#&]egg=(?P<name>[A-Za-z0-9._-]+)")
_WHEEL = re.compile(r"(?:^|/)(?P<name>[A-Za-z0-9._]+)-[^/-]+(?:-[^/-]+){3,4}\.whl$")
_PER_LINE_OPTION = re.compile(r"\s--(?:hash|config-settings?|global-option)\b.*$")
_PYTHONS = ("3.11", "3.12", "3.13", "3.14")
_MACHINES = ("x86_64", "aarch64")


class RequirementsError(Exception):
    """A requirements text that cannot be understood; the text says where and why."""


@dataclasses.dataclass(frozen=True)
class Line:
    """One logical line: its text, and the requirement in it if there is one."""

    text: str
    name: str | None = None
    requirement: Requirement | None = None
    direct: bool = False
    constraint: bool = False

    @property
    def exact(self) -> bool:
        """Whether the line itself names one version, or one place to get it from."""
        if self.direct or self.requirement is None:
            return self.direct
        return any(
            part.operator == "===" or (part.operator == "==" and not part.version.endswith(".*"))
            for part in self.requirement.specifier
        )

    @property
    def useless(self) -> str:
        """Say why the line means nothing on any Debian host; empty when it may mean something."""
        if self.constraint:
            return "constraints come with the deployment"
        marker = self.requirement.marker if self.requirement else None
        if marker is None or any(map(marker.evaluate, _environments())):
            return ""
        return f"only for another platform: {marker}"


def parse(text: str, path: str = "requirements") -> list[Line]:
    """Return the logical lines of a requirements text, included files in their place.

    Args:
        text: The text.
        path: The file it is from, relative to which the files of its ``-r`` lines are found.

    Raises:
        RequirementsError: for a line that cannot be understood, or a file that cannot be read.
    """
    if _MISSING:
        raise RequirementsError(f"the Python package packaging is needed: {_MISSING}")
    return list(_lines(text, (os.path.normpath(path),)))


def parse_one(text: str) -> Line:
    """Return the line of a single requirement, such as a rule names it."""
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise RequirementsError(f"'{text}' is no requirement: {_first(error)}") from error
    name = canonicalize_name(requirement.name)
    return Line(text, name, requirement, direct=requirement.url is not None)


def _lines(text: str, trail: tuple[str, ...]) -> Iterator[Line]:
    for number, raw in _logical(text):
        where = f"{trail[-1]} line {number}"
        bare = _COMMENT.sub("", " ".join(raw.splitlines())).strip()
        include = _INCLUDE.match(bare)
        if include:
            yield from _included(include["file"], where, trail)
        else:
            yield _line(raw, bare, where)


def _included(name: str, where: str, trail: tuple[str, ...]) -> Iterator[Line]:
    path = os.path.normpath(os.path.join(os.path.dirname(trail[-1]), name))
    if path in trail:
        raise RequirementsError(f"{where} includes '{name}', which includes itself")
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            text = handle.read()
    except OSError as error:
        raise RequirementsError(
            f"{where} includes '{name}', but {path}: {error.strerror}"
        ) from error
    yield from _lines(text, (*trail, path))


def _logical(text: str) -> Iterator[tuple[int, str]]:
    """Join lines that end in a backslash, with the number of the first one."""
    parts: list[str] = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        parts.append(line)
        if not line.endswith("\\"):
            yield number - len(parts) + 1, "\n".join(parts)
            parts = []
    if parts:
        yield len(text.splitlines()) - len(parts) + 1, "\n".join(parts)


def _line(raw: str, bare: str, where: str) -> Line:
    bare = bare.replace("\\ ", " ").rstrip("\\ ")
    constraint = _CONSTRAINT.match(bare)
    if constraint:
        return Line(raw, constraint["file"], constraint=True)
    editable = _EDITABLE.match(bare)
    if editable or _is_location(bare):
        return Line(raw, _name_in(raw), None, direct=True)
    if not bare or bare.startswith("-"):
        return Line(raw)
    try:
        found = parse_one(_PER_LINE_OPTION.sub("", bare).strip())
    except RequirementsError as error:
        raise RequirementsError(f"{where}: {error}") from error
    return dataclasses.replace(found, text=raw)


def _is_location(bare: str) -> bool:
    """Tell a bare URL or path from a named requirement, which may have a URL after its @."""
    head = bare.partition(" ")[0]
    return bare.startswith((".", "/", "file:")) or (
        "://" in head and "@" not in head.partition("://")[0]
    )


def _name_in(raw: str) -> str | None:
    found = _EGG.search(raw) or _WHEEL.search(raw.strip())
    return canonicalize_name(found["name"]) if found else None


def _environments() -> Iterator[dict[str, str]]:
    for python, machine in itertools.product(_PYTHONS, _MACHINES):
        yield {
            "os_name": "posix",
            "sys_platform": "linux",
            "platform_system": "Linux",
            "platform_machine": machine,
            "python_version": python,
            "python_full_version": f"{python}.0",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "extra": "",
        }


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
