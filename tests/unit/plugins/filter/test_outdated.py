from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.vedfolnir.stack.plugins.filter.outdated import FilterModule, outdated


@pytest.mark.parametrize(
    ("versions", "used", "keep", "old"),
    [
        ([], [], 2, []),
        (["3", "2", "1"], ["3"], 2, ["1"]),
        (["3", "2", "1"], ["1"], 2, ["2"]),
        (["3", "2", "1"], ["2", "1"], 2, ["3"]),
        (["3", "2", "1"], ["3", "2", "1"], 2, []),
        (["3", "2", "1"], ["3"], 1, ["2", "1"]),
        (["3", "2", "1"], [], 1, ["2", "1"]),
        (["3", "2", "1"], ["gone"], 2, ["1"]),
        (["3", "2", "1"], ["3"], 9, []),
        (["2"], ["2"], 1, []),
    ],
)
def test_used_and_newest_versions_stay(
    versions: list[str], used: list[str], keep: int, old: list[str]
) -> None:
    assert FilterModule().filters()["outdated"](versions, used, keep) == old


@pytest.mark.parametrize(
    ("versions", "used", "message"),
    [
        ("a", [], "outdated expects a list of versions, got str"),
        (["a"], "a", "outdated expects the used ones as a list, got str"),
        (None, [], "outdated expects a list of versions, got NoneType"),
    ],
)
def test_other_values_are_refused(versions: t.Any, used: t.Any, message: str) -> None:
    with pytest.raises(AnsibleFilterError) as error:
        outdated(versions, used, 1)
    assert str(error.value) == message
