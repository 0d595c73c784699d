"""Where the lab keeps things."""

from __future__ import annotations

import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
"""The repository."""
SOURCES = ROOT / "tests" / "lab"
"""The lab's own files in the repository."""
STATE = ROOT / ".lab"
"""Everything the lab makes at run time; ignored by git."""
LOGS = STATE / "log"
IMAGES = STATE / "images"
SSH = STATE / "ssh"
INVENTORY = STATE / "inventory"
JUNIT = STATE / "junit"
KEYS = Path.home() / ".vedfolnir/lab-keys" / hashlib.sha256(str(STATE).encode()).hexdigest()[:12]
"""Keys of the Vaults of this checkout's hosts; the role refuses a place in the repository."""
VENV_BIN = ROOT / ".venv" / "bin"
EXTRA_CAS = Path("/usr/local/share/ca-certificates")
"""Where Debian keeps the certificates an administrator added."""


def write(path: Path, text: str) -> bool:
    """Write a file through a temporary name; True when its content changed."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    return True
