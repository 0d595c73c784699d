# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The labels that every container of the stack carries, and what follows from them."""

from __future__ import annotations

import typing as t

FRAGMENT = "org.vedfolnir.fragment"
"""The fragment that a container comes from, and its owner when that is gone."""
DIGEST = "org.vedfolnir.digest"
"""Digest of a service's definition and of the content of its files: Compose recreates the service
when it changes, and a container tells by it what it was made of."""
CONSUMER = "org.vedfolnir.consumer"
"""The directory of secret files that a service reads."""
NEW_SECRETS = "org.vedfolnir.new-secrets"
"""What happens when they change: ``recreate``, ``run`` (a job), ``nothing`` (it reads them when it
needs them), or a JSON list: a command to be executed inside."""
SECRETS = "org.vedfolnir.secrets"
"""Revision of the secret files that a container was started with, if new ones recreate it."""


def secrets_variable(consumer: str) -> str:
    """Return the variable of the project's ``.env`` that has the revision of a consumer's files."""
    return f"VEDFOLNIR_SECRETS_{consumer.upper().replace('-', '_')}"


def job_digest(labels: t.Mapping[str, str], revisions: t.Mapping[str, str]) -> str:
    """Return the digest of all that a job is made of.

    Args:
        labels: The job's.
        revisions: Revision of the secret files by consumer; they count if the job runs for them.
    """
    if labels.get(NEW_SECRETS) != "run":
        return labels[DIGEST]
    return f"{labels[DIGEST]}.{revisions.get(labels[CONSUMER], 'pending')}"


def is_current(
    container: t.Mapping[str, str], labels: t.Mapping[str, str], revisions: t.Mapping[str, str]
) -> bool:
    """Tell whether a container is made of what its service's labels say, with the present secrets.

    Args:
        container: ``digest`` and ``secrets`` of the container.
        labels: The service's, in its fragment.
        revisions: Revision of the secret files by consumer.
    """
    return container["digest"] == labels[DIGEST] and has_present_secrets(
        container, labels, revisions
    )


def has_present_secrets(
    container: t.Mapping[str, str], labels: t.Mapping[str, str], revisions: t.Mapping[str, str]
) -> bool:
    """Tell whether a container was started with the present secrets, or need not be."""
    if labels.get(NEW_SECRETS) != "recreate":
        return True
    return container["secrets"] == revisions.get(labels[CONSUMER], "pending")
