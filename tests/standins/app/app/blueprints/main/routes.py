"""Landing page, dashboard and the test pages that were left in."""

from __future__ import annotations

from flask import Blueprint, jsonify, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from models import Image, Post

from app.core.web_context import db_manager, redis_platform_manager
from app.services.platform.components.platform_identification import identify_user_platform

main_bp = Blueprint("main", __name__)


@main_bp.get("/")
def index() -> ResponseReturnValue:
    """Show the landing page, or the dashboard to who is logged in."""
    if not current_user.is_authenticated:
        return landing()
    platform = identify_user_platform(current_user.id, redis_platform_manager(), db_manager())
    with db_manager().get_session() as session:
        images = (
            session.query(Image)
            .join(Post, Image.post_id == Post.id)
            .filter(Post.user_id == current_user.id)
            .all()
        )
        return render_template("dashboard.html", platform=platform, images=images)


@main_bp.get("/landing")
def landing() -> ResponseReturnValue:
    """Show the landing page."""
    return render_template("landing.html")


@main_bp.get("/login")
def login() -> ResponseReturnValue:
    """Send to the real login page."""
    return redirect(url_for("user_management.login"))


@main_bp.get("/logout")
def logout() -> ResponseReturnValue:
    """Send to the real logout page."""
    return redirect(url_for("user_management.logout"))


@main_bp.get("/test_route")
def test_route() -> ResponseReturnValue:
    """Answer anybody: a leftover."""
    return "Test route works"


@main_bp.get("/websocket-test")
@main_bp.get("/websocket-simple-test")
def websocket_test() -> ResponseReturnValue:
    """Show a test page to anybody: a leftover."""
    return render_template("landing.html")


@main_bp.get("/cache-stats")
def cache_stats() -> ResponseReturnValue:
    """Tell anybody about the cache: a leftover."""
    return jsonify(hits=0, misses=0, redis=redis_platform_manager() is not None)
