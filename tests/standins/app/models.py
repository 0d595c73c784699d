"""Database models: the 20 tables of the application and the classes the code works with."""

from __future__ import annotations

import os
import secrets
import typing as t
from datetime import datetime

from cryptography.fernet import Fernet
from flask_login import UserMixin
from sqlalchemy.orm import DeclarativeBase, Mapped
from standin.enums import JobPriority, ProcessingStatus, TaskStatus, UserRole
from standin.tables import build_tables, naive_utc_now
from werkzeug.security import check_password_hash, generate_password_hash

__all__ = [
    "Base",
    "CaptionGenerationTask",
    "Image",
    "JobPriority",
    "PlatformConnection",
    "Post",
    "ProcessingRun",
    "ProcessingStatus",
    "TaskStatus",
    "User",
    "UserAuditLog",
    "UserRole",
    "UserSession",
]

MAX_LOGIN_FAILURES = 5


class Base(DeclarativeBase):
    """Declarative base; its metadata holds all tables."""


_TABLES = build_tables(Base.metadata)


class User(UserMixin, Base):  # type: ignore[misc]
    """An account."""

    __table__ = _TABLES["users"]
    if t.TYPE_CHECKING:
        id: Mapped[int]
        username: Mapped[str]
        email: Mapped[str]
        password_hash: Mapped[str]
        role: Mapped[UserRole]
        is_active: Mapped[bool]
        email_verified: Mapped[bool]
        email_verification_token: Mapped[str | None]
        first_name: Mapped[str | None]
        last_name: Mapped[str | None]
        password_reset_token: Mapped[str | None]
        data_processing_consent: Mapped[bool]
        data_processing_consent_date: Mapped[datetime | None]
        account_locked: Mapped[bool]
        failed_login_attempts: Mapped[int]
        last_failed_login: Mapped[datetime | None]
        last_login: Mapped[datetime | None]
        created_at: Mapped[datetime | None]

        def __init__(self, **kwargs: t.Any) -> None: ...

    def set_password(self, password: str) -> None:
        """Store the scrypt hash of ``password``; no policy is enforced here."""
        self.password_hash = generate_password_hash(password)

    def check_password(self, password: str) -> bool:
        """Return whether ``password`` is the right one."""
        return check_password_hash(self.password_hash, password)

    def can_login(self) -> bool:
        """Return whether the account may log in at all."""
        return bool(self.is_active and self.email_verified and not self.account_locked)

    def record_failed_login(self) -> None:
        """Count a failure; the fifth locks the account until an administrator unlocks it."""
        self.failed_login_attempts = (self.failed_login_attempts or 0) + 1
        self.last_failed_login = naive_utc_now()
        if self.failed_login_attempts >= MAX_LOGIN_FAILURES:
            self.account_locked = True

    def record_successful_login(self) -> None:
        """Forget earlier failures and note the time."""
        self.failed_login_attempts = 0
        self.last_login = naive_utc_now()

    def unlock_account(self) -> None:
        """Let the user log in again."""
        self.account_locked = False
        self.failed_login_attempts = 0

    def generate_email_verification_token(self) -> str:
        """Create, keep (in clear, as upstream does) and return a verification token."""
        token = secrets.token_urlsafe(32)
        self.email_verification_token = token
        return token


def _cipher() -> Fernet:
    return Fernet(os.environ["PLATFORM_ENCRYPTION_KEY"].encode())


def _encrypted(column: str) -> t.Any:
    """Return a property that keeps its value encrypted in the attribute ``column``."""

    def read(self: PlatformConnection) -> str | None:
        stored = getattr(self, column)
        if not stored:
            return None
        try:
            return _cipher().decrypt(stored.encode()).decode()
        except Exception:  # upstream swallows every failure; see the contract, 4.4
            return None

    def write(self: PlatformConnection, value: str | None) -> None:
        setattr(self, column, _cipher().encrypt(value.encode()).decode() if value else None)

    return property(read, write)


class PlatformConnection(Base):
    """A user's account on a platform, with Fernet-encrypted credentials."""

    __table__ = _TABLES["platform_connections"]
    _access_token = __table__.c.access_token
    _client_key = __table__.c.client_key
    _client_secret = __table__.c.client_secret
    if t.TYPE_CHECKING:
        id: Mapped[int]
        user_id: Mapped[int]
        name: Mapped[str]
        platform_type: Mapped[str]
        instance_url: Mapped[str]
        username: Mapped[str | None]
        is_active: Mapped[bool]
        is_default: Mapped[bool]
        created_at: Mapped[datetime | None]
        last_used: Mapped[datetime | None]

    access_token = _encrypted("_access_token")
    client_key = _encrypted("_client_key")
    client_secret = _encrypted("_client_secret")

    def to_cache(self) -> dict[str, t.Any]:
        """Return the dictionary upstream caches in Redis, credentials in clear included."""
        return {
            "id": self.id,
            "user_id": self.user_id,
            "name": self.name,
            "platform_type": self.platform_type,
            "instance_url": self.instance_url,
            "username": self.username,
            "access_token": self.access_token,
            "client_key": self.client_key,
            "client_secret": self.client_secret,
            "is_active": self.is_active,
            "is_default": self.is_default,
        }


class Post(Base):
    """A status of a platform."""

    __table__ = _TABLES["posts"]
    if t.TYPE_CHECKING:
        id: Mapped[int]
        post_id: Mapped[str]
        user_id: Mapped[int]
        post_url: Mapped[str]
        post_content: Mapped[str | None]
        platform_connection_id: Mapped[int | None]
        platform_type: Mapped[str | None]
        instance_url: Mapped[str | None]
        created_at: Mapped[datetime | None]


class Image(Base):
    """An image of a post and the captions proposed for it."""

    __table__ = _TABLES["images"]
    if t.TYPE_CHECKING:
        id: Mapped[int]
        post_id: Mapped[int]
        image_url: Mapped[str]
        local_path: Mapped[str]
        image_post_id: Mapped[str | None]
        platform_connection_id: Mapped[int | None]
        original_caption: Mapped[str | None]
        generated_caption: Mapped[str | None]
        reviewed_caption: Mapped[str | None]
        final_caption: Mapped[str | None]
        status: Mapped[ProcessingStatus]
        created_at: Mapped[datetime | None]
        reviewed_at: Mapped[datetime | None]
        posted_at: Mapped[datetime | None]
        reviewer_notes: Mapped[str | None]
        caption_quality_score: Mapped[int | None]


class ProcessingRun(Base):
    """Figures of one run over one platform connection."""

    __table__ = _TABLES["processing_runs"]
    if t.TYPE_CHECKING:
        id: Mapped[int]
        user_id: Mapped[int]
        batch_id: Mapped[str | None]
        started_at: Mapped[datetime | None]
        completed_at: Mapped[datetime | None]
        posts_processed: Mapped[int]
        images_processed: Mapped[int]
        captions_generated: Mapped[int]
        errors_count: Mapped[int]
        status: Mapped[str | None]
        platform_connection_id: Mapped[int | None]
        platform_type: Mapped[str | None]
        instance_url: Mapped[str | None]


class CaptionGenerationTask(Base):
    """A request of the web interface to caption a user's images."""

    __table__ = _TABLES["caption_generation_tasks"]
    if t.TYPE_CHECKING:
        id: Mapped[str]
        user_id: Mapped[int]
        platform_connection_id: Mapped[int]
        status: Mapped[TaskStatus]
        settings_json: Mapped[str | None]
        created_at: Mapped[datetime | None]
        started_at: Mapped[datetime | None]
        completed_at: Mapped[datetime | None]
        error_message: Mapped[str | None]
        progress_percent: Mapped[int]
        current_step: Mapped[str | None]
        priority: Mapped[JobPriority]
        admin_notes: Mapped[str | None]


class UserAuditLog(Base):
    """What a user did; ``details`` is free text with names and addresses in it."""

    __table__ = _TABLES["user_audit_log"]
    if t.TYPE_CHECKING:
        id: Mapped[int]
        user_id: Mapped[int | None]
        action: Mapped[str]
        details: Mapped[str | None]
        ip_address: Mapped[str | None]
        user_agent: Mapped[str | None]
        created_at: Mapped[datetime | None]


class UserSession(Base):
    """The database mirror of a login; nothing reads it."""

    __table__ = _TABLES["user_sessions"]
    if t.TYPE_CHECKING:
        id: Mapped[int]
        session_id: Mapped[str]
        user_id: Mapped[int]
        expires_at: Mapped[datetime]
