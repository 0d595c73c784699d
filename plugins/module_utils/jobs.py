# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which one-shot services are due: a small record of the digests that have run to their end."""

from __future__ import annotations

import json
import typing as t


def read_record(path: str) -> dict[str, str]:
    """Return the recorded digest of each job; without a readable record every job is due."""
    try:
        with open(path, encoding="utf-8") as handle:
            record = json.load(handle)
    except (OSError, ValueError):
        return {}
    return (
        {str(name): str(value) for name, value in record.items()}
        if isinstance(record, dict)
        else {}
    )


def due(jobs: t.Sequence[t.Mapping[str, str]], record: t.Mapping[str, str]) -> list[dict[str, str]]:
    """Return the jobs whose digest is not the recorded one, in their order."""
    return [dict(job) for job in jobs if record.get(job["name"]) != job["digest"]]


def last_lines(text: str, count: int = 30) -> str:
    """Return the end of a program's output, which is where it says why it failed."""
    return "\n".join(text.strip().splitlines()[-count:])
