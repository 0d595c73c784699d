"""Real servers for the tests, each on a free loopback port in a temporary directory."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import time
import typing as t
from pathlib import Path

import pymysql
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

MYSQL_PASSWORD = "sql/pa:ss@wo?rd#1"
REDIS_PASSWORD = "redis-pass/word+2"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(check: t.Callable[[], t.Any], seconds: float = 30, what: str = "it") -> t.Any:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError, pymysql.Error):
            found = check()
            if found:
                return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen within {seconds:g} s")
        time.sleep(0.1)


def port_open(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


class Process:
    """A process whose output goes to a file and which is always stopped."""

    def __init__(self, argv: list[str], log: Path, **kwargs: t.Any) -> None:
        self.log = log
        with log.open("ab") as stream:
            self.popen = subprocess.Popen(
                argv, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True, **kwargs
            )

    @property
    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def lines(self) -> list[str]:
        """What it has written as whole lines: the last may be in the middle of being written."""
        return self.output.rpartition("\n")[0].splitlines()

    def running(self) -> bool:
        return self.popen.poll() is None

    def terminate(self, seconds: float = 30) -> int:
        """Send SIGTERM and return the exit code."""
        self.popen.terminate()
        return self.popen.wait(seconds)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait(10)


def make_certificates(directory: Path) -> None:
    """Write ca.pem, server.pem and server.key for 127.0.0.1."""
    now = dt.datetime.now(dt.UTC)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])

    def builder(name: x509.Name, public: t.Any) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=2))
        )

    ski = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    ca = (
        builder(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(ski, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    server_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mysql")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    server = (
        builder(server_name, key.public_key())
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (directory / "ca.pem").write_bytes(ca.public_bytes(pem))
    (directory / "server.pem").write_bytes(server.public_bytes(pem))
    (directory / "server.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


class MySQL:
    """A MySQL-compatible server (MariaDB) that accepts the application's user over TLS only."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        make_certificates(directory)
        self.ca = directory / "ca.pem"
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", f"--datadir={directory}/data", "--user=root",
             "--auth-root-authentication-method=normal", "--skip-test-db"],
            check=True, capture_output=True,
        )  # fmt: skip
        self.start()
        with self.root() as cursor:
            cursor.execute("CREATE USER 'app'@'%%' IDENTIFIED BY %s REQUIRE SSL", (MYSQL_PASSWORD,))
        self.fresh_database()

    def start(self) -> None:
        self.process = Process(
            ["mariadbd", "--no-defaults", f"--datadir={self.directory}/data", "--user=root",
             f"--port={self.port}", "--bind-address=127.0.0.1",
             f"--socket={self.directory}/sock", f"--pid-file={self.directory}/pid",
             "--innodb-buffer-pool-size=32M", "--skip-log-bin",
             f"--ssl-ca={self.ca}", f"--ssl-cert={self.directory}/server.pem",
             f"--ssl-key={self.directory}/server.key"],
            self.directory / "mariadb.log",
        )  # fmt: skip
        wait_for(lambda: port_open(self.port), what="the start of MariaDB")

    @contextlib.contextmanager
    def root(self) -> t.Iterator[t.Any]:
        connection = pymysql.connect(
            unix_socket=f"{self.directory}/sock", user="root", autocommit=True
        )
        with contextlib.closing(connection), connection.cursor() as cursor:
            yield cursor

    def fresh_database(self) -> None:
        with self.root() as cursor:
            cursor.execute("DROP DATABASE IF EXISTS vedfolnir")
            cursor.execute("CREATE DATABASE vedfolnir CHARACTER SET utf8mb4")
            cursor.execute("GRANT ALL ON vedfolnir.* TO 'app'@'%'")

    def rows(self, sql: str, *arguments: t.Any) -> list[t.Any]:
        with self.root() as cursor:
            cursor.execute("USE vedfolnir")
            cursor.execute(sql, arguments)
            found: list[t.Any] = list(cursor.fetchall())
            return found


class Redis:
    """A Redis server whose default user is off."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        (directory / "users.acl").write_text(
            f"user default off\nuser appuser on >{REDIS_PASSWORD} ~* &* +@all\n", encoding="utf-8"
        )
        self.start()

    def start(self) -> None:
        self.process = Process(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
             "--aclfile", f"{self.directory}/users.acl", "--dir", str(self.directory)],
            self.directory / "redis.log",
        )  # fmt: skip
        wait_for(lambda: port_open(self.port), what="the start of Redis")


def missing_programs() -> list[str]:
    return [
        name
        for name in ("mariadbd", "mariadb-install-db", "redis-server")
        if not shutil.which(name)
    ]
