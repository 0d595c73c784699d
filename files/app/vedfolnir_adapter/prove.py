"""Tell whether restored data belong together: credentials open, images have their files.

`python -m vedfolnir_adapter.prove`, beside a running replica. Changes nothing. Prints one JSON
object with counts and with the places of what is wrong, never a value. Exit codes: 0 looked,
whatever was found; others as for `vedfolnir_adapter.schema`.
"""

from __future__ import annotations

import json
import sys
import typing as t
from pathlib import Path

import pymysql

# The class itself, see `vedfolnir_adapter.reencrypt`.
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from vedfolnir_adapter import database
from vedfolnir_adapter.reencrypt import COLUMNS
from vedfolnir_adapter.schema import EXIT_FAILED, prepare_job, result
from vedfolnir_adapter.settings import EXIT_SETTINGS, Settings

WAIT_SECONDS = 30
MAX_NAMED: t.Final = 5
_TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()"
_CREDENTIALS = f"SELECT id, {', '.join(COLUMNS)} FROM platform_connections ORDER BY id"  # noqa: S608
_IMAGES = "SELECT id, local_path FROM images WHERE local_path <> '' ORDER BY id"
_USERS = "SELECT COUNT(*) FROM users"


def _opens(keys: MultiFernet, stored: str) -> bool:
    try:
        keys.decrypt(stored.encode())
    except InvalidToken:
        return False
    return True


def credentials(keys: MultiFernet, rows: t.Iterable[t.Sequence[t.Any]]) -> dict[str, t.Any]:
    """Open every stored credential; name those that no key opens."""
    values, lost = 0, []
    for number, *row in rows:
        for column, stored in zip(COLUMNS, row, strict=True):
            if not stored:
                continue
            values += 1
            if not _opens(keys, stored):
                lost.append(f"{column} of row {number}")
    return {"values": values, "unreadable": len(lost), "where": lost[:MAX_NAMED]}


def images(root: Path, rows: t.Iterable[t.Sequence[t.Any]]) -> dict[str, t.Any]:
    """Look for the file of every image; name the rows whose file is not there."""
    count, lost = 0, []
    for number, path in rows:
        count += 1
        # A path of the database is the application's own: relative to its directory, or absolute.
        if not (root / path).is_file():
            lost.append(f"image {number}")
    return {"rows": count, "missing": len(lost), "where": lost[:MAX_NAMED]}


def look(settings: Settings, root: Path) -> dict[str, t.Any]:
    """Return all that was found."""
    keys = [settings.secrets["platform_encryption_key"], *settings.encryption_fallback_keys]
    ring = MultiFernet([Fernet(key) for key in keys])
    tables = {str(row[0]) for row in database.query(settings, _TABLES)}

    def rows(table: str, query: str) -> list[t.Any]:
        return database.query(settings, query) if table in tables else []

    users = rows("users", _USERS)
    return {
        "credentials": credentials(ring, rows("platform_connections", _CREDENTIALS)),
        "images": images(root, rows("images", _IMAGES)),
        "users": int(users[0][0]) if users else 0,
    }


def main() -> int:
    """Look and print."""
    settings = prepare_job(WAIT_SECONDS)
    try:
        found = look(settings, Path.cwd())
    except ValueError:
        sys.stderr.write("one of the keys is not a Fernet key\n")
        return EXIT_SETTINGS
    except (pymysql.Error, OSError) as exc:
        sys.stderr.write(f"cannot look: {database.describe(exc)}\n")
        return EXIT_FAILED
    result(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
