"""Copy the static files for nginx: `python -m vedfolnir_adapter.export_static DEST [--app DIR]`.

The result mirrors the URLs (`DEST/static/...`, `DEST/admin/admin/static/...`), so that one nginx
root serves both blueprints. Prints `changed` or `unchanged`; files gone upstream are removed.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import sys
from pathlib import Path

#: Path below the application -> path below the web root.
TREES = {"static": "static", "admin/static": "admin/admin/static"}


def _files(root: Path) -> set[Path]:
    return {p.relative_to(root) for p in root.rglob("*") if p.is_file() and not p.is_symlink()}


def _copy(source: Path, target: Path) -> bool:
    if target.is_file() and filecmp.cmp(source, target, shallow=False):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.new")
    shutil.copyfile(source, temporary)
    temporary.chmod(0o644)
    os.replace(temporary, target)
    return True


def mirror(source: Path, target: Path) -> bool:
    """Make the target equal to the source; true when something changed."""
    wanted = _files(source)
    changed = [_copy(source / name, target / name) for name in sorted(wanted)]
    extra = _files(target) - wanted if target.is_dir() else set()
    for name in extra:
        (target / name).unlink()
    return any(changed) or bool(extra)


def main() -> int:
    """Parse the command line and copy."""
    parser = argparse.ArgumentParser(prog="vedfolnir_adapter.export_static")
    parser.add_argument("destination", type=Path)
    parser.add_argument("--app", type=Path, default=Path("/app"))
    options = parser.parse_args()
    missing = [name for name in TREES if not (options.app / name).is_dir()]
    if missing:
        sys.stderr.write(f"no such directory below {options.app}: {', '.join(missing)}\n")
        return 1
    changed = [
        mirror(options.app / name, options.destination / place) for name, place in TREES.items()
    ]
    sys.stdout.write("changed\n" if any(changed) else "unchanged\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
