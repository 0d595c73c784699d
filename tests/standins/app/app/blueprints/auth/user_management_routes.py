"""Login, registration and the profile. No CSRF check and no rate limit is effective."""

from __future__ import annotations

import datetime as dt
import uuid

import redis
from flask import Blueprint, flash, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_user, logout_user
from models import User, UserRole, UserSession
from sqlalchemy import or_
from sqlalchemy.orm import Session
from standin.tables import naive_utc_now

from app.core.web_context import audit, db_manager, login_required, redis_sessions

user_management_bp = Blueprint("user_management", __name__, url_prefix="/user-management")

_SESSION_LIFETIME = dt.timedelta(hours=2)


@user_management_bp.route("/login", methods=["GET", "POST"])
def login() -> ResponseReturnValue:
    """Show the form, or log in: 302 on success, 200 with the form again on failure."""
    if request.method == "POST" and _try_login():
        return redirect(url_for("main.index"))
    return render_template("login.html")


def _try_login() -> bool:
    name = request.form.get("username_or_email", "").strip()
    with db_manager().get_session() as db:
        user = db.query(User).filter(or_(User.username == name, User.email == name)).first()
        problem = _problem(user, request.form.get("password", ""))
        if user is None:
            audit(db, None, "login_attempt_invalid_user", f"Unknown user {name}")
        elif problem:
            audit(db, user, problem, f"Login refused for {user.username} <{user.email}>")
        else:
            user.record_successful_login()
            audit(db, user, "user_login_success", f"User {user.username} <{user.email}> logged in")
            session["redis_session_id"] = _open_session(db, user)
        db.commit()
        if user is None or problem:
            flash("Invalid username or password")
            return False
        login_user(user, remember="remember_me" in request.form)
    return True


def _problem(user: User | None, password: str) -> str | None:
    """Return the audit action of a refusal, or nothing when the login is right."""
    if user is None:
        return "login_attempt_invalid_user"
    if user.account_locked:
        return "login_attempt_locked_account"
    if not user.can_login():
        return "login_denied"
    if not user.check_password(password):
        user.record_failed_login()
        return "login_denied"
    return None


def _open_session(db: Session, user: User) -> str:
    """Record the login in Redis and in the database, without address or user agent."""
    mirror = redis_sessions()
    session_id = str(uuid.uuid4())
    if mirror is not None:
        try:
            session_id = mirror.create(user.id, None)
        except redis.RedisError:
            flash("Session mirror unavailable")
    now = naive_utc_now()
    db.add(
        UserSession(
            session_id=session_id,
            user_id=user.id,
            created_at=now,
            updated_at=now,
            last_activity=now,
            expires_at=now + _SESSION_LIFETIME,
            is_active=True,
        )
    )
    return session_id


@user_management_bp.route("/logout", methods=["GET", "POST"])
def logout() -> ResponseReturnValue:
    """Log out."""
    mirror = redis_sessions()
    session_id = session.pop("redis_session_id", None)
    if mirror is not None and session_id:
        try:
            mirror.destroy(session_id)
        except redis.RedisError:
            flash("Session mirror unavailable")
    logout_user()
    return redirect(url_for("user_management.login"))


@user_management_bp.route("/register", methods=["GET", "POST"])
def register() -> ResponseReturnValue:
    """Let anybody register; the account waits for an e-mail to be verified."""
    if request.method == "POST":
        form = request.form
        user = User(
            username=form["username"], email=form["email"], role=UserRole.VIEWER, is_active=True
        )
        user.set_password(form["password"])
        user.generate_email_verification_token()
        with db_manager().get_session() as db:
            taken = (User.username == user.username, User.email == user.email)
            if db.query(User).filter(or_(*taken)).first() is None:
                db.add(user)
                db.commit()
                return redirect(url_for("user_management.login"))
        flash("Username or email already taken")
    return render_template("register.html")


@user_management_bp.route("/verify-email/<token>")
def verify_email(token: str) -> ResponseReturnValue:
    """Verify an address by the token that was mailed."""
    with db_manager().get_session() as db:
        user = db.query(User).filter_by(email_verification_token=token).first()
        if user is not None:
            user.email_verified = True
            user.email_verification_token = None
            db.commit()
    return redirect(url_for("user_management.login"))


@user_management_bp.route("/forgot-password", methods=["GET", "POST"])
def forgot_password() -> ResponseReturnValue:
    """Say the same whether or not the account exists."""
    if request.method == "POST":
        flash("If the account exists, a message was sent")
    return render_template("forgot_password.html")


@user_management_bp.get("/profile")
@login_required
def profile() -> ResponseReturnValue:
    """Show the own account."""
    return render_template("profile.html", user=current_user)
