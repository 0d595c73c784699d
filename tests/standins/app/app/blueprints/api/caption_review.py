"""Review of captions: change, regenerate, approve and post (JSON, login needed)."""

from __future__ import annotations

import asyncio
import logging

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue
from flask_login import current_user
from models import Image, PlatformConnection, Post, ProcessingStatus
from sqlalchemy.orm import Session
from standin.tables import naive_utc_now

from app.core.web_context import db_manager, login_required
from app.services.activitypub.components.activitypub_client import ActivityPubClient
from app.utils.processing.ollama_caption_generator import OllamaCaptionGenerator

caption_review_bp = Blueprint("caption_review", __name__, url_prefix="/api")
logger = logging.getLogger(__name__)

_REGENERATE_SECONDS = 45
_NOT_FOUND = ({"success": False, "error": "Image not found or access denied"}, 404)
_NO_CAPTION = ({"success": False, "error": "Caption required"}, 400)


def _own(db: Session, image_id: int) -> Image | None:
    return (
        db.query(Image)
        .join(Post, Image.post_id == Post.id)
        .filter(Image.id == image_id, Post.user_id == current_user.id)
        .first()
    )


def _caption_of_request() -> str:
    return str((request.get_json(silent=True) or {}).get("caption", "")).strip()


@caption_review_bp.post("/update_caption/<int:image_id>")
@login_required
def update_caption(image_id: int) -> ResponseReturnValue:
    """Replace the proposed caption."""
    caption = _caption_of_request()
    if not caption:
        return _NO_CAPTION
    with db_manager().get_session() as db:
        image = _own(db, image_id)
        if image is None:
            return _NOT_FOUND
        image.reviewed_caption = caption
        image.reviewed_at = naive_utc_now()
        image.status = ProcessingStatus.REVIEWED
        db.commit()
    return jsonify(success=True, message="Caption updated successfully")


@caption_review_bp.post("/approve_and_post/<int:image_id>")
@login_required
def approve_and_post(image_id: int) -> ResponseReturnValue:
    """Approve a caption and write it to the platform."""
    caption = _caption_of_request()
    if not caption:
        return _NO_CAPTION
    with db_manager().get_session() as db:
        image = _own(db, image_id)
        if image is None:
            return _NOT_FOUND
        image.final_caption = caption
        posted = _post(db, image, caption)
        image.status = ProcessingStatus.POSTED if posted else ProcessingStatus.APPROVED
        if posted:
            image.posted_at = naive_utc_now()
        db.commit()
    message = "Caption approved and posted successfully" if posted else "Caption approved"
    return jsonify(success=True, message=message, posted=posted)


def _post(db: Session, image: Image, caption: str) -> bool:
    connection = db.get_one(PlatformConnection, image.platform_connection_id)
    try:
        client = ActivityPubClient(connection)
        return asyncio.run(client.update_media_caption(str(image.image_post_id), caption))
    except Exception:
        logger.exception("Could not post the caption of image %s", image.id)
        return False


@caption_review_bp.post("/regenerate_caption/<int:image_id>")
@login_required
def regenerate_caption(image_id: int) -> ResponseReturnValue:
    """Ask the model again; when it fails, store an invented caption, as upstream does."""
    with db_manager().get_session() as db:
        image = _own(db, image_id)
        if image is None:
            return _NOT_FOUND
        generator = OllamaCaptionGenerator(db_manager().config.ollama)
        try:
            caption = asyncio.run(
                asyncio.wait_for(generator.generate_caption(image.local_path), _REGENERATE_SECONDS)
            )
        except Exception:
            logger.exception("Ollama failed, storing a test caption")
            caption = f"regenerated test caption for image {image_id}"
        image.generated_caption = caption
        image.status = ProcessingStatus.PENDING
        db.commit()
    return jsonify(success=True, caption=caption, category="general")
