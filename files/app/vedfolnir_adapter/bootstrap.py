"""What every process does before it imports the application."""

from __future__ import annotations

import logging
import os
import sys

from vedfolnir_adapter import fernet_patch, logs, missing_modules, redis_acl, settings
from vedfolnir_adapter.redaction import redact

log = logging.getLogger("vedfolnir_adapter")


def prepare(service: str, *, descriptor: int = 1) -> settings.Settings:
    """Install the logs, read the settings and export them; exit with code 2 on a problem."""
    logs.install(service, descriptor=descriptor)
    try:
        found = settings.load()
    except settings.SettingsError as exc:
        log.critical("%s", exc)
        sys.exit(settings.EXIT_SETTINGS)
    if service != "app":
        # The web process waits until the application has added its own handlers.
        logs.finish_setup()
    redact.learn(found.secret_values)
    found.export(os.environ)
    fernet_patch.install(found.secrets["platform_encryption_key"], found.encryption_fallback_keys)
    redis_acl.install(found.redis_user, found.secrets["redis_password"])
    missing_modules.install()
    return found
