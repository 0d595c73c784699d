"""Run the lab's command line."""

from __future__ import annotations

import sys

from vedfolnir_lab.cli import main

sys.exit(main(sys.argv[1:]))
