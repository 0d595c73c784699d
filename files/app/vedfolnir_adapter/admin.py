"""Create the first administrator: `python -m vedfolnir_adapter.admin --username U --email E`.

The password is read from `admin_password` in the secrets directory and never printed. Prints
`created` or `exists` (then nothing is changed, the password included). Exit codes as for
`vedfolnir_adapter.schema`, and 5 when the e-mail address belongs to another user.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from vedfolnir_adapter import database, logs
from vedfolnir_adapter.redaction import redact
from vedfolnir_adapter.schema import EXIT_FAILED, EXIT_LOCK, prepare_job, result
from vedfolnir_adapter.settings import DEFAULT_SECRETS_DIR, EXIT_SETTINGS, Settings

EXIT_EMAIL = 5
MIN_PASSWORD = 8

log = logging.getLogger(__name__)


def read_password() -> str | None:
    """Return the password, or nothing after saying what is wrong with its file."""
    path = Path(os.environ.get("VEDFOLNIR_SECRETS_DIR") or DEFAULT_SECRETS_DIR) / "admin_password"
    try:
        password = path.read_text(encoding="utf-8").rstrip("\n")
    except OSError as exc:
        log.critical("%s cannot be read (%s)", path, type(exc).__name__)
        return None
    redact.learn([*redact.values, password])
    if len(password) < MIN_PASSWORD:
        log.critical("%s is shorter than %d characters", path, MIN_PASSWORD)
        return None
    return password


def create(username: str, email: str, password: str) -> int:
    """Create the user in the application's own way, if there is none of that name."""
    from app.core.database.core.database_manager import DatabaseManager
    from config import Config
    from models import User, UserRole

    session = DatabaseManager(Config()).get_session()
    try:
        if session.query(User).filter_by(username=username).first() is not None:
            log.info("The user %s exists; nothing was changed", username)
            result("exists")
            return 0
        if session.query(User).filter_by(email=email).first() is not None:
            log.critical("The e-mail address given for %s belongs to another user", username)
            return EXIT_EMAIL
        user = User(
            username=username, email=email, role=UserRole.ADMIN, is_active=True, email_verified=True
        )
        user.set_password(password)
        session.add(user)
        session.commit()
    except Exception:
        session.rollback()
        log.exception("The administrator could not be created")
        return EXIT_FAILED
    finally:
        session.close()
    log.info("Created the administrator %s", username)
    result("created")
    return 0


def run(settings: Settings, username: str, email: str, lock_seconds: float) -> int:
    """Read the password and create the user under a lock."""
    password = read_password()
    if password is None:
        return EXIT_SETTINGS
    logs.finish_setup()
    with database.NamedLock(settings, "admin", wait_seconds=lock_seconds) as held:
        if not held:
            log.critical("Another process creates the administrator since %g s", lock_seconds)
            return EXIT_LOCK
        return create(username, email, password)


def main() -> int:
    """Parse the command line and do it."""
    parser = argparse.ArgumentParser(prog="vedfolnir_adapter.admin")
    parser.add_argument("--username", required=True)
    parser.add_argument("--email", required=True)
    parser.add_argument("--wait", type=float, default=60, help="seconds to wait (default 60)")
    options = parser.parse_args()
    return run(prepare_job(options.wait), options.username, options.email, options.wait)


if __name__ == "__main__":
    sys.exit(main())
