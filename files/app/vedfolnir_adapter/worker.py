"""Caption workers: `python -m vedfolnir_adapter.worker --mode polling|rq`.

`polling` is one process over the task table. `rq` supervises a dispatcher and RQ workers.
`integrated` is what the web process starts for itself: a supervised polling worker.
"""

from __future__ import annotations

import argparse
import os
import sys
import typing as t

from vedfolnir_adapter import bootstrap, supervisor

MODULE: t.Final = "vedfolnir_adapter.worker"


def _children(mode: str, interval: float) -> list[supervisor.Worker]:
    common = ("--check-interval", str(interval))
    if mode == "integrated":
        names = ["polling"]
    else:
        count = int(os.environ.get("VEDFOLNIR_RQ_WORKERS", "1"))
        names = ["rq-dispatcher", *["rq-worker"] * count]
    return [supervisor.Worker(name, (MODULE, "--mode", name, *common)) for name in names]


def _supervise(mode: str, interval: float) -> int:
    supervisor.die_with_parent()
    bootstrap.prepare("worker")
    return supervisor.Supervisor(_children(mode, interval)).run()


def main() -> int:
    """Parse the command line and run the mode."""
    parser = argparse.ArgumentParser(prog=MODULE)
    parser.add_argument(
        "--mode",
        required=True,
        choices=("polling", "rq", "integrated", "rq-dispatcher", "rq-worker"),
    )
    parser.add_argument("--check-interval", type=float, default=5.0)
    options = parser.parse_args()
    if options.mode in ("rq", "integrated"):
        return _supervise(options.mode, options.check_interval)
    settings = bootstrap.prepare("worker")
    if options.mode == "polling":
        from vedfolnir_adapter import polling

        return polling.run(settings, options.check_interval)
    if options.mode == "rq-dispatcher":
        from vedfolnir_adapter import rq_queue

        return rq_queue.run(settings, options.check_interval)
    from vedfolnir_adapter import rq_worker

    return rq_worker.run(settings)


if __name__ == "__main__":
    sys.exit(main())
