"""Cookie flags and fallback keys, which the application parses or lacks but never applies."""

from __future__ import annotations

import functools
import sys
import typing as t

from vedfolnir_adapter.settings import Settings


def cookie_config(settings: Settings) -> dict[str, t.Any]:
    """Return the Flask and Flask-Login options of both cookies."""
    config: dict[str, t.Any] = {"SECRET_KEY_FALLBACKS": settings.fallback_keys}
    for cookie in ("SESSION_COOKIE", "REMEMBER_COOKIE"):
        config[f"{cookie}_SECURE"] = settings.cookie_secure
        config[f"{cookie}_HTTPONLY"] = True
        config[f"{cookie}_SAMESITE"] = settings.cookie_samesite
    return config


def _accept_remember_cookies(fallback_keys: t.Sequence[str]) -> None:
    """Let Flask-Login verify a remember cookie with an earlier key and sign it anew."""
    from flask import session
    from flask_login import login_manager, utils

    original = utils.decode_cookie

    @functools.wraps(original)
    def decode(cookie: str, key: str | None = None) -> str | None:
        user_id: str | None = original(cookie, key)
        if user_id is not None or key is not None:
            return user_id
        for fallback in fallback_keys:
            user_id = original(cookie, fallback)
            if user_id is not None:
                session["_remember"] = "set"
                return user_id
        return None

    utils.decode_cookie = decode
    login_manager.decode_cookie = decode


def _accept_form_tokens(fallback_keys: t.Sequence[str]) -> None:
    """Let Flask-WTF verify the token of a form that an earlier key signed.

    Flask keeps the session itself readable by SECRET_KEY_FALLBACKS; Flask-WTF signs with the
    present key only, and a form that was open during a rotation would be refused.
    """
    if "flask_wtf.csrf" not in sys.modules:
        return  # the application is imported by now and does not use it
    from flask_wtf import csrf
    from wtforms import ValidationError

    original = csrf.validate_csrf

    @functools.wraps(original)
    def validate(data: t.Any, secret_key: t.Any = None, *args: t.Any, **kwargs: t.Any) -> None:
        try:
            original(data, secret_key, *args, **kwargs)
        except ValidationError:
            if secret_key is not None:
                raise
            for fallback in fallback_keys:
                try:
                    original(data, fallback, *args, **kwargs)
                except ValidationError:
                    continue
                return
            raise

    csrf.validate_csrf = validate


def configure(app: t.Any, settings: Settings) -> None:
    """Apply the options to the imported application."""
    app.config.update(cookie_config(settings))
    if settings.fallback_keys:
        _accept_remember_cookies(settings.fallback_keys)
        _accept_form_tokens(settings.fallback_keys)
