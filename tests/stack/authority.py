"""A certificate authority of the tests, and what certificate the site shows."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from lab import Lab

_DAYS = datetime.timedelta(days=30)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


class Authority:
    """An authority that exists as long as the test."""

    def __init__(self, name: str) -> None:
        """Make its key and its own certificate."""
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        builder = self._builder(self._name, self._key.public_key())
        authority = x509.BasicConstraints(ca=True, path_length=0)
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        self._certificate = (
            builder.add_extension(authority, critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = _pem(self._certificate)
        """What clients trust, in PEM form."""

    def issue(self, *names: str) -> tuple[str, str]:
        """Return a server's certificate and key for names and addresses, in PEM form."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_name(names[0]), key.public_key())
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        certificate = builder.add_extension(alternatives, critical=False).sign(
            self._key, hashes.SHA256()
        )
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return _pem(certificate), private.decode()

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        issuer = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + _DAYS)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer),
                critical=False,
            )
        )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def shown(lab: Lab, authorities: str | None = None) -> str:
    """Return the certificate that the site shows to a browser, in PEM form.

    With authorities (PEM) the handshake fails unless one of them vouches for the site's name.
    """
    context = ssl.create_default_context(cadata=authorities)
    if authorities is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    name = str(lab.variables["stack_domain"])
    address = ("127.0.0.1", lab.port(443))
    with (
        socket.create_connection(address, timeout=30) as connection,
        context.wrap_socket(connection, server_hostname=name) as secured,
    ):
        certificate = secured.getpeercert(binary_form=True)
    assert certificate
    return ssl.DER_cert_to_PEM_cert(certificate)
