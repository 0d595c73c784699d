from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.vedfolnir.stack.plugins.filter.nth_address import FilterModule, nth_address


@pytest.mark.parametrize(
    ("network", "number", "address"),
    [
        ("172.30.0.0/24", 1, "172.30.0.1"),
        ("172.30.0.0/24", -2, "172.30.0.254"),
        ("10.0.0.0/8", -2, "10.255.255.254"),
        ("fd00::/64", 1, "fd00::1"),
    ],
)
def test_an_address_is_counted_from_either_end(network: str, number: int, address: str) -> None:
    assert FilterModule().filters()["nth_address"](network, number) == address


@pytest.mark.parametrize(("network", "number"), [("10.0.0.0/30", 4), ("nonsense", 1), ("", 0)])
def test_what_is_not_there_is_named(network: str, number: int) -> None:
    with pytest.raises(AnsibleFilterError, match=f"{network} has no address {number}"):
        nth_address(network, number)
