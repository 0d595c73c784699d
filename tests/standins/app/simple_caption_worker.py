"""Polling worker: takes queued caption tasks out of the database, one after the other."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys

import sqlalchemy as sa
from app.core.database.core.database_manager import DatabaseManager
from app.services.task.task_processing import (
    finish_task,
    mark_running,
    next_queued_task_id,
    username_of,
)
from config import Config

logger = logging.getLogger(__name__)


class SimpleCaptionWorker:
    """Runs until it is told to stop. No locking: exactly one may run."""

    def __init__(self, check_interval: float = 5.0) -> None:
        self.config = Config()
        self.db_manager = DatabaseManager(self.config)
        self.check_interval = check_interval
        self.shutdown_event = asyncio.Event()
        self.stats = {"tasks_processed": 0, "tasks_failed": 0}

    def setup_signal_handlers(self) -> None:
        """Stop on TERM and INT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.shutdown_event.set)

    async def start(self) -> None:
        """Work until told to stop."""
        logger.info("Starting Simple Caption Generation Worker")
        self.setup_signal_handlers()
        await self.run_worker_loop()
        logger.info("Simple Caption Generation Worker stopped")

    async def run_worker_loop(self) -> None:
        """Take the oldest queued task, or wait for the next look."""
        while not self.shutdown_event.is_set():
            try:
                task_id = next_queued_task_id(self.db_manager)
            except sa.exc.SQLAlchemyError:
                logger.exception("Error in worker loop")
                task_id = None
            if task_id:
                await self.process_task_simple(task_id)
            else:
                await self._pause()

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self.shutdown_event.wait(), timeout=self.check_interval)
        except TimeoutError:
            return

    async def process_task_simple(self, task_id: str) -> None:
        """Do one task and record how it went."""
        from main import Vedfolnir

        logger.info("Processing task %s", task_id)
        try:
            mark_running(self.db_manager, task_id)
            username = username_of(self.db_manager, task_id)
            await Vedfolnir(self.config).run_multi_user([username], skip_ollama=False)
            finish_task(self.db_manager, task_id)
        except Exception as exc:
            logger.exception("Failed to process task %s", task_id)
            self.stats["tasks_failed"] += 1
            finish_task(self.db_manager, task_id, error=str(exc))
        else:
            self.stats["tasks_processed"] += 1
            logger.info("✅ Task %s completed successfully", task_id)


async def main() -> None:
    """Parse the command line and work."""
    parser = argparse.ArgumentParser(description="Simple Caption Generation Worker")
    parser.add_argument(
        "--log-level", choices=["DEBUG", "INFO", "WARNING", "ERROR"], default="INFO"
    )
    parser.add_argument("--check-interval", type=float, default=5.0)
    args = parser.parse_args()
    worker = SimpleCaptionWorker(check_interval=args.check_interval)
    logging.basicConfig(
        level=args.log_level,
        format="%(asctime)s - %(name)s - %(levelname)s - %(message)s",
        handlers=[
            logging.StreamHandler(sys.stdout),
            logging.FileHandler("logs/simple_caption_worker.log"),
        ],
    )
    await worker.start()


if __name__ == "__main__":
    asyncio.run(main())
