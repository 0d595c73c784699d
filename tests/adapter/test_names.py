"""A name that was not known while its container was away is known as soon as it is back."""

from __future__ import annotations

import subprocess
import textwrap
from pathlib import Path

import pytest

ADAPTER = Path(__file__).resolve().parents[2] / "files/app"

PROGRAM = """
    import eventlet
    eventlet.monkey_patch()
    import socket
    from eventlet.support import greendns
    from vedfolnir_adapter import names

    dns = greendns.dns
    import dns.flags, dns.message, dns.rcode, dns.rrset
    known = False

    def answer(server):
        while True:
            asked, client = server.recvfrom(4096)
            query = dns.message.from_wire(asked)
            reply = dns.message.make_response(query)
            name = query.question[0].name
            if known and query.question[0].rdtype == 1:
                reply.answer.append(dns.rrset.from_text(name, 600, "IN", "A", known))
            elif not known:
                reply.set_rcode(dns.rcode.NXDOMAIN)
            server.sendto(reply.to_wire(), client)

    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    eventlet.spawn(answer, server)
    resolver = greendns.resolver._resolver
    resolver.nameservers, resolver.port = ["127.0.0.1"], server.getsockname()[1]
    if {install}:
        names.install()
    for known in (False, "192.0.2.1", "192.0.2.2"):
        try:
            print(socket.getaddrinfo("database", 3306, socket.AF_INET)[0][4][0])
        except socket.gaierror:
            print("unknown")
"""


@pytest.mark.parametrize(
    ("install", "found"),
    [
        (True, ["unknown", "192.0.2.1", "192.0.2.2"]),
        (False, ["unknown", "unknown", "unknown"]),  # why it is needed
    ],
)
def test_a_name_is_asked_for_each_time(python: str, install: bool, found: list[str]) -> None:
    program = textwrap.dedent(PROGRAM.format(install=install))
    done = subprocess.run(
        [python, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": str(ADAPTER)},
    )
    assert done.stdout.split() == found, done.stderr
