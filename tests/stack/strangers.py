"""Requests that the lab host itself sends to the site.

Its address has limits of its own, so that those of the tests' address are not used up.
"""

from __future__ import annotations

import collections
import json
import typing as t

from lab import Lab

# All connections are made before the first request is sent: a rate is exceeded however slow the
# machine is.
_SCRIPT = """
import http.client, json, ssl, sys, threading
address, name, method, path, count = json.load(sys.stdin)
context = ssl._create_unverified_context()
together = threading.Barrier(count)
def ask():
    connection = http.client.HTTPSConnection(address, 443, context=context, timeout=120)
    connection.connect()
    together.wait()
    form = {"Host": name, "Content-Type": "application/x-www-form-urlencoded"}
    connection.request(method, path, body="a=b" if method == "POST" else None, headers=form)
    answer = connection.getresponse()
    print(answer.status, answer.headers.get("Retry-After", "-") + chr(10), end="", flush=True)
threads = [threading.Thread(target=ask) for _number in range(count)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


class Answer(t.NamedTuple):
    """Status of an answer, and when to come back (``-`` if it does not say)."""

    status: int
    retry_after: str


def ask(lab: Lab, method: str, path: str, count: int) -> collections.Counter[Answer]:
    """Send a number of requests at once and count the answers."""
    address = lab.run("ip -4 -o addr show eth0 | awk '{print $4}' | cut -d/ -f1").strip()
    request = [address, lab.variables["stack_domain"], method, path, count]
    output = lab.run(f"python3 -c '{_SCRIPT}'", stdin=json.dumps(request))
    lines = [line.split() for line in output.splitlines()]
    answers = collections.Counter(Answer(int(status), after) for status, after in lines)
    assert answers.total() == count, output
    return answers
