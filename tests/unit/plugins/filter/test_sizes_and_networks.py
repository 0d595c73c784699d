from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.vedfolnir.stack.plugins.filter import overlapping_networks as networks
from ansible_collections.vedfolnir.stack.plugins.filter import to_mib as sizes


@pytest.mark.parametrize(
    ("size", "mib"),
    [
        ("512m", 512),
        ("512M", 512),
        ("512 MiB", 512),
        ("512mb", 512),
        ("2g", 2048),
        ("1.5g", 1536),
        ("1t", 1024**2),
        ("2048k", 2),
        ("1048576", 1),
        ("1048576b", 1),
        (1073741824, 1024),
        (1048575, 0),
        ("0.3g", 307),
    ],
)
def test_sizes_become_whole_mib(size: object, mib: int) -> None:
    assert sizes.to_mib(size) == mib


@pytest.mark.parametrize("size", ["", "m", "12x", "-1m", "1,5g", True, None, [], "1m\n2"])
def test_other_values_are_no_sizes(size: object) -> None:
    with pytest.raises(AnsibleFilterError) as error:
        sizes.to_mib(size)
    assert str(error.value) == f"to_mib expects a size such as 512m or 2g, got '{size}'"


@pytest.mark.parametrize(
    ("given", "pairs"),
    [
        ([], []),
        (["172.30.0.0/24", "172.30.1.0/24", "fd00::/64"], []),
        (["172.30.0.0/16", "172.30.1.0/24"], [["172.30.0.0/16", "172.30.1.0/24"]]),
        (["10.0.0.0/8", "10.0.0.0/8"], [["10.0.0.0/8", "10.0.0.0/8"]]),
        (["0.0.0.0/0", "::/0", "fd00::/64"], [["::/0", "fd00::/64"]]),
    ],
)
def test_overlapping_networks_are_named_in_pairs(given: list[str], pairs: list[list[str]]) -> None:
    assert networks.overlapping_networks(given) == pairs


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("10.0.0.0/8", "overlapping_networks expects a list of networks, got str"),
        (["10.0.0.1/8"], "overlapping_networks: 10.0.0.1/8 has host bits set"),
        (
            ["ten"],
            "overlapping_networks: 'ten' does not appear to be an IPv4 or IPv6 network",
        ),
    ],
)
def test_no_networks_are_refused(given: object, message: str) -> None:
    with pytest.raises(AnsibleFilterError) as error:
        networks.overlapping_networks(given)
    assert str(error.value) == message


def test_the_filters_have_their_names() -> None:
    found = sizes.FilterModule().filters() | networks.FilterModule().filters()
    assert sorted(found) == ["overlapping_networks", "to_mib"]
