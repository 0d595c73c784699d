"""Logging of the web process: a mix of formats on stdout, and files."""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import sys
from pathlib import Path

from standin import switches

_PLAIN = "[%(asctime)s] %(levelname)s %(name)s - %(message)s"
_CONTAINER_FILES = {
    "vedfolnir.log": (logging.INFO, 5),
    "error.log": (logging.ERROR, 5),
    "debug.log": (logging.DEBUG, 3),
}


class JsonFormatter(logging.Formatter):
    """One JSON object a record; only the application's own logger gets it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        return json.dumps(
            {
                "timestamp": self.formatTime(record),
                "level": record.levelname,
                "logger": record.name,
                "message": record.getMessage(),
                "service": os.getenv("SERVICE_NAME", "vedfolnir"),
            }
        )


def in_container() -> bool:
    """Return whether upstream would think that it runs in a container."""
    return Path("/.dockerenv").exists() or os.getenv("CONTAINER_ENV") == "true"


def configure_logging(logs_dir: str) -> logging.Logger:
    """Open all log files (a wrong owner stops the start here) and return the app's logger."""
    handlers: list[logging.Handler] = [logging.FileHandler(Path(logs_dir) / "webapp.log")]
    handlers.append(logging.StreamHandler(sys.stdout))
    if in_container():
        directory = switches.app_root() / "logs" / "app"
        directory.mkdir(parents=True, exist_ok=True)
        for name, (level, backups) in _CONTAINER_FILES.items():
            rotating = logging.handlers.RotatingFileHandler(
                directory / name, maxBytes=10 * 1024 * 1024, backupCount=backups
            )
            rotating.setLevel(level)
            handlers.append(rotating)
    root = logging.getLogger()
    root.setLevel(os.getenv("LOG_LEVEL", "INFO"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter(_PLAIN))
        root.addHandler(handler)
    logger = logging.getLogger("vedfolnir.web_app")
    if os.getenv("ENABLE_JSON_LOGGING", "false").lower() == "true":
        json_handler = logging.StreamHandler(sys.stdout)
        json_handler.setFormatter(JsonFormatter())
        logger.addHandler(json_handler)
        logger.propagate = False
    return logger
