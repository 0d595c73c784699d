from __future__ import annotations

import os
import socket
import ssl
import threading
import typing as t
from pathlib import Path

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import secrets as provider
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_tls as tls

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="the files belong to other users")


@pytest.fixture
def certificate(tmp_path: Path) -> tls.Certificate:
    return tls.Certificate(str(tmp_path / "vault"), ["vault", "127.0.0.1"], 100, 1000)


def names(changed: list[str]) -> list[str]:
    return [Path(path).name for path in changed]


def test_check_do_check_do(certificate: tls.Certificate) -> None:
    results = [names(certificate.ensure(check)) for check in (True, False, True, False)]
    assert results == [
        ["ca.pem", "ca.key", "server.pem", "server.key"],
        ["ca.pem", "ca.key", "server.pem", "server.key", "ca.pem"],
        [],
        [],
    ]
    key = Path(certificate.served).with_suffix(".key").stat()
    assert (key.st_uid, key.st_gid, key.st_mode & 0o777) == (100, 1000, 0o400)
    authority = Path(certificate.directory, "ca.key").stat()
    assert (authority.st_uid, authority.st_mode & 0o777) == (0, 0o400)
    assert Path(certificate.directory).stat().st_mode & 0o777 == 0o700


def test_a_new_name_renews_the_certificate_and_keeps_the_authority(
    certificate: tls.Certificate,
) -> None:
    certificate.ensure()
    more = tls.Certificate(certificate.directory, ["vault", "10.0.0.1"], 100, 1000)
    assert names(more.ensure(check=True)) == ["server.pem", "server.key"]
    assert names(more.ensure()) == ["server.pem", "server.key"]
    assert more.ensure() == []


def test_a_certificate_that_ends_soon_is_renewed(
    certificate: tls.Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "LEAF_DAYS", provider.RENEW_DAYS - 1)
    certificate.ensure()
    monkeypatch.undo()
    assert names(certificate.ensure()) == ["server.pem", "server.key"]
    assert certificate.ensure() == []


def test_without_its_key_the_authority_is_made_anew(certificate: tls.Certificate) -> None:
    certificate.ensure()
    Path(certificate.directory, "ca.key").unlink()
    assert len(certificate.ensure()) == 5


def test_damage_is_named(certificate: tls.Certificate) -> None:
    certificate.ensure()
    Path(certificate.served).write_text("nonsense")
    with pytest.raises(provider.SecretError, match=r"server.pem: the certificate or its"):
        certificate.ensure()


@pytest.fixture
def serving(certificate: tls.Certificate) -> t.Iterator[int]:
    """Present the certificate on a port."""
    certificate.ensure()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.served, str(Path(certificate.served).with_suffix(".key")))
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _address = listener.accept()
                context.wrap_socket(connection, server_side=True).close()
            except ssl.SSLError:
                continue
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    yield int(listener.getsockname()[1])
    listener.close()


def test_a_server_with_an_older_certificate_is_noticed(
    certificate: tls.Certificate, serving: int, closed_port: int
) -> None:
    assert tls.is_served("127.0.0.1", serving, certificate.served)
    renewed = tls.Certificate(certificate.directory, ["vault"], 100, 1000)
    renewed.ensure()
    assert not tls.is_served("127.0.0.1", serving, renewed.served)
    assert tls.is_served("127.0.0.1", closed_port, renewed.served)
