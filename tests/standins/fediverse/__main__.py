"""Start the fake platform: ``python3 -m fediverse --port 8080``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from fediverse.server import Server
from fediverse.state import State


def _token() -> str:
    path = os.getenv("FEDIVERSE_TOKEN_FILE")
    return Path(path).read_text(encoding="utf-8").strip() if path else "stand-in-token"


def main() -> None:
    """Parse the command line and serve until TERM."""
    parser = argparse.ArgumentParser(prog="fediverse", description="A fake ActivityPub server")
    parser.add_argument("--host", default="0.0.0.0")  # noqa: S104 - it is a server
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--posts", type=int, default=3, help="posts to begin with")
    parser.add_argument("--software", choices=("pixelfed", "mastodon"), default="pixelfed")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Server((args.host, args.port), State(_token(), args.posts, args.software)) as server:
        print(f"Fediverse stand-in ({args.software}) on port {server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
