# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make what the manifest lists, and tell what consumers' files must contain.

Values are made on the host: the controller never sees them. They live in Vault, whose agents write
the files; read together they are a store, a mapping of names to values. It needs nothing but Python
and, for certificates, ``python3-cryptography``.

Placeholders in a consumer's file are ``${name}`` or ``${name.part}`` (see :func:`parts`), each
optionally followed by a filter: ``${name|sha256}`` (hexadecimal digest), ``${name|sql}`` (inside a
quoted SQL string), ``${name|cnf}`` (inside a double-quoted option file value). A literal ``$`` is
written ``$$``.

A secret in the store is a text, a certificate (``certificate``, ``private_key``), or, while it is
being rotated, a mapping: ``value`` is what consumers use, ``others`` are accepted beside it, and
``state`` tells which is the newest: the first of ``others`` as long as it is ``prepared``,
``value`` from then on (``switched``).
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import ipaddress
import json
import os
import re
import secrets as random
import shutil
import string
import typing as t

PLACEHOLDER = re.compile(
    r"\$(?:(?P<escaped>\$)|\{(?P<name>[a-z0-9_]+)(?:\.(?P<part>[a-z_]+))?(?:\|(?P<filter>[a-z0-9]+))?\})"
)
CLASSES = (string.ascii_lowercase, string.ascii_uppercase, string.digits, "_-")
"""Characters of passwords: one of each class satisfies the usual policies, and none needs quoting
in SQL, URLs, option files or shells."""
CA_DAYS = 3650
LEAF_DAYS = 397
"""Longest life of a server certificate that browsers accept (CA/B Forum requirements 6.3.2)."""
RENEW_DAYS = 60
MIN_LENGTH = 16
"""Fewer characters are guessed, and four classes need some room."""
KINDS = ("password", "hex", "fernet", "ca", "trust", "tls", "given")
VAULT_MARKER = "__vault"
"""Key of the host's record of the names that Vault must have. A host of a release before Vault has
the values there instead, which Vault takes over."""
GIVEN = "__given"
"""Key of the digests of given values that were adopted, as JSON: each is adopted once only."""


class SecretError(Exception):
    """A manifest or store that cannot be used; the message names the secret, never its value."""


def generate(kind: str, length: int) -> str:
    """Return a new random value.

    Args:
        kind: ``password`` (starts with a letter), ``hex`` or ``fernet`` (32 bytes, URL-safe base64
            with padding, as cryptography's Fernet wants).
        length: Characters of a password or hexadecimal string.

    Raises:
        SecretError: for a kind that has no simple value.
    """
    if kind in ("password", "hex") and length < MIN_LENGTH:
        raise SecretError(f"{length} characters are too few, {MIN_LENGTH} are the least")
    if kind == "password":
        while True:
            text = "".join(random.choice("".join(CLASSES)) for _index in range(length))
            if text[0].isalpha() and all(set(text) & set(characters) for characters in CLASSES):
                return text
    if kind == "hex":
        return random.token_hex((length + 1) // 2)[:length]
    if kind == "fernet":
        return base64.urlsafe_b64encode(os.urandom(32)).decode()
    raise SecretError(f"a secret of kind {kind!r} cannot be generated")


def check_shape(name: str, kind: str, value: str) -> None:
    """Refuse a given value that cannot serve as its kind.

    Raises:
        SecretError: naming the secret and what is wrong, never the value.
    """
    if not value or value != value.strip() or any(ord(character) < 32 for character in value):
        raise SecretError(f"{name}: is empty, or has control characters or blanks at an end")
    if kind == "fernet":
        try:
            decoded = base64.urlsafe_b64decode(value.encode())
        except ValueError:
            decoded = b""
        if len(decoded) != 32 or len(value) != 44:
            raise SecretError(
                f"{name}: is not a Fernet key (44 characters of URL-safe base64 that end with '=')"
            )


def parts(entry: str | t.Mapping[str, t.Any]) -> dict[str, str]:
    """Return what placeholders can name of a stored secret.

    Returns:
        For a certificate ``certificate`` and ``private_key``. For anything else ``value``, what
        consumers use; ``others``, what is accepted beside it, one a line (empty unless it is being
        rotated); ``older`` and ``newer``, the last two in the order of their age, so that a server
        that accepts both has nothing to do when consumers move from one to the other.
    """
    if isinstance(entry, str):
        return {"value": entry, "others": "", "older": entry, "newer": entry}
    if "state" not in entry:
        return dict(entry)
    value, others = entry["value"], entry["others"]
    last = (value, others[0]) if entry["state"] == "prepared" else (others[0], value)
    return {"value": value, "others": "\n".join(others), "older": last[0], "newer": last[1]}


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _private_pem(key: t.Any) -> str:
    from cryptography.hazmat.primitives import serialization

    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem.decode()


def make_ca(common_name: str) -> dict[str, str]:
    """Return a new authority (P-256, 10 years): PEM texts ``certificate`` and ``private_key``."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - datetime.timedelta(hours=1))
        .not_valid_after(_now() + datetime.timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return {
        "certificate": certificate.public_bytes(serialization.Encoding.PEM).decode(),
        "private_key": _private_pem(key),
    }


def _general_name(name: str) -> t.Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def make_leaf(issuer: t.Mapping[str, str], names: t.Sequence[str]) -> dict[str, str]:
    """Return a server certificate for ``names`` (hosts or addresses, the first is the subject).

    The result has the PEM texts ``certificate`` and ``private_key`` (P-256, 397 days).
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    ca = x509.load_pem_x509_certificate(issuer["certificate"].encode())
    ca_key: t.Any = serialization.load_pem_private_key(
        issuer["private_key"].encode(), password=None
    )
    ca_public: t.Any = ca.public_key()
    key = ec.generate_private_key(ec.SECP256R1())
    alternatives = [_general_name(name) for name in names]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - datetime.timedelta(hours=1))
        .not_valid_after(_now() + datetime.timedelta(days=LEAF_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_public), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    return {
        "certificate": certificate.public_bytes(serialization.Encoding.PEM).decode(),
        "private_key": _private_pem(key),
    }


def leaf_is_current(
    leaf: t.Mapping[str, str], issuer: t.Mapping[str, str], names: t.Sequence[str]
) -> bool:
    """Tell whether a certificate still serves: same names and issuer, more than 60 days left."""
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(leaf["certificate"].encode())
    ca = x509.load_pem_x509_certificate(issuer["certificate"].encode())
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    present = set(extension)
    # not_valid_after_utc came with cryptography 42; Debian 12 has 38.
    end = getattr(certificate, "not_valid_after_utc", None)
    if end is None:
        end = certificate.not_valid_after.replace(tzinfo=datetime.UTC)
    fresh: bool = end - _now() > datetime.timedelta(days=RENEW_DAYS)
    # The key and not only the name: an authority that was made anew has the same name.
    signer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    ca_public: t.Any = ca.public_key()
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_public)
    same_issuer = certificate.issuer == ca.subject and signer == authority
    return fresh and present == {_general_name(name) for name in names} and same_issuer


def read_store(path: str) -> dict[str, t.Any]:
    """Return what a host keeps of its secrets, empty when there is nothing.

    Raises:
        SecretError: when the file is there and cannot be read, so that nothing overwrites it.
    """
    try:
        with open(path, encoding="utf-8") as handle:
            store = json.load(handle)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        raise SecretError(
            f"{path}: cannot be read ({type(exc).__name__}); restore it from a backup"
        ) from exc
    if not isinstance(store, dict):
        raise SecretError(f"{path}: is not a secrets store; restore it from a backup")
    return store


def converge_store(
    store: dict[str, t.Any],
    manifest: t.Sequence[t.Mapping[str, t.Any]],
    given: t.Mapping[str, str],
) -> tuple[dict[str, t.Any], list[str]]:
    """Return the store with all that the manifest lists, and the names that were made or replaced.

    Existing values stay, a newly given value wins, certificates are renewed 60 days before their
    end. A given value is adopted once: left in the inventory, it does not take back a rotation.
    Values of names that the manifest no longer lists are kept: a secret is never thrown away by a
    deployment.

    Raises:
        SecretError: all unusable entries at once.
    """
    result = dict(store)
    changed: list[str] = []
    problems: list[str] = []
    listed = {str(item["name"]) for item in manifest}
    problems += [
        f"{name}: is given but the manifest does not list it"
        for name in sorted(set(given) - listed)
    ]
    if "__salt" not in result:
        result["__salt"] = random.token_hex(16)
        changed.append("__salt")
    fresh = _newly_given(result, given)
    for item in manifest:
        name, kind = str(item["name"]), str(item["kind"])
        if kind not in KINDS:
            problems.append(f"{name}: has the unknown kind {kind!r}")
            continue
        try:
            value = _wanted(result, item, given, fresh)
        except SecretError as exc:
            problems.append(str(exc))
            continue
        if value != result.get(name):
            result[name] = value
            changed.append(name)
    if problems:
        raise SecretError("; ".join(problems))
    if fresh:
        result[GIVEN] = json.dumps(_adopted(result) | fresh, sort_keys=True)
        changed.append(GIVEN)
    return result, changed


def _adopted(store: t.Mapping[str, t.Any]) -> dict[str, str]:
    return dict(json.loads(store.get(GIVEN) or "{}"))


def _newly_given(store: t.Mapping[str, t.Any], given: t.Mapping[str, str]) -> dict[str, str]:
    """Return the salted digests, by name, of given values that have not been adopted yet."""
    adopted = _adopted(store)
    salt = str(store["__salt"]).encode()
    digests = {
        name: hmac.new(salt, value.encode(), hashlib.sha256).hexdigest()
        for name, value in given.items()
    }
    return {name: digest for name, digest in digests.items() if adopted.get(name) != digest}


def _wanted(
    store: t.Mapping[str, t.Any],
    item: t.Mapping[str, t.Any],
    given: t.Mapping[str, str],
    fresh: t.Collection[str],
) -> t.Any:
    name, kind = str(item["name"]), str(item["kind"])
    present = store.get(name)
    if kind in ("ca", "trust", "tls"):
        if name in given:
            raise SecretError(f"{name}: is made by the stack and cannot be given")
        return _certificate(store, item)
    if name in given:
        check_shape(name, kind, given[name])
        return given[name] if name in fresh or present is None else present
    if kind == "given":
        if present is None and not item.get("optional"):
            raise SecretError(f"{name}: must be given in stack_secrets_given")
        return present
    try:
        return present or generate(kind, int(item.get("length", 40)))
    except SecretError as exc:
        raise SecretError(f"{name}: {exc}") from exc


def _certificate(store: t.Mapping[str, t.Any], item: t.Mapping[str, t.Any]) -> t.Any:
    name, names = str(item["name"]), [str(entry) for entry in item.get("names") or []]
    present: t.Any = store.get(name)
    issuer: t.Any = store.get(str(item.get("issuer")))
    if item["kind"] != "ca" and not isinstance(issuer, dict):
        raise SecretError(f"{name}: has no issuer of kind ca before it in the manifest")
    if item["kind"] == "trust":
        return str(issuer["certificate"])
    if not names:
        raise SecretError(f"{name}: a certificate needs names")
    try:
        if item["kind"] == "ca":
            return present or make_ca(names[0])
        return (
            present
            if present and leaf_is_current(present, issuer, names)
            else make_leaf(issuer, names)
        )
    except (ValueError, KeyError, TypeError) as exc:
        raise SecretError(
            f"{name}: its names cannot be used, or what is stored of it or its issuer is damaged"
        ) from exc


def _filtered(text: str, name: str | None) -> str:
    if name is None:
        return text
    if name == "sha256":
        return hashlib.sha256(text.encode()).hexdigest()
    if name == "sql":
        return text.replace("\\", "\\\\").replace("'", "''")
    if name == "cnf":
        return text.replace("\\", "\\\\").replace('"', '\\"')
    raise SecretError(f"there is no filter {name!r}; there are sha256, sql and cnf")


def render(template: str, store: t.Mapping[str, t.Any]) -> str:
    """Return the template with every placeholder replaced.

    Raises:
        SecretError: for a name, part or filter that is not there.
    """

    def replace(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        entry = store.get(match["name"])
        value = None if entry is None else parts(entry).get(match["part"] or "value")
        if value is None:
            part = f".{match['part']}" if match["part"] else ""
            raise SecretError(f"${{{match['name']}{part}}}: there is no such secret")
        return _filtered(value, match["filter"])

    return PLACEHOLDER.sub(replace, template)


def consumers(files: t.Mapping[str, t.Any]) -> dict[str, list[str]]:
    """Return for each secret the services whose files mention it."""
    found: dict[str, set[str]] = {}
    for service, spec in files.items():
        for template in spec["files"].values():
            for match in PLACEHOLDER.finditer(template):
                if match["name"]:
                    found.setdefault(match["name"], set()).add(service)
    return {name: sorted(services) for name, services in sorted(found.items())}


def revision(contents: t.Mapping[str, str], salt: str) -> str:
    """Return 16 hexadecimal digits that change with the contents and, salted, do not tell them."""
    text = json.dumps(sorted(contents.items()), separators=(",", ":"))
    return hmac.new(salt.encode(), text.encode(), hashlib.sha256).hexdigest()[:16]


def rendered_files(
    files: t.Mapping[str, t.Any], store: t.Mapping[str, t.Any]
) -> dict[str, dict[str, str]]:
    """Return the content of every file by service and file name."""
    return {
        service: {name: render(template, store) for name, template in spec["files"].items()}
        for service, spec in files.items()
    }


def is_right(path: str, text: str, uid: int, gid: int) -> bool:
    """Tell whether a file has this content and owner, and mode 0400."""
    try:
        status = os.stat(path)
        with open(path, "rb") as handle:
            attributes = (status.st_uid, status.st_gid, status.st_mode & 0o7777)
            return handle.read() == text.encode() and attributes == (uid, gid, 0o400)
    except FileNotFoundError:
        return False


def write_private(path: str, text: str, uid: int, gid: int) -> None:
    """Write a file of mode 0400 atomically."""
    temporary = f"{path}.new"
    if os.path.exists(temporary):
        os.unlink(temporary)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with os.fdopen(descriptor, "wb") as handle:
        os.fchown(handle.fileno(), uid, gid)
        handle.write(text.encode())
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(temporary, path)


def differences(
    root: str, files: t.Mapping[str, t.Any], contents: t.Mapping[str, t.Mapping[str, str]]
) -> list[str]:
    """Return which consumers' files below ``root`` are not as they should be, or too many."""
    wrong = [
        f"{service}/{name}"
        for service, spec in files.items()
        for name, text in contents[service].items()
        if not is_right(os.path.join(root, service, name), text, *owner_of(spec))
    ]
    return wrong + clean_runtime(root, contents, check=True)


def owner_of(spec: t.Mapping[str, t.Any]) -> tuple[int, int]:
    """Return the numeric user and group of a consumer."""
    uid, _separator, gid = str(spec["owner"]).partition(":")
    return int(uid), int(gid or uid)


def make_directory(path: str, owner: tuple[int, int], mode: int) -> None:
    """Make a consumer's directory; consumers pass through the one above it, they cannot list it."""
    root = os.path.dirname(path)
    os.makedirs(root, mode=0o711, exist_ok=True)
    os.chmod(root, 0o711)  # noqa: S103
    os.makedirs(path, mode=mode, exist_ok=True)
    os.chown(path, *owner)
    os.chmod(path, mode)


def clean_runtime(
    root: str, wanted: t.Mapping[str, t.Collection[str]], check: bool = False
) -> list[str]:
    """Remove all but ``wanted`` (file names by service); return what was or would be removed."""
    removed: list[str] = []
    for service, names in wanted.items():
        extra = _clean(os.path.join(root, service), names, check)
        removed += [f"{service}/{name}" for name in extra]
    return removed + _clean(root, wanted, check)


def _clean(directory: str, keep: t.Collection[str], check: bool) -> list[str]:
    """Remove everything in a directory but ``keep``; return the names."""
    try:
        extra = sorted(set(os.listdir(directory)) - set(keep))
    except FileNotFoundError:
        return []
    for path in (os.path.join(directory, name) for name in extra):
        if check:
            continue
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    return extra
