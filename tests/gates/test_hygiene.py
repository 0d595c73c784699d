"""What must never be in the repository.

The patterns are put together from parts so that this file does not match itself.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import gate_repo
import pytest

_LARGEST = 512 * 1024

# The package managers' own defaults are right on every machine; a name is right on one.
REGISTRIES = (
    ("deb", "debian", "org"),
    ("security", "debian", "org"),
    ("ftp", "debian", "org"),
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("registry", "npmjs", "org"),
    ("proxy", "golang", "org"),
    ("galaxy", "ansible", "com"),
)
PATTERNS = {
    "a package registry": "|".join(r"\.".join(parts) for parts in REGISTRIES),
    "a path of a build machine": r"(?<![\w.])/("
    + r"work/(main|shared)|home/[a-z]|opt/py"
    + "pi"
    + ")",
    "a scratch path": r"/tmp/w" + r"/",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE " + "KEY-----",
    "a cloud key": r"\bAKI" + r"A[0-9A-Z]{16}\b",
    "an access token": r"\b(gh[pousr]_[A-Za-z0-9]{36}|hv"
    + r"[sb]\.[A-Za-z0-9_-]{20,}|xox[bp]-\d+)",
    "an encrypted token": r"\bgAAAA" + r"A[A-Za-z0-9_-]{60,}",
    "a password hash": r"\$[56y]" + r"\$[./A-Za-z0-9]{8,}\$",
}


@pytest.mark.parametrize("what", PATTERNS)
def test_no_file_holds(what: str) -> None:
    pattern = re.compile(PATTERNS[what])
    wrong = []
    for path in gate_repo.files():
        for number, line in enumerate((gate_repo.text(path) or "").splitlines(), 1):
            if pattern.search(line):
                wrong.append(f"{path}:{number}")
    assert wrong == []


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a package registry", "http://deb.debian" + ".org/debian"),
        ("a package registry", "https://files.python" + "hosted.org/x"),
        ("a path of a build machine", "cd /work" + "/main"),
        ("a scratch path", "/tmp" + "/w/x"),
        ("a private key", "-----BEGIN RSA PRIVATE" + " KEY-----"),
        ("a cloud key", "AKIA" + "ABCDEFGHIJKLMNOP"),
        ("an access token", "hvs" + "." + "a" * 24),
        ("an encrypted token", "gAAAAA" + "b" * 60),
        ("a password hash", "$6" + "$saltsalt$hash"),
    ],
)
def test_the_patterns_do_find_what_they_are_for(what: str, text: str) -> None:
    assert re.search(PATTERNS[what], text)


def test_no_file_names_the_package_index_of_this_machine() -> None:
    settings = gate_repo.run("pip", "config", "list").stdout
    hosts = {urlsplit(url).hostname for url in re.findall(r"https?://[^\s'\"]+", settings)}
    hosts -= {None, "localhost", "127.0.0.1"}
    wrong = [
        str(path)
        for path in gate_repo.files()
        if any(str(host) in (gate_repo.text(path) or "") for host in hosts)
    ]
    assert wrong == []


def test_every_file_is_a_text_of_sensible_size() -> None:
    def wrong(path: Path) -> bool:
        return (gate_repo.ROOT / path).stat().st_size > _LARGEST or gate_repo.text(path) is None

    assert [str(path) for path in gate_repo.files() if wrong(path)] == []
