# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which version of MySQL an image has and a data directory was last used by."""

from __future__ import annotations

import json
import os
import re
import typing as t

# Two digits at most: a tag such as 2026.11 is a date.
_TAG = re.compile(r":v?(\d{1,2}\.\d{1,2}(?:\.\d{1,2})?)(?![\d.])[^:/@]*(?:@.*)?$")
_SAID = re.compile(r"\bVer (\d+\.\d+\.\d+)")
_RECORDED = re.compile(r"\d+\.\d+\.\d+")


def of_tag(image: str) -> str:
    """Return the version that an image's tag begins with, or nothing."""
    found = _TAG.search(image)
    return found[1] if found else ""


def of_output(text: str) -> str:
    """Return the version that ``mysqld --version`` printed, or nothing."""
    found = _SAID.search(text)
    return found[1] if found else ""


def of_data(directory: str) -> str:
    """Return the version of the server that last opened a data directory, or nothing.

    Since 8.4 the server keeps ``mysql_upgrade_history``, before it wrote ``mysql_upgrade_info``.
    Both are for people and programs; the server itself does not read them.
    """
    history = _json(_text(os.path.join(directory, "mysql_upgrade_history")))
    try:
        recorded = history["upgrade_history"][-1]["version"]
    except (LookupError, TypeError):
        recorded = _text(os.path.join(directory, "mysql_upgrade_info"))
    found = _RECORDED.match(str(recorded).strip())
    return found[0] if found else ""


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read(1 << 20)
    except (OSError, ValueError):
        return ""


def _json(text: str) -> t.Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
