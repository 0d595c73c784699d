"""Entry point: ``python3 grafana.py server|cli``, with Grafana's own options."""

from __future__ import annotations

import sys

from grafana_standin.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
