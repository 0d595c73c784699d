from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from vedfolnir_adapter import settings

FERNET = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
GOOD = {
    "flask_secret_key": "0123456789abcdef0123",
    "platform_encryption_key": FERNET,
    "mysql_password": "p@ss/w:rd",
    "redis_password": "r#dis?",
    "ca.pem": "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----",
}


def load(directory: Path, files: dict[str, str] | None = None, **environ: str) -> settings.Settings:
    for name, value in (GOOD if files is None else files).items():
        (directory / name).write_text(f"{value}\n")
    return settings.load({"VEDFOLNIR_SECRETS_DIR": str(directory), **environ}, directory)


def test_urls_quote_passwords_and_name_the_acl_user(tmp_path: Path) -> None:
    found = load(tmp_path, MYSQL_USER="app", REDIS_USER="web", REDIS_DB="3")
    assert found.database_url == (
        "mysql+pymysql://app:p%40ss%2Fw%3Ard@mysql:3306/vedfolnir?charset=utf8mb4"
        f"&ssl_ca={tmp_path}/ca.pem"
    )
    assert found.redis_url == "redis://web:r%23dis%3F@redis:6379/3"
    environ = {"RQ_ENABLE_INTEGRATED_WORKERS": "true", "HOME": "/tmp"}
    found.export(environ)
    assert environ["RQ_ENABLE_INTEGRATED_WORKERS"] == "false"
    assert set(settings.clean_environment(environ)) == {"RQ_ENABLE_INTEGRATED_WORKERS", "HOME"}


def test_all_problems_are_named_at_once_and_no_value_is_shown(tmp_path: Path) -> None:
    files = {
        "flask_secret_key": "tooshort",
        "platform_encryption_key": FERNET.rstrip("="),
        "mysql_password": "",
        "mail_password": "two\nlines",
        "ca.pem": "no certificate",
    }
    (tmp_path / ".env").write_text("A=1")
    with pytest.raises(settings.SettingsError) as caught:
        load(
            tmp_path,
            files,
            MYSQL_PORT="many",
            VEDFOLNIR_ALLOWED_ORIGINS="https://ok.example,*,example.org/x",
            VEDFOLNIR_WORKER_MODE="thread",
        )
    origin = "VEDFOLNIR_ALLOWED_ORIGINS must list origins such as https://example.org"
    assert sorted(caught.value.problems) == sorted(
        [
            f"{tmp_path}/.env exists and would override the settings; remove it",
            f"{tmp_path}/flask_secret_key is shorter than 16 characters",
            f"{tmp_path}/platform_encryption_key is not a Fernet key"
            " (44 characters of url-safe base64)",
            f"{tmp_path}/mysql_password is empty",
            f"{tmp_path}/redis_password is missing",
            f"{tmp_path}/mail_password has more than one line",
            f"{tmp_path}/ca.pem holds no PEM certificate",
            "MYSQL_PORT must be a whole number",
            origin,
            origin,
            "VEDFOLNIR_WORKER_MODE must be one of none, integrated, polling, rq",
        ]
    )
    assert str(caught.value).startswith("cannot start, 11 problems: ")
    for value in ("tooshort", FERNET.rstrip("="), "two"):
        assert value not in str(caught.value).replace(str(tmp_path), "")


def test_fallback_keys_are_one_a_line(tmp_path: Path) -> None:
    found = load(tmp_path, {**GOOD, "flask_secret_key_fallbacks": "older-key-1\n\nolder-key-2"})
    assert found.fallback_keys == ["older-key-1", "older-key-2"]
    assert {"older-key-1", "older-key-2", FERNET} <= set(found.secret_values)


def test_encryption_fallback_keys_are_one_a_line_and_secret(tmp_path: Path) -> None:
    found = load(tmp_path, {**GOOD, "platform_encryption_key_fallbacks": "next-key\n"})
    assert found.encryption_fallback_keys == ["next-key"]
    assert "next-key" in found.secret_values


def test_empty_files_of_fallback_keys_are_none(tmp_path: Path) -> None:
    names = ("flask_secret_key_fallbacks", "platform_encryption_key_fallbacks")
    found = load(tmp_path, {**GOOD, **dict.fromkeys(names, "")})
    assert found.fallback_keys == found.encryption_fallback_keys == []


@pytest.mark.parametrize(
    ("value", "expected"), [("", True), ("true", True), ("false", False), ("FALSE", False)]
)
def test_cookie_flag(tmp_path: Path, value: str, expected: bool) -> None:
    assert load(tmp_path, VEDFOLNIR_COOKIE_SECURE=value).cookie_secure is expected


def test_without_tls_no_authority_is_needed(tmp_path: Path) -> None:
    files = {name: value for name, value in GOOD.items() if name != "ca.pem"}
    assert "ssl_ca" not in load(tmp_path, files, VEDFOLNIR_MYSQL_TLS="false").database_url


def test_settings_never_print_their_secrets(tmp_path: Path) -> None:
    text: t.Any = repr(load(tmp_path))
    assert all(value not in text for name, value in GOOD.items() if name != "ca.pem")


def test_a_start_with_bad_secrets_logs_one_line_and_ends_with_code_2(stack: t.Any) -> None:
    (stack.secrets / "redis_password").unlink()
    done = stack.run("vedfolnir_adapter.serve")
    assert done.returncode == 2
    (line,) = (done.stdout + done.stderr).splitlines()
    import json

    assert json.loads(line)["message"] == (
        f"cannot start, 1 problem: {stack.secrets}/redis_password is missing"
    )
