"""not-a-secret-marker: this directory must never reach an image layer."""


def test_nothing() -> None:
    """Exist."""
