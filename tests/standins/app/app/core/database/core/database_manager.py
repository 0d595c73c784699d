"""The database: engine, schema creation at every start, sessions."""

from __future__ import annotations

import logging

import sqlalchemy as sa
from config import Config
from models import Base
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import NullPool

logger = logging.getLogger(__name__)

_SQL_MODE = "STRICT_TRANS_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO"
# MariaDB syntax; Oracle MySQL refuses it and upstream does not care.
_INDEXES = (
    "CREATE INDEX IF NOT EXISTS idx_posts_created_at ON posts(created_at)",
    "CREATE INDEX IF NOT EXISTS idx_images_status ON images(status)",
    "CREATE INDEX IF NOT EXISTS idx_users_created_at ON users(created_at)",
)


class DatabaseOperationError(Exception):
    """The database cannot be used as configured."""


class DatabaseManager:
    """Opens connections without a pool and creates what is missing of the schema."""

    def __init__(self, config: Config) -> None:
        self.config = config
        url = config.storage.database_url
        if not url.startswith("mysql+pymysql://"):
            scheme = url.partition("://")[0]
            msg = f"Invalid database URL: it must start with mysql+pymysql://, not {scheme}://"
            raise DatabaseOperationError(msg)
        self.engine = sa.create_engine(
            url,
            poolclass=NullPool,
            pool_pre_ping=True,
            connect_args={
                "charset": "utf8mb4",
                "connect_timeout": 60,
                "read_timeout": 60,
                "write_timeout": 60,
                "sql_mode": _SQL_MODE,
            },
        )
        self.SessionFactory = sessionmaker(bind=self.engine)
        self.create_tables()

    def create_tables(self) -> None:
        """Create the missing tables (existing ones are never altered) and some indexes."""
        try:
            Base.metadata.create_all(self.engine)
        except sa.exc.SQLAlchemyError as exc:
            msg = f"Failed to create MySQL database tables: {exc}"
            raise DatabaseOperationError(msg) from exc
        self._create_indexes()

    def _create_indexes(self) -> None:
        with self.engine.connect() as connection:
            for statement in _INDEXES:
                try:
                    connection.execute(sa.text(statement))
                except sa.exc.SQLAlchemyError:
                    logger.debug("Index skipped: %s", statement)

    def get_session(self) -> Session:
        """Return a new session; it is also a context manager."""
        return self.SessionFactory()

    def close_session(self, session: Session) -> None:
        """Close a session."""
        session.close()

    def test_connection(self) -> tuple[bool, str]:
        """Return whether a query works, and a sentence about it."""
        try:
            with self.engine.connect() as connection:
                connection.execute(sa.text("SELECT 1"))
        except sa.exc.SQLAlchemyError as exc:
            return False, f"Database connection failed: {type(exc).__name__}"
        return True, "Database connection successful"
