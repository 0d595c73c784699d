from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.vedfolnir.stack.plugins.filter.nth_addresses import (
    FilterModule,
    nth_addresses,
)


@pytest.mark.parametrize(
    ("first", "count", "addresses"),
    [
        (-3, 3, ["172.30.2.253", "172.30.2.252", "172.30.2.251"]),
        (1, 2, ["172.30.2.1", "172.30.2.2"]),
        (-3, 0, []),
    ],
)
def test_addresses_are_counted_towards_the_middle(
    first: int, count: int, addresses: list[str]
) -> None:
    assert FilterModule().filters()["nth_addresses"]("172.30.2.0/24", first, count) == addresses


def test_too_many_are_refused() -> None:
    with pytest.raises(AnsibleFilterError, match=r"10.0.0.0/30 has no address -5"):
        nth_addresses("10.0.0.0/30", -3, 3)
