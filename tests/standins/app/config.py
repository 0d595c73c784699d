"""Configuration from the environment; a ``.env`` in the working directory beats it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from dotenv import load_dotenv

# Upstream lets the file win over real variables, and so must the stand-in.
load_dotenv(Path.cwd() / ".env", override=True)


class ConfigurationError(Exception):
    """A setting that the application cannot start without is missing."""


def _on(name: str, default: str = "false") -> bool:
    return os.getenv(name, default).lower() == "true"


def _default_database_url() -> str:
    host, password = "localhost", "vedfolnir_password"
    if _on("DOCKER_DEPLOYMENT"):
        host, password = "mysql", os.getenv("MYSQL_PASSWORD", password)
    return f"mysql+pymysql://vedfolnir_user:{password}@{host}/vedfolnir?charset=utf8mb4"


@dataclass
class DatabaseConfig:
    """Pool settings: read, required to be numbers, and without effect (NullPool)."""

    pool_size: int = field(default_factory=lambda: int(os.getenv("DB_POOL_SIZE", "20")))
    max_overflow: int = field(default_factory=lambda: int(os.getenv("DB_MAX_OVERFLOW", "50")))
    pool_timeout: int = field(default_factory=lambda: int(os.getenv("DB_POOL_TIMEOUT", "30")))
    pool_recycle: int = field(default_factory=lambda: int(os.getenv("DB_POOL_RECYCLE", "3600")))
    query_logging: bool = field(default_factory=lambda: _on("DB_QUERY_LOGGING"))


@dataclass
class StorageConfig:
    """Where data lives."""

    base_dir: str = field(default_factory=lambda: os.getenv("STORAGE_BASE_DIR", "storage"))
    images_dir: str = field(
        default_factory=lambda: os.getenv("STORAGE_IMAGES_DIR", "storage/images")
    )
    logs_dir: str = field(default_factory=lambda: os.getenv("LOGS_DIR", "logs"))
    database_url: str = field(
        default_factory=lambda: os.getenv("DATABASE_URL") or _default_database_url()
    )
    db_config: DatabaseConfig = field(default_factory=DatabaseConfig)

    def __post_init__(self) -> None:
        """Create the directories; a wrong owner fails here, as it does upstream."""
        for directory in (self.base_dir, self.images_dir, self.logs_dir):
            Path(directory).mkdir(parents=True, exist_ok=True)


@dataclass
class OllamaConfig:
    """How to reach the model."""

    url: str = field(default_factory=lambda: os.getenv("OLLAMA_URL", "http://localhost:11434"))
    model_name: str = field(default_factory=lambda: os.getenv("OLLAMA_MODEL", "llava:7b"))
    timeout: float = field(default_factory=lambda: float(os.getenv("OLLAMA_TIMEOUT", "60.0")))
    context_size: int = field(
        default_factory=lambda: int(os.getenv("OLLAMA_MODEL_CONTEXT", "4096"))
    )
    backup_model: str | None = field(
        default_factory=lambda: (
            os.getenv("FALLBACK_BACKUP_MODEL", "llava:13b-v1.6")
            if _on("FALLBACK_ENABLED", "true")
            else None
        )
    )


@dataclass
class RetryConfig:
    """How often and how patiently calls to a platform are repeated."""

    max_attempts: int = field(default_factory=lambda: int(os.getenv("RETRY_MAX_ATTEMPTS", "3")))
    base_delay: float = field(default_factory=lambda: float(os.getenv("RETRY_BASE_DELAY", "1.0")))
    max_delay: float = field(default_factory=lambda: float(os.getenv("RETRY_MAX_DELAY", "30.0")))
    backoff_factor: float = field(
        default_factory=lambda: float(os.getenv("RETRY_BACKOFF_FACTOR", "2.0"))
    )


def _secret_key() -> str:
    # Only this name is read: a FLASK_SECRET_KEY_FILE is ignored.
    key = os.getenv("FLASK_SECRET_KEY")
    if not key:
        msg = "FLASK_SECRET_KEY environment variable is required"
        raise ConfigurationError(msg)
    return key


@dataclass
class WebAppConfig:
    """Settings of the web process."""

    secret_key: str = field(default_factory=_secret_key)


@dataclass
class Config:
    """All settings."""

    webapp: WebAppConfig = field(default_factory=WebAppConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    ollama: OllamaConfig = field(default_factory=OllamaConfig)
    retry: RetryConfig = field(default_factory=RetryConfig)
    max_posts_per_run: int = field(
        default_factory=lambda: int(os.getenv("MAX_POSTS_PER_RUN", "50"))
    )
    user_processing_delay: float = field(
        default_factory=lambda: float(os.getenv("USER_PROCESSING_DELAY", "5"))
    )
