"""All secrets rotated once under a little load: the short form of test_rotation.py, for CI."""

from __future__ import annotations

from lab import Lab
from load import Load
from test_rotation import ACCOUNTS, ALL, accepted, in_use, opened, rotate, tokens, unfinished
from vaulted import deploy

RATE = 20


def test_all_are_rotated_once_and_nobody_notices(healthy: Lab) -> None:
    """Nor does a further run; the old values are refused."""
    first = in_use(healthy)
    with Load(healthy, rate=RATE) as load:
        rotate(healthy, *ALL).check()
        second = in_use(healthy)
        texts = tokens(healthy)  # the load removes its platforms when it ends
    report = load.report()
    print(report)
    assert report.problems() == {}, report
    assert min(report.requests, report.sessions, report.sockets, report.captions_posted) > 0
    assert {name for name in ALL if first[name] != second[name]} == set(ALL)
    assert unfinished(healthy) == []
    assert accepted(healthy, second) == dict.fromkeys(ACCOUNTS, True)
    assert accepted(healthy, first) == dict.fromkeys(ACCOUNTS, False)
    assert texts
    assert [opened(secrets["app_fernet_key"], texts) for secrets in (second, first)] == [
        len(texts),
        0,
    ]
    started = healthy.started()
    assert deploy(healthy).check().recap["changed"] == 0
    assert healthy.started() == started
