"""Further keys during a rotation: what is encrypted, and the tokens of open forms."""

from __future__ import annotations

import subprocess
import textwrap
from pathlib import Path

import pytest
from cryptography import fernet
from vedfolnir_adapter import fernet_patch

ROOT = Path(__file__).resolve().parents[2]
CURRENT, NEXT, OTHER = (fernet.Fernet.generate_key().decode() for _index in range(3))


def test_every_key_of_the_ring_opens() -> None:
    ring = fernet_patch.keyring(CURRENT, [NEXT])
    for key in (CURRENT, NEXT):
        token = fernet.Fernet(key).encrypt(b"token")
        assert ring(CURRENT.encode()).decrypt(token) == b"token"
        assert ring(CURRENT).decrypt(token.decode(), ttl=60) == b"token"


def test_what_is_written_is_under_the_present_key() -> None:
    token = fernet_patch.keyring(CURRENT, [NEXT])(CURRENT).encrypt(b"token")
    assert fernet.Fernet(CURRENT).decrypt(token) == b"token"


def test_a_foreign_token_is_refused() -> None:
    token = fernet.Fernet(OTHER).encrypt(b"token")
    with pytest.raises(fernet.InvalidToken):
        fernet_patch.keyring(CURRENT, [NEXT])(CURRENT).decrypt(token)


def test_another_key_of_the_application_keeps_its_meaning() -> None:
    token = fernet.Fernet(NEXT).encrypt(b"token")
    with pytest.raises(fernet.InvalidToken):
        fernet_patch.keyring(CURRENT, [NEXT])(OTHER).decrypt(token)


def test_without_further_keys_nothing_is_replaced() -> None:
    before = fernet.Fernet
    fernet_patch.install(CURRENT, [])
    assert fernet.Fernet is before


def test_a_form_signed_by_an_earlier_key_is_accepted(python: str) -> None:
    """With the Flask-WTF of the image, in an environment of its own."""
    program = textwrap.dedent("""
        from types import SimpleNamespace
        from flask import Flask
        from flask_wtf import csrf
        from wtforms import ValidationError
        from vedfolnir_adapter import flask_patch

        def application(key):
            app = Flask("probe")
            app.secret_key = key
            return app

        with application("old-key").test_request_context() as context:
            token = csrf.generate_csrf()
            raw = context.session["csrf_token"]

        def accepted(fallbacks):
            settings = SimpleNamespace(
                fallback_keys=fallbacks, cookie_secure=True, cookie_samesite="Lax")
            app = application("new-key")
            flask_patch.configure(app, settings)
            with app.test_request_context() as context:
                context.session["csrf_token"] = raw
                try:
                    csrf.validate_csrf(token)
                except ValidationError:
                    return False
            return True

        assert not accepted([]), "an unknown key was accepted"
        assert not accepted(["another-key"]), "a wrong key was accepted"
        assert accepted(["another-key", "old-key"]), "the earlier key was refused"
    """)
    subprocess.run([python, "-c", program], check=True, env={"PYTHONPATH": str(ROOT / "files/app")})
