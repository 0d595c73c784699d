"""An S3 on the target: s3rver from npm, a stand-in that speaks the protocol and knows one login.

It judges the access key of every request and the signature of those that change something; what it
does not have are versions, policies and the patience of a real bucket.
"""

from __future__ import annotations

import shutil
import subprocess

import pytest
from lab import STATE
from rest import Rest
from target import DIRECTORY, Target

USER = PASSWORD = "S3RVER"
_PACKAGE = "s3rver@3.7.1"
_NODE = (
    "command -v node >/dev/null || { apt-get update -q && apt-get install -qy nodejs openssl; } "
    ">/tmp/installed 2>&1 || { tail -5 /tmp/installed >&2; exit 1; }"
)


class S3(Rest):
    """The server; it may be stopped and started."""

    port = 8001
    install = _NODE

    def __init__(self, target: Target) -> None:
        """Fetch it here, install it there, with an authority of its own."""
        if not shutil.which("npm"):
            pytest.skip("the stand-in of S3 comes by npm, which is not on this machine")
        super().__init__(target)
        self.repository = f"s3:https://{target.name}:{self.port}/captions/backups"
        place = STATE / "s3"
        argv = ["npm", "install", "--silent", "--no-audit", "--no-fund", f"--prefix={place}"]
        subprocess.run([*argv, _PACKAGE], check=True, capture_output=True, timeout=300)
        subprocess.run(["docker", "cp", str(place), f"{target.name}:/opt/s3"], check=True)

    @property
    def command(self) -> str:
        """How it is started."""
        return (
            f"node /opt/s3/node_modules/s3rver/bin/s3rver.js --directory {DIRECTORY}/s3 "
            f"--address 0.0.0.0 --port {self.port} --no-vhost-buckets "
            "--cert /root/tls/ca.pem --key /root/tls/key.pem --configure-bucket captions"
        )
