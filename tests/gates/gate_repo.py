"""What every gate needs to know about the repository."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import typing as t
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
COLLECTION = Path("ansible_collections") / "vedfolnir" / "stack"


class AnsibleYaml(yaml.SafeLoader):
    """Read Ansible's YAML without running anything of it."""


class Unsafe(str):
    """A text that Ansible never reads as a template."""

    __slots__ = ()


def _plain(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> t.Any:
    if isinstance(node, yaml.ScalarNode):
        scalar = loader.construct_scalar(node)
        return Unsafe(scalar) if suffix == "unsafe" else scalar
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_mapping(t.cast(yaml.MappingNode, node), deep=True)


# !unsafe and !vault change how Ansible uses a value, not what it looks like.
AnsibleYaml.add_multi_constructor("!", _plain)


@functools.cache
def files() -> tuple[Path, ...]:
    """Return every file that is or may be committed, relative to the root."""
    argv = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    output = subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    paths = sorted({Path(name) for name in output.split("\0") if name})
    return tuple(path for path in paths if (ROOT / path).is_file())


def matching(*patterns: str) -> list[Path]:
    """Return the files that match one of the patterns (``**`` is any number of directories)."""
    return [path for path in files() if any(_match(path, pattern) for pattern in patterns)]


def _match(path: Path, pattern: str) -> bool:
    head, _, tail = pattern.partition("**/")
    if not tail:
        return path.match(pattern) and len(path.parts) == len(Path(pattern).parts)
    return path.as_posix().startswith(head) and path.match(tail)


@functools.cache
def text(path: Path) -> str | None:
    """Return a file's text, or nothing when it is no text."""
    try:
        return (ROOT / path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


@functools.cache
def load(path: Path) -> t.Any:
    """Return the content of one YAML file, shared: nobody may change it."""
    return load_text((ROOT / path).read_text(encoding="utf-8"))


def load_text(content: str) -> t.Any:
    """Return the content of one YAML text."""
    return yaml.load(content, AnsibleYaml)  # noqa: S506 - a safe loader


def roles() -> list[str]:
    """Return the names of all roles."""
    return sorted({path.parts[1] for path in files() if path.parts[0] == "roles"})


def role_main(role: str, directory: str) -> dict[str, t.Any]:
    """Return a role's defaults or vars, from main.yml or the directory main/."""
    found: dict[str, t.Any] = {}
    for path in matching(
        f"roles/{role}/{directory}/main.yml", f"roles/{role}/{directory}/main/**/*.yml"
    ):
        found |= load(path) or {}
    return found


def tool(name: str) -> str:
    """Return the path of a program, first beside the running Python."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise AssertionError(f"{name} is not installed")
    return found


def run(*argv: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a program without colours and return what it said."""
    # The programs of the virtual environment call each other by name.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # A caller's ansible.cfg would put the checkout beside what the tests install elsewhere.
    inherited = {name: text for name, text in os.environ.items() if name != "ANSIBLE_CONFIG"}
    environment = inherited | {"PATH": path, "NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1"} | env
    return subprocess.run(
        [tool(argv[0]), *argv[1:]],
        cwd=cwd,
        env=environment,
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def must_pass(*argv: str, cwd: Path = ROOT, **env: str) -> str:
    """Run a program that has to succeed; its output is the failure's message."""
    done = run(*argv, cwd=cwd, **env)
    assert done.returncode == 0, f"{' '.join(argv[:3])} … exited {done.returncode}\n{done.stdout}"
    return done.stdout


def copy_to(directory: Path) -> Path:
    """Copy what may be committed into a collection tree and return the collection's directory."""
    target = directory / COLLECTION
    for path in files():
        # The link that makes the checkout a collection would hold itself.
        if path.parts[0] == ".collections":
            continue
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, target / path)
    return target
