# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a secret changes without an outage: which are due, and the steps from the old to the new.

``prepare``: a new value is accepted beside the old one. ``switch``: consumers use the new one, the
old is still accepted. ``retire``: the old one is refused. Each step is one write of the secret (see
:mod:`secrets` for its form), so what is stored tells at any moment how to go on. Nothing here talks
to a server.
"""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import secrets as provider

Method = t.Literal["dual", "fallback", "reencrypt", "reissue"]
Action = t.Literal["rotate", "finish", "retire", "keep"]

STAGED = ("dual", "fallback", "reencrypt")
"""Methods of secrets that take the three steps; what is reissued takes one."""
KEPT_KEYS = 5
"""Earlier Flask keys that are accepted at most, however often the key is rotated."""


class RotationError(Exception):
    """A rotation that cannot be begun or went wrong; the message never has a value in it."""


@dataclasses.dataclass(frozen=True)
class Policy:
    """When secrets are due."""

    days: int = 90
    """Age in days from which a secret is due."""
    fallback_days: int = 31
    """Days for which an earlier key is accepted: a remember cookie lives 30 (app contract, 2.2)."""


@dataclasses.dataclass(frozen=True)
class Step:
    """What a rotation does with a secret."""

    name: str
    method: str
    age_days: int
    action: Action
    why: str


def state_of(entry: t.Any) -> str:
    """Return ``prepared``, ``switched``, or nothing for a secret that is not being rotated."""
    return str(entry.get("state", "")) if isinstance(entry, dict) else ""


def prepare(entry: t.Any, kind: str, length: int) -> dict[str, t.Any]:
    """Return the secret with a new value beside the one in use."""
    present = {"value": entry, "others": []} if isinstance(entry, str) else dict(entry)
    new = provider.generate(kind, length)
    others = [new, *present["others"]][: KEPT_KEYS + 1]
    return {"value": present["value"], "others": others, "state": "prepared"}


def switch(entry: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return a prepared secret with the new value in use and the one before beside it."""
    new, *rest = entry["others"]
    return {"value": new, "others": [entry["value"], *rest], "state": "switched"}


def switch_back(entry: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return a switched secret as it was prepared: the way back from a value that does not work."""
    return {**switch(entry), "state": "prepared"}


def retire(entry: t.Mapping[str, t.Any]) -> str:
    """Return a switched secret with the new value alone."""
    return str(entry["value"])


def plan(
    manifest: t.Sequence[t.Mapping[str, t.Any]],
    store: t.Mapping[str, t.Any],
    since: t.Mapping[str, datetime.datetime],
    now: datetime.datetime,
    policy: Policy,
    only: t.Sequence[str] = (),
) -> list[Step]:
    """Return what is to be done with every secret that can be rotated, in the manifest's order.

    Args:
        manifest: The secrets.
        store: Their present values.
        since: When each came into use.
        now: The present moment.
        policy: When they are due.
        only: Names of those to rotate whether they are due or not, and no others.

    Raises:
        RotationError: for names that cannot be rotated, all at once.
    """
    _check_names(manifest, store, only)
    return [
        _step(item, store[str(item["name"])], since, now, policy, only)
        for item in manifest
        if _method(item) and item["name"] in store
    ]


def _method(item: t.Mapping[str, t.Any]) -> str:
    method = str(item.get("rotate", "never"))
    return method if method in (*STAGED, "reissue") else ""


def _check_names(
    manifest: t.Sequence[t.Mapping[str, t.Any]],
    store: t.Mapping[str, t.Any],
    only: t.Sequence[str],
) -> None:
    items = {str(item["name"]): item for item in manifest}
    problems: list[str] = []
    for name in only:
        if name not in items:
            near = difflib.get_close_matches(name, items, 1)
            problems.append(
                f"{name} is no secret of the manifest" + (f"; did you mean {near[0]}?" * bool(near))
            )
        elif not _method(items[name]):
            way = "give another value in stack_secrets_given and run site.yml"
            problems.append(
                f"{name} cannot be rotated by itself "
                f"({way if items[name]['kind'] == 'given' else 'see docs/rotation.md'})"
            )
        elif name not in store:
            problems.append(f"{name} has no value yet; run site.yml")
    if problems:
        raise RotationError("; ".join(problems))


def _step(
    item: t.Mapping[str, t.Any],
    entry: t.Any,
    since: t.Mapping[str, datetime.datetime],
    now: datetime.datetime,
    policy: Policy,
    only: t.Sequence[str],
) -> Step:
    name, method = str(item["name"]), _method(item)
    age = (now - since[name]).days
    state = state_of(entry)

    def step(action: Action, why: str) -> Step:
        return Step(name, method, age, action, why)

    if state == "prepared" or (state == "switched" and method != "fallback"):
        return step("finish", "an earlier run was interrupted")
    if name in only:
        return step("rotate", "was named")
    if only:
        return step("keep", "was not named")
    if age >= policy.days:
        return step("rotate", f"is {age} days old, due after {policy.days}")
    if state == "switched":
        if age >= policy.fallback_days:
            return step("retire", f"the earlier key was accepted for {age} days")
        return step("keep", f"the earlier key is accepted for {policy.fallback_days - age} days")
    return step("keep", f"is due in {policy.days - age} days")
