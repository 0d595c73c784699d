from __future__ import annotations

import datetime
import typing as t

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import rotation, secrets

NOW = datetime.datetime(2026, 11, 25, 3, 30, tzinfo=datetime.UTC)
MANIFEST: list[dict[str, t.Any]] = [
    {"name": "ca", "kind": "ca", "rotate": "never"},
    {"name": "site", "kind": "tls", "rotate": "reissue"},
    {"name": "user", "kind": "password", "rotate": "dual"},
    {"name": "flask", "kind": "hex", "rotate": "fallback"},
    {"name": "fernet", "kind": "fernet", "rotate": "reencrypt"},
    {"name": "mail", "kind": "given", "rotate": "restart"},
]
STORE: dict[str, t.Any] = {
    "ca": {"certificate": "c", "private_key": "k"},
    "site": {"certificate": "c", "private_key": "k"},
    "user": "u",
    "flask": "f",
    "fernet": "k",
    "mail": "m",
}
SWITCHED = {"value": "b", "others": ["a"], "state": "switched"}
PREPARED = {"value": "a", "others": ["b"], "state": "prepared"}


def plan(days: int = 1, only: t.Sequence[str] = (), **entries: t.Any) -> dict[str, tuple[str, str]]:
    since = dict.fromkeys(STORE, NOW - datetime.timedelta(days=days))
    policy = rotation.Policy(days=90, fallback_days=31)
    steps = rotation.plan(MANIFEST, STORE | entries, since, NOW, policy, only)
    return {step.name: (step.action, step.why) for step in steps}


def test_the_way_of_a_value() -> None:
    prepared = rotation.prepare("a", "password", 20)
    new = prepared["others"][0]
    assert prepared == {"value": "a", "others": [new], "state": "prepared"}
    assert len(new) == 20
    switched = rotation.switch(prepared)
    assert switched == {"value": new, "others": ["a"], "state": "switched"}
    assert rotation.retire(switched) == new
    assert rotation.switch_back(switched) == prepared
    assert [rotation.state_of(entry) for entry in ("a", prepared, switched, STORE["ca"])] == [
        "",
        "prepared",
        "switched",
        "",
    ]


def test_servers_see_the_same_two_values_while_consumers_move() -> None:
    prepared = rotation.prepare("a", "password", 20)
    before, after = (secrets.parts(entry) for entry in (prepared, rotation.switch(prepared)))
    assert (before["older"], before["newer"]) == (after["older"], after["newer"])


def test_earlier_keys_of_flask_are_kept_up_to_a_number() -> None:
    entry: t.Any = "0"
    for _count in range(8):
        entry = rotation.switch(rotation.prepare(entry, "hex", 32))
    assert len(entry["others"]) == rotation.KEPT_KEYS + 1
    assert len({entry["value"], *entry["others"]}) == rotation.KEPT_KEYS + 2
    prepared = rotation.prepare(entry, "hex", 32)
    assert prepared["value"] == entry["value"]
    assert prepared["others"][1:] == entry["others"][: rotation.KEPT_KEYS]


def test_what_is_due() -> None:
    assert plan(89) == dict.fromkeys(
        ("site", "user", "flask", "fernet"), ("keep", "is due in 1 days")
    )
    assert plan(90) == dict.fromkeys(
        ("site", "user", "flask", "fernet"), ("rotate", "is 90 days old, due after 90")
    )


def test_what_is_named() -> None:
    found = plan(100, ["user"])
    assert found.pop("user") == ("rotate", "was named")
    assert set(found.values()) == {("keep", "was not named")}


@pytest.mark.parametrize(
    ("name", "entry", "days", "wanted"),
    [
        ("user", PREPARED, 1, ("finish", "an earlier run was interrupted")),
        ("fernet", SWITCHED, 1, ("finish", "an earlier run was interrupted")),
        ("flask", PREPARED, 1, ("finish", "an earlier run was interrupted")),
        ("flask", SWITCHED, 30, ("keep", "the earlier key is accepted for 1 days")),
        ("flask", SWITCHED, 31, ("retire", "the earlier key was accepted for 31 days")),
        ("flask", SWITCHED, 90, ("rotate", "is 90 days old, due after 90")),
    ],
)
def test_what_was_begun(name: str, entry: t.Any, days: int, wanted: tuple[str, str]) -> None:
    assert plan(days, **{name: entry})[name] == wanted


def test_what_was_interrupted_is_finished_whatever_is_named() -> None:
    assert plan(1, ["flask"], user=PREPARED)["user"][0] == "finish"


def test_names_that_cannot_be_rotated_are_refused_all_at_once() -> None:
    with pytest.raises(rotation.RotationError) as error:
        plan(1, ["usr", "ca", "mail", "user"])
    assert str(error.value) == (
        "usr is no secret of the manifest; did you mean user?; "
        "ca cannot be rotated by itself (see docs/rotation.md); "
        "mail cannot be rotated by itself (give another value in stack_secrets_given and run "
        "site.yml)"
    )
