"""Files: downloaded images (public, as upstream has it) and the icon that is not there."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, current_app, send_from_directory
from flask.typing import ResponseReturnValue

static_bp = Blueprint("static_files", __name__)


@static_bp.get("/images/<path:filename>")
def serve_image(filename: str) -> ResponseReturnValue:
    """Serve an image without asking who wants it."""
    return send_from_directory(Path.cwd() / "storage" / "images", filename)


@static_bp.get("/favicon.ico")
def favicon() -> ResponseReturnValue:
    """Answer 404: the icons are elsewhere."""
    return send_from_directory(str(current_app.static_folder), "favicon.ico")
