"""Batch processing: fetch posts, caption their images, keep the captions for review."""

from __future__ import annotations

import argparse
import asyncio
import logging
import typing as t
import uuid
from pathlib import Path

from app.core.database.core.database_manager import DatabaseManager
from app.services.activitypub.components.activitypub_client import ActivityPubClient
from app.utils.processing.image_processor import store_image
from app.utils.processing.ollama_caption_generator import OllamaCaptionGenerator
from config import Config
from models import Image, PlatformConnection, Post, ProcessingRun, ProcessingStatus, User
from sqlalchemy.orm import Session
from standin.tables import naive_utc_now

logger = logging.getLogger(__name__)


class Vedfolnir:
    """Captions the images of users on all their active platform connections."""

    def __init__(self, config: Config, reprocess_all: bool = False) -> None:
        self.config = config
        self.reprocess_all = reprocess_all
        self.db = DatabaseManager(config)
        self.caption_generator = OllamaCaptionGenerator(config.ollama)

    async def run_multi_user(
        self, user_ids: list[str], skip_ollama: bool = False
    ) -> dict[str, int]:
        """Process users by name; return how many images and captions came of it."""
        if not skip_ollama:
            await self.caption_generator.initialize()
        totals = {"images_processed": 0, "captions_generated": 0}
        batch_id = str(uuid.uuid4())
        with self.db.get_session() as session:
            for position, username in enumerate(user_ids):
                if position:
                    await asyncio.sleep(self.config.user_processing_delay)
                user = session.query(User).filter_by(username=username).one_or_none()
                if user is None:
                    msg = f"User {username} not found"
                    raise LookupError(msg)
                connections = session.query(PlatformConnection).filter_by(
                    user_id=user.id, is_active=True
                )
                for connection in connections.all():
                    run = await self._run(session, connection, batch_id, skip_ollama)
                    totals["images_processed"] += run.images_processed
                    totals["captions_generated"] += run.captions_generated
        return totals

    async def _run(
        self, session: Session, connection: PlatformConnection, batch_id: str, skip_ollama: bool
    ) -> ProcessingRun:
        run = ProcessingRun(
            user_id=connection.user_id,
            batch_id=batch_id,
            started_at=naive_utc_now(),
            status="running",
            posts_processed=0,
            images_processed=0,
            captions_generated=0,
            errors_count=0,
            **_platform_columns(connection),
        )
        session.add(run)
        session.commit()
        client = ActivityPubClient(connection, self.config.retry)
        for status in await client.get_user_posts(self.config.max_posts_per_run):
            post = _remember_post(session, connection, status)
            run.posts_processed += 1
            for index, medium in enumerate(status["media_attachments"]):
                if medium["type"] != "image" or medium.get("description"):
                    continue
                await self._caption(session, client, run, post, index, medium, skip_ollama)
        run.status = "completed"
        run.completed_at = naive_utc_now()
        connection.last_used = naive_utc_now()
        session.commit()
        return run

    async def _caption(
        self,
        session: Session,
        client: ActivityPubClient,
        run: ProcessingRun,
        post: Post,
        index: int,
        medium: dict[str, t.Any],
        skip_ollama: bool,
    ) -> None:
        known = session.query(Image).filter_by(post_id=post.id, attachment_index=index).first()
        if known is not None and not self.reprocess_all:
            return
        try:
            content, content_type = await client.download_image(medium["url"])
            path = store_image(self.config.storage.images_dir, medium["url"], content, content_type)
            run.images_processed += 1
            caption = None if skip_ollama else await self.caption_generator.generate_caption(path)
        except Exception:
            logger.exception("Could not caption image %s", medium["id"])
            run.errors_count += 1
            session.commit()
            return
        image = known or Image(
            post_id=post.id,
            image_url=medium["url"],
            original_filename=Path(medium["url"]).name,
            media_type=content_type,
            image_post_id=medium["id"],
            attachment_index=index,
            platform_connection_id=post.platform_connection_id,
            platform_type=post.platform_type,
            instance_url=post.instance_url,
        )
        image.local_path = path
        image.generated_caption = caption
        image.status = ProcessingStatus.PENDING
        session.add(image)
        run.captions_generated += caption is not None
        session.commit()


def _platform_columns(connection: PlatformConnection) -> dict[str, t.Any]:
    return {
        "platform_connection_id": connection.id,
        "platform_type": connection.platform_type,
        "instance_url": connection.instance_url,
    }


def _remember_post(
    session: Session, connection: PlatformConnection, status: dict[str, t.Any]
) -> Post:
    post = (
        session.query(Post)
        .filter_by(post_id=status["id"], platform_connection_id=connection.id)
        .first()
    )
    if post is None:
        post = Post(
            post_id=status["id"],
            user_id=connection.user_id,
            post_url=status.get("url") or status["uri"],
            post_content=status.get("content"),
            **_platform_columns(connection),
        )
        session.add(post)
        session.flush()
    return post


def main() -> None:
    """Process users named on the command line."""
    parser = argparse.ArgumentParser(description="Vedfolnir batch processing")
    names = parser.add_mutually_exclusive_group(required=True)
    names.add_argument("--users", nargs="+")
    names.add_argument("--file", type=Path)
    parser.add_argument("--no-ollama", action="store_true")
    parser.add_argument("--reprocess-all", action="store_true")
    args = parser.parse_args()
    users = args.users or args.file.read_text().split()
    logging.basicConfig(level=logging.INFO)
    bot = Vedfolnir(Config(), reprocess_all=args.reprocess_all)
    asyncio.run(bot.run_multi_user(users, skip_ollama=args.no_ollama))


if __name__ == "__main__":
    main()
