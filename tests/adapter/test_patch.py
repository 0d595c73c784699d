from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from vedfolnir_adapter import patch

OLD = "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n"
NEW = "zero\none\nTWO\nthree\nfour\nfive\nsix\nseven\neight\nnine\nten\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree/pkg").mkdir(parents=True)
    (tmp_path / "patches").mkdir()
    (tmp_path / "tree/pkg/a.txt").write_text(OLD)
    (tmp_path / "tree/gone.txt").write_text("bye\n")
    return tmp_path


def git_diff(tree: Path) -> str:
    """Return what git says of a change, an addition and a deletion."""
    commands = [["git", "init", "-q"], ["git", "add", "-A"]]
    for command in commands:
        subprocess.run(command, cwd=tree / "tree", check=True)
    (tree / "tree/pkg/a.txt").write_text(NEW)
    (tree / "tree/new.txt").write_text("hello\n")
    (tree / "tree/gone.txt").unlink()
    subprocess.run(["git", "add", "-N", "new.txt"], cwd=tree / "tree", check=True)
    done = subprocess.run(
        ["git", "diff"], cwd=tree / "tree", check=True, capture_output=True, text=True
    )
    (tree / "tree/pkg/a.txt").write_text(OLD)
    (tree / "tree/new.txt").unlink()
    (tree / "tree/gone.txt").write_text("bye\n")
    return done.stdout


def run(tree: Path) -> int:
    return patch.main([str(tree / "tree"), str(tree / "patches")])


def test_a_git_diff_is_applied(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "patches/001-fix.patch").write_text(git_diff(tree))
    assert run(tree) == 0
    assert capsys.readouterr().out == "applied 001-fix.patch\n"
    assert (tree / "tree/pkg/a.txt").read_text() == NEW
    assert (tree / "tree/new.txt").read_text() == "hello\n"
    assert not (tree / "tree/gone.txt").exists()


HEAD = "--- a/pkg/a.txt\n+++ b/pkg/a.txt\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEAD}@@ -1,1 +1,1 @@\n-uno\n+eins\n", "pkg/a.txt differs at line 1"),
        ("--- a/no.txt\n+++ b/no.txt\n@@ -1 +1 @@\n-a\n+b\n", "no.txt does not exist"),
        ("--- /dev/null\n+++ b/pkg/a.txt\n@@ -0,0 +1 @@\n+b\n", "pkg/a.txt exists already"),
        ("--- a/../x\n+++ b/../x\n@@ -1 +1 @@\n-a\n+b\n",
         "a patch must stay inside the source: ../x"),
        (f"{HEAD}@@ -1,3 +1,3 @@\n one\n", "line 6 ends a hunk too early"),
        ("just words\n", "it contains no change"),
    ],
)  # fmt: skip
def test_a_patch_that_does_not_fit_fails(
    tree: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    (tree / "patches/001-bad.patch").write_text(text)
    assert run(tree) == 1
    assert capsys.readouterr().err == f"patch 001-bad.patch does not apply: {message}\n"
    assert (tree / "tree/pkg/a.txt").read_text() == OLD
