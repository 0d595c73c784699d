"""Further keys for what the application encrypts; it knows a single one.

While a key is rotated, rows under the old and under the new key exist side by side, and replicas
that write with either.  Upstream answers a failed decryption with None, as if there were no
credential, so every process must be able to open both.
"""

from __future__ import annotations

import typing as t

from cryptography import fernet


def _text(key: bytes | str) -> str:
    return key if isinstance(key, str) else key.decode("ascii", "replace")


def keyring(current: str, others: t.Sequence[str]) -> type[fernet.Fernet]:
    """Return a Fernet class that, for the application's own key, opens what `others` encrypted.

    Encryption always uses the key given, and any other key keeps its meaning.
    """

    class KeyringFernet(fernet.Fernet):
        """Fernet with further keys for decryption."""

        def __init__(self, key: bytes | str, backend: t.Any = None) -> None:
            super().__init__(key, backend)
            self._key = _text(key)

        def decrypt(self, token: bytes | str, ttl: int | None = None) -> bytes:
            try:
                return super().decrypt(token, ttl)
            except fernet.InvalidToken:
                if self._key != current:
                    raise
            return fernet.MultiFernet([fernet.Fernet(key) for key in others]).decrypt(token, ttl)

    return KeyringFernet


def install(current: str, others: t.Sequence[str]) -> None:
    """Replace the class before the application imports it; nothing to do without further keys."""
    if others:
        setattr(fernet, "Fernet", keyring(current, others))  # noqa: B010 - a class, not a value
