"""Run the lab's command line."""

from __future__ import annotations

import sys

from vedfolnir_lab import usage


def main() -> int:
    """Read the command line, then load what needs the packages of .venv."""
    options = usage.parse(sys.argv[1:])
    from vedfolnir_lab import cli

    return cli.main(options)


sys.exit(main())
