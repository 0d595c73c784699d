"""Wait for the database and create the schema, once, however many start at the same time.

`python -m vedfolnir_adapter.schema [--wait SECONDS]`; exit codes: 0 done, 1 the schema could not
be created, 2 settings, 3 the database did not answer, 4 another process held the lock too long.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys

from vedfolnir_adapter import bootstrap, database, logs
from vedfolnir_adapter.settings import Settings

EXIT_FAILED, EXIT_DATABASE, EXIT_LOCK = 1, 3, 4
LOCK = "schema"
RESULT_DESCRIPTOR = 1

log = logging.getLogger(__name__)


def result(word: str) -> None:
    """Print the outcome for the caller; the log of a job is on stderr."""
    os.write(RESULT_DESCRIPTOR, f"{word}\n".encode())


def prepare_job(wait: float) -> Settings:
    """Prepare a one-shot job, which logs to stderr, and wait for the database."""
    settings = bootstrap.prepare("job", descriptor=2)
    try:
        database.wait(settings, wait)
    except database.DatabaseUnavailableError as exc:
        log.critical("%s", exc)
        sys.exit(EXIT_DATABASE)
    return settings


def _tables(settings: Settings) -> int:
    sql = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE()"
    return int(database.query(settings, sql)[0][0])


def create(settings: Settings, lock_seconds: float) -> int:
    """Create what is missing under the lock and print `created` or `exists`."""
    lock = database.NamedLock(settings, LOCK, wait_seconds=lock_seconds)
    with lock as held:
        if not held:
            log.critical("Another process creates the schema since %g s", lock_seconds)
            return EXIT_LOCK
        before = _tables(settings)
        try:
            from app.core.database.core.database_manager import DatabaseManager
            from config import Config

            DatabaseManager(Config())
        except Exception:
            log.exception("The application could not create the schema")
            return EXIT_FAILED
        after = _tables(settings)
    logs.finish_setup()
    log.info("The schema has %d tables, %d of them new", after, after - before)
    result("created" if after > before else "exists")
    return 0


def main() -> int:
    """Parse the command line and do it."""
    parser = argparse.ArgumentParser(prog="vedfolnir_adapter.schema")
    parser.add_argument("--wait", type=float, default=120, help="seconds to wait (default 120)")
    options = parser.parse_args()
    return create(prepare_job(options.wait), options.wait)


if __name__ == "__main__":
    sys.exit(main())
