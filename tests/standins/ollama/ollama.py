"""Entry point: ``python3 ollama.py serve|pull|list|show|rm|ps``."""

from __future__ import annotations

import sys

from ollama_standin.cli import main

if __name__ == "__main__":
    sys.exit(main())
