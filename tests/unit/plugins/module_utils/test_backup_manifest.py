"""A manifest is signed, and says which snapshots are a backup."""

from __future__ import annotations

import datetime
import json
import re
import typing as t

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_manifest as manifests
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import (
    BackupError,
    DamagedError,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_restic import Snapshot

FIRST, SECOND = "20261125T021500Z-1a2b", "20261125T031500Z-3c4d"
KEY = "k" * 32


def manifest(backup: str = FIRST) -> dict[str, t.Any]:
    return {"format": 1, "id": backup, "parts": {"mysql": {"snapshot": "s1", "tables": {}}}}


def snapshots(backup: str, *parts: str) -> list[Snapshot]:
    return [Snapshot(f"{part}-{backup}", backup, part, backup) for part in parts]


def test_an_id_tells_its_time() -> None:
    now = datetime.datetime(2026, 11, 25, 2, 15, tzinfo=datetime.UTC)
    made = manifests.new_id(now)
    assert re.fullmatch(r"20261125T021500Z-[0-9a-f]{4}", made)
    assert manifests.time_of(made) == now
    with pytest.raises(BackupError, match="'yesterday' is not the id of a backup"):
        manifests.time_of("yesterday")


def test_a_signed_manifest_comes_back() -> None:
    assert manifests.verify(manifests.sign(manifest(), KEY), KEY, FIRST) == manifest()


def _altered(change: t.Callable[[dict[str, t.Any]], None]) -> str:
    signed = json.loads(manifests.sign(manifest(), KEY))
    change(signed)
    return json.dumps(signed)


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        (_altered(lambda one: one.update(manifest="{}")), KEY, "was altered, or signed with"),
        (_altered(lambda one: one.update(signature="0" * 64)), KEY, "was altered, or signed with"),
        (manifests.sign(manifest(), KEY), "other", "was altered, or signed with another key"),
        (manifests.sign(manifest(SECOND), KEY), KEY, f"is that of {SECOND}"),
        ("nonsense", KEY, "is not one"),
        ("[]", KEY, "is not one"),
    ],
)
def test_a_manifest_that_is_not_to_be_trusted(text: str, key: str, problem: str) -> None:
    with pytest.raises(DamagedError, match=problem):
        manifests.verify(text, key, FIRST)


def test_a_manifest_of_a_later_release_is_no_damage() -> None:
    text = manifests.sign(manifest() | {"format": 2, "release": "9.0"}, KEY)
    with pytest.raises(BackupError, match=r"has the format 2.*\(9\.0\)") as caught:
        manifests.verify(text, KEY, FIRST)
    assert not isinstance(caught.value, DamagedError)


def test_what_was_broken_off_is_no_backup() -> None:
    every = snapshots(FIRST, "mysql", "manifest") + snapshots(SECOND, "mysql")
    backup, parts = manifests.choose(every, "latest")
    assert (backup, set(parts)) == (FIRST, {"mysql", "manifest"})
    with pytest.raises(BackupError, match=f"{SECOND} was broken off"):
        manifests.choose(every, SECOND)
    with pytest.raises(BackupError, match=f"is not in the repository; there are {FIRST}"):
        manifests.choose(every, "20200101T000000Z-0000")
    with pytest.raises(BackupError, match="no complete backup"):
        manifests.choose(snapshots(SECOND, "mysql"), "latest")


def test_parts_must_be_those_of_the_manifest() -> None:
    parts = {"mysql": Snapshot("s1", FIRST, "mysql", "")}
    manifests.check_parts(manifest(), parts)
    with pytest.raises(DamagedError, match=r"part mysql of .* is missing"):
        manifests.check_parts(manifest(), {})
    with pytest.raises(DamagedError, match=r"part mysql of .* was exchanged"):
        manifests.check_parts(manifest(), {"mysql": Snapshot("s2", FIRST, "mysql", "")})


def ids(count: int, hours: int) -> list[str]:
    """Return the ids of backups that were taken at an interval, oldest first."""
    end = datetime.datetime(2026, 11, 25, 23, tzinfo=datetime.UTC)
    moments = [end - datetime.timedelta(hours=hours * number) for number in range(count)]
    return [f"{moment:%Y%m%dT%H%M%SZ}-0000" for moment in reversed(moments)]


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        ({"last": 3}, ["20261125T23", "20261125T22", "20261125T21"]),
        ({"daily": 2}, ["20261125T23", "20261124T23"]),
        ({"last": 1, "daily": 2}, ["20261125T23", "20261124T23"]),
        ({"weekly": 2}, ["20261125T23", "20261122T23"]),
        ({"monthly": 2}, ["20261125T23", "20261031T23"]),
        ({}, ["20261125T23"]),
    ],
)
def test_the_policy_keeps_the_newest_of_each(policy: dict[str, int], kept: list[str]) -> None:
    found = manifests.kept(ids(24 * 40, 1), policy)
    assert sorted((one[:11] for one in found), reverse=True) == kept


def test_of_none_none_are_kept() -> None:
    assert manifests.kept([], {"last": 3}) == set()
