"""Create the first administrator interactively; prints the generated password."""

from __future__ import annotations

import secrets

from app.core.database.core.database_manager import DatabaseManager
from config import Config
from models import User, UserRole


def main() -> None:
    """Ask for name and address and create or update the account."""
    db_manager = DatabaseManager(Config())
    username = input("Admin username [admin]: ") or "admin"
    email = input("Admin email [admin@example.com]: ") or "admin@example.com"
    with db_manager.get_session() as session:
        user = session.query(User).filter_by(username=username).first()
        if user is not None and input(f"Update '{username}'? (y/N): ").lower() != "y":
            return
        password = secrets.token_urlsafe(18)
        user = user or User(username=username)
        user.email = email
        user.role = UserRole.ADMIN
        user.is_active = user.email_verified = True
        user.set_password(password)
        session.add(user)
        session.commit()
    print(f"Admin user '{username}' ready, password: {password}")


if __name__ == "__main__":
    main()
