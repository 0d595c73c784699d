"""Caption workers: `python -m vedfolnir_adapter.worker --mode polling|rq`.

`polling` is one process over the task table. `rq` supervises a dispatcher and RQ workers.
`integrated` is what the web process starts for itself: a supervised polling worker.
"""

from __future__ import annotations

import argparse
import os
import sys
import typing as t

from vedfolnir_adapter import bootstrap, metrics_store, supervisor
from vedfolnir_adapter.settings import Settings

MODULE: t.Final = "vedfolnir_adapter.worker"
PORT: t.Final = "VEDFOLNIR_METRICS_PORT"


def _children(mode: str, interval: float) -> list[supervisor.Worker]:
    common = ("--check-interval", str(interval))
    if mode == "integrated":
        names = ["polling"]
    else:
        count = int(os.environ.get("VEDFOLNIR_RQ_WORKERS", "1"))
        names = ["rq-dispatcher", *["rq-worker"] * count]
    return [supervisor.Worker(name, (MODULE, "--mode", name, *common)) for name in names]


def _tell_metrics() -> None:
    """Answer Prometheus for all processes of the container, if it has a port for that."""
    port = os.environ.get(PORT, "")
    if port:
        from vedfolnir_adapter import exposition

        exposition.start(metrics_store.registry(), int(port))


def _watch(settings: Settings) -> None:
    """Count what the application does in this process, and let it carry the request's id."""
    from vedfolnir_adapter import database_events, outbound, traces

    traces.install("worker")
    outbound.install()
    database_events.install(settings)


def _supervise(mode: str, interval: float) -> int:
    supervisor.die_with_parent()
    bootstrap.prepare("worker")
    if mode == "rq":
        _tell_metrics()
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
    # Before the first import of prometheus_client; the children share the place.
    metrics_store.prepare()
    if options.mode in ("rq", "integrated"):
        return _supervise(options.mode, options.check_interval)
    settings = bootstrap.prepare("worker")
    if options.mode == "polling":
        from vedfolnir_adapter import polling

        _watch(settings)
        _tell_metrics()
        return polling.run(settings, options.check_interval)
    if options.mode == "rq-dispatcher":
        from vedfolnir_adapter import rq_queue

        return rq_queue.run(settings, options.check_interval)
    from vedfolnir_adapter import rq_worker

    _watch(settings)
    return rq_worker.run(settings)


if __name__ == "__main__":
    sys.exit(main())
