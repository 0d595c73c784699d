"""Read the secret files and the non-secret environment, all problems at once.

The application reads secrets from its environment only.  This module reads them from files,
checks their shape and hands the application the variables it knows.  No message contains a
value of a secret.
"""

from __future__ import annotations

import base64
import binascii
import os
import typing as t
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

Environ = t.MutableMapping[str, str]
Check = t.Callable[[str], str | None]

EXIT_SETTINGS = 2
DEFAULT_SECRETS_DIR = "/run/secrets"
FERNET_BYTES = 32
MIN_FLASK_KEY = 16


class SettingsError(Exception):
    """Every problem with secrets and settings, one per line."""

    def __init__(self, problems: t.Sequence[str]) -> None:
        """Keep the list of problems and join them into one message."""
        self.problems = list(problems)
        count = f"{len(self.problems)} problem{'s' if len(self.problems) != 1 else ''}"
        super().__init__(f"cannot start, {count}: " + "; ".join(self.problems))


def _any(_value: str) -> str | None:
    return None


def _flask_key(value: str) -> str | None:
    if len(value) < MIN_FLASK_KEY:
        return f"is shorter than {MIN_FLASK_KEY} characters"
    return None


def _fernet_key(value: str) -> str | None:
    try:
        size = len(base64.b64decode(value.encode(), altchars=b"-_", validate=True))
    except (binascii.Error, UnicodeEncodeError, ValueError):
        size = 0
    if size != FERNET_BYTES:
        return "is not a Fernet key (44 characters of url-safe base64)"
    return None


def _certificate(value: str) -> str | None:
    return None if "-----BEGIN CERTIFICATE-----" in value else "holds no PEM certificate"


@dataclass(frozen=True)
class SecretFile:
    """One file below the secrets directory."""

    name: str
    check: Check = _any
    required: bool = True
    single_line: bool = True
    secret: bool = True


SECRET_FILES: t.Final = (
    SecretFile("flask_secret_key", _flask_key),
    SecretFile("flask_secret_key_fallbacks", required=False, single_line=False),
    SecretFile("platform_encryption_key", _fernet_key),
    SecretFile("platform_encryption_key_fallbacks", required=False, single_line=False),
    SecretFile("mysql_password"),
    SecretFile("redis_password"),
    SecretFile("mail_password", required=False),
    SecretFile("ca.pem", _certificate, single_line=False, secret=False),
)


@dataclass(frozen=True)
class Settings:
    """Everything the adapter knows, secrets included; never print it."""

    mysql_host: str
    mysql_port: int
    mysql_database: str
    mysql_user: str
    redis_host: str
    redis_port: int
    redis_user: str
    redis_db: int
    ca_file: str | None
    allowed_origins: tuple[str, ...]
    cookie_secure: bool
    cookie_samesite: str
    worker_mode: str
    secrets: t.Mapping[str, str] = field(repr=False)

    @property
    def database_url(self) -> str:
        """The URL in the form the application insists on."""
        password = quote(self.secrets["mysql_password"], safe="")
        url = (
            f"mysql+pymysql://{quote(self.mysql_user, safe='')}:{password}"
            f"@{self.mysql_host}:{self.mysql_port}/{self.mysql_database}?charset=utf8mb4"
        )
        return f"{url}&ssl_ca={self.ca_file}" if self.ca_file else url

    @property
    def redis_url(self) -> str:
        """The URL with the ACL user and the database number."""
        password = quote(self.secrets["redis_password"], safe="")
        return (
            f"redis://{quote(self.redis_user, safe='')}:{password}"
            f"@{self.redis_host}:{self.redis_port}/{self.redis_db}"
        )

    def _lines(self, name: str) -> list[str]:
        return [line.strip() for line in self.secrets.get(name, "").splitlines() if line.strip()]

    @property
    def fallback_keys(self) -> list[str]:
        """Further Flask keys that verify what is signed: earlier ones, or the next."""
        return self._lines("flask_secret_key_fallbacks")

    @property
    def encryption_fallback_keys(self) -> list[str]:
        """Further Fernet keys that open what is encrypted: the earlier one, or the next."""
        return self._lines("platform_encryption_key_fallbacks")

    @property
    def secret_values(self) -> list[str]:
        """Every value that must never appear in a log."""
        secret_names = {item.name for item in SECRET_FILES if item.secret}
        values = [v for name, v in self.secrets.items() if name in secret_names]
        singles = [value for value in values if "\n" not in value]
        return [*singles, *self.fallback_keys, *self.encryption_fallback_keys]

    def export(self, environ: Environ) -> None:
        """Set what the application reads from its environment."""
        environ["FLASK_SECRET_KEY"] = self.secrets["flask_secret_key"]
        environ["PLATFORM_ENCRYPTION_KEY"] = self.secrets["platform_encryption_key"]
        environ["DATABASE_URL"] = self.database_url
        environ["REDIS_URL"] = self.redis_url
        environ["REDIS_PASSWORD"] = self.secrets["redis_password"]
        if self.secrets.get("mail_password"):
            environ["MAIL_PASSWORD"] = self.secrets["mail_password"]
        # `true` makes /health answer 503 forever with the present revision.
        environ["RQ_ENABLE_INTEGRATED_WORKERS"] = "false"


#: Variables of `Settings.export` that hold a secret; children must not inherit them.
SECRET_VARIABLES: t.Final = (
    "FLASK_SECRET_KEY",
    "PLATFORM_ENCRYPTION_KEY",
    "DATABASE_URL",
    "REDIS_URL",
    "REDIS_PASSWORD",
    "MAIL_PASSWORD",
)


def clean_environment(environ: t.Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a child process, which reads the files itself."""
    return {name: value for name, value in environ.items() if name not in SECRET_VARIABLES}


def _read_secret(directory: Path, item: SecretFile, problems: list[str]) -> str | None:
    path = directory / item.name
    try:
        value = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        if item.required:
            problems.append(f"{path} is missing")
        return None
    except (OSError, UnicodeDecodeError) as exc:
        problems.append(f"{path} cannot be read ({type(exc).__name__})")
        return None
    fault = "is empty" if not value and item.required else None
    if value and item.single_line and "\n" in value:
        fault = "has more than one line"
    if value and not fault:
        fault = item.check(value)
    if fault:
        problems.append(f"{path} {fault}")
        return None
    return value


def _number(environ: t.Mapping[str, str], name: str, default: int, problems: list[str]) -> int:
    text = environ.get(name, "") or str(default)
    if not text.isdecimal():
        problems.append(f"{name} must be a whole number")
        return default
    return int(text)


def _choice(
    environ: t.Mapping[str, str], name: str, choices: tuple[str, ...], problems: list[str]
) -> str:
    value = environ.get(name, "") or choices[0]
    if value.lower() in choices:
        return value.lower()
    problems.append(f"{name} must be one of {', '.join(choices)}")
    return choices[0]


def _origins(environ: t.Mapping[str, str], problems: list[str]) -> tuple[str, ...]:
    found = []
    for origin in environ.get("VEDFOLNIR_ALLOWED_ORIGINS", "").split(","):
        text = origin.strip().rstrip("/")
        if not text:
            continue
        if not text.startswith(("http://", "https://")) or text.count("/") != 2:
            problems.append(
                "VEDFOLNIR_ALLOWED_ORIGINS must list origins such as https://example.org"
            )
            continue
        found.append(text)
    return tuple(found)


def load(
    environ: t.Mapping[str, str] | None = None,
    app_dir: Path | None = None,
    only: t.Container[str] | None = None,
) -> Settings:
    """Read all settings, or raise one `SettingsError` that names every problem.

    With `only` the other secret files are not looked at: a process that has fewer secrets.
    """
    env = os.environ if environ is None else environ
    problems: list[str] = []
    directory = Path(env.get("VEDFOLNIR_SECRETS_DIR") or DEFAULT_SECRETS_DIR)
    tls = _choice(env, "VEDFOLNIR_MYSQL_TLS", ("true", "false"), problems) == "true"
    dotenv = (app_dir or Path.cwd()) / ".env"
    if dotenv.exists():
        problems.append(f"{dotenv} exists and would override the settings; remove it")
    secrets: dict[str, str] = {}
    for item in SECRET_FILES:
        if (item.name == "ca.pem" and not tls) or (only is not None and item.name not in only):
            continue
        value = _read_secret(directory, item, problems)
        if value is not None:
            secrets[item.name] = value
    settings = Settings(
        mysql_host=env.get("MYSQL_HOST") or "mysql",
        mysql_port=_number(env, "MYSQL_PORT", 3306, problems),
        mysql_database=env.get("MYSQL_DATABASE") or "vedfolnir",
        mysql_user=env.get("MYSQL_USER") or "vedfolnir",
        redis_host=env.get("REDIS_HOST") or "redis",
        redis_port=_number(env, "REDIS_PORT", 6379, problems),
        redis_user=env.get("REDIS_USER") or "vedfolnir",
        redis_db=_number(env, "REDIS_DB", 0, problems),
        ca_file=str(directory / "ca.pem") if tls else None,
        allowed_origins=_origins(env, problems),
        cookie_secure=_choice(env, "VEDFOLNIR_COOKIE_SECURE", ("true", "false"), problems)
        == "true",
        cookie_samesite=_choice(
            env, "VEDFOLNIR_COOKIE_SAMESITE", ("lax", "strict", "none"), problems
        ).capitalize(),
        worker_mode=_choice(
            env, "VEDFOLNIR_WORKER_MODE", ("none", "integrated", "polling", "rq"), problems
        ),
        secrets=secrets,
    )
    if problems:
        raise SettingsError(problems)
    return settings
