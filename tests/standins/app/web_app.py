"""Entry point: ``gunicorn --config gunicorn.conf.py web_app:app``. Importing it does it all."""

from __future__ import annotations

from pathlib import Path

from dotenv import load_dotenv

load_dotenv(Path.cwd() / ".env")

from app.core import security_headers  # noqa: E402
from app.core.database.core.database_manager import DatabaseManager  # noqa: E402
from app.core.log_setup import configure_logging  # noqa: E402
from app.core.session import redis_backend  # noqa: E402
from config import Config  # noqa: E402
from flask import Flask  # noqa: E402
from flask_cors import CORS  # noqa: E402
from flask_login import LoginManager  # noqa: E402
from flask_socketio import SocketIO  # noqa: E402
from models import User  # noqa: E402
from standin import missing_module, switches  # noqa: E402
from werkzeug.middleware.proxy_fix import ProxyFix  # noqa: E402

config = Config()
logger = configure_logging(config.storage.logs_dir)

app = Flask(__name__)
app.config["SECRET_KEY"] = config.webapp.secret_key
app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1)  # type: ignore[method-assign]
CORS(app, origins=["http://localhost:5000"], supports_credentials=True)
security_headers.install(app)

db_manager = DatabaseManager(config)
app.config["db_manager"] = db_manager

_client = redis_backend.connect()
if _client is not None:
    app.config["redis_backend"] = redis_backend.RedisSessionBackend(_client)
    app.config["redis_platform_manager"] = redis_backend.RedisPlatformManager(_client, db_manager)

login_manager = LoginManager(app)
login_manager.login_view = "user_management.login"


@login_manager.user_loader  # type: ignore[untyped-decorator]
def load_user(user_id: str) -> User | None:
    """Return the user of a signed cookie; Redis is not asked."""
    with db_manager.get_session() as session:
        user = session.get(User, int(user_id))
        if user is not None:
            session.expunge(user)
        return user if user is not None and user.is_active else None


if switches.provide_missing_module():
    missing_module.provide()

from app.blueprints.admin import admin_bp  # noqa: E402
from app.blueprints.api.caption_review import caption_review_bp  # noqa: E402
from app.blueprints.api.routes import api_bp  # noqa: E402
from app.blueprints.auth.profile_data import profile_data_bp  # noqa: E402
from app.blueprints.auth.user_management_routes import user_management_bp  # noqa: E402
from app.blueprints.caption.routes import caption_bp  # noqa: E402
from app.blueprints.gdpr.routes import gdpr_bp  # noqa: E402
from app.blueprints.main.health_routes import health_bp  # noqa: E402
from app.blueprints.main.routes import main_bp  # noqa: E402
from app.blueprints.platform.routes import platform_bp  # noqa: E402
from app.blueprints.static.routes import static_bp  # noqa: E402

for _blueprint in (
    main_bp,
    health_bp,
    user_management_bp,
    profile_data_bp,
    admin_bp,
    api_bp,
    caption_review_bp,
    platform_bp,
    caption_bp,
    gdpr_bp,
    static_bp,
):
    app.register_blueprint(_blueprint)

import eventlet  # noqa: E402

# Late, after nearly everything was imported, and in the gunicorn master: as upstream has it. With
# "os" patched the master would die of its first signal, which the real one was seen to survive.
eventlet.monkey_patch(os=False)

# Fixed in the source: no setting changes which origins may connect.
socketio = SocketIO(
    app,
    cors_allowed_origins=[
        "http://localhost:5000",
        "http://127.0.0.1:5000",
        "http://127.0.0.1:8000",
        "http://38.23.47.127",
        "https://vedfolnir.org",
        "https://www.vedfolnir.org",
    ],
    async_mode="eventlet",
    ping_interval=25,
    ping_timeout=60,
)

from app.websocket.core import consolidated_handlers  # noqa: E402

consolidated_handlers.register(socketio)
print("✅ Vedfolnir web application initialised", flush=True)

if __name__ == "__main__":
    socketio.run(app, host="127.0.0.1", port=5000)
