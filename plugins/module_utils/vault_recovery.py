# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Encrypt Vault's key shares to the people who keep them, on the host, before anything else.

An operator is a mapping with ``name`` and one of ``age`` (an age recipient or an SSH public key),
``pgp`` (an armoured public key) and ``passphrase`` (the file is one of ansible-vault's).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import subprocess
import tempfile
import typing as t

KINDS = {"age": "age", "pgp": "asc", "passphrase": "vault"}
"""What an operator may have, and the suffix of the file that is encrypted to it."""
OPERATOR: dict[str, dict[str, t.Any]] = {
    "name": {"type": "str", "required": True},
    "age": {"type": "str"},
    "pgp": {"type": "str"},
    "passphrase": {"type": "str", "no_log": True},
}
"""What a module is given of an operator: Ansible's argument specification."""
_ROUNDS = 10000
_KEY = re.compile(r"^[A-Za-z0-9+/]{40,}={0,2}$|^[0-9a-f]{64,}$")


class RecoveryError(Exception):
    """Keys cannot be encrypted to somebody; the message names the operator."""


def kind_of(operator: t.Mapping[str, t.Any]) -> str:
    """Return what a text is encrypted to for this operator.

    Raises:
        RecoveryError: unless it is exactly one of age, pgp and passphrase.
    """
    found = [kind for kind in KINDS if operator.get(kind)]
    if len(found) != 1:
        raise RecoveryError(
            f"operator {operator.get('name')}: needs exactly one of {', '.join(KINDS)}"
        )
    return found[0]


def deal(keys: t.Sequence[str], operators: t.Sequence[str]) -> dict[str, list[str]]:
    """Deal the shares out to the operators in turn."""
    dealt: dict[str, list[str]] = {name: [] for name in operators}
    for number, key in enumerate(keys):
        dealt[operators[number % len(operators)]].append(key)
    return dealt


def letter(host: str, name: str, keys: t.Sequence[str], threshold: int, date: str) -> str:
    """Return the text that an operator finds after decrypting the file."""
    return (
        f"Vault of the Vedfolnir stack on {host}, keys of {date}\n"
        f"Keys of {name}; any {threshold} of all keys unseal it. See docs/vault.md.\n"
        + "".join(f"{key}\n" for key in keys)
    )


def keys_in(text: str) -> list[str]:
    """Return the keys of one or more letters, or of a file with one key per line."""
    return [line for line in map(str.strip, text.splitlines()) if _KEY.match(line)]


def files(
    keys: t.Sequence[str],
    operators: t.Sequence[t.Mapping[str, t.Any]],
    host: str,
    threshold: int,
    date: str,
) -> t.Iterator[tuple[str, bytes]]:
    """Yield the name and the encrypted content of each operator's file.

    Raises:
        RecoveryError: see :func:`encrypt`.
    """
    by_name = {str(operator["name"]): operator for operator in operators}
    for name, own in deal(keys, list(by_name)).items():
        if own:
            text = letter(host, name, own, threshold, date)
            yield f"{name}.{KINDS[kind_of(by_name[name])]}", encrypt(by_name[name], text)


def encrypt(operator: t.Mapping[str, t.Any], text: str) -> bytes:
    """Return the text encrypted to an operator.

    Raises:
        RecoveryError: when the recipient is not usable, or the program for it is missing.
    """
    kind = kind_of(operator)
    name, recipient = str(operator["name"]), str(operator[kind]).strip()
    if kind == "passphrase":
        return ansible_vault(recipient, text.encode())
    if kind == "age":
        return _run(name, ["age", "--encrypt", "--armor", "--recipient", recipient], text)
    with tempfile.TemporaryDirectory(prefix="vedfolnir-") as home:
        key = os.path.join(home, "key.asc")
        with open(key, "w", encoding="utf-8") as handle:
            handle.write(f"{recipient}\n")
        options = ["--homedir", home, "--batch", "--quiet", "--trust-model", "always"]
        return _run(name, ["gpg", *options, "--armor", "--encrypt", "--recipient-file", key], text)


def _run(name: str, argv: list[str], text: str) -> bytes:
    try:
        result = subprocess.run(argv, input=text.encode(), capture_output=True, check=False)
    except FileNotFoundError as exc:
        raise RecoveryError(f"operator {name}: the program {argv[0]} is not installed") from exc
    if result.returncode != 0 or not result.stdout:
        said = result.stderr.decode(errors="replace").strip().splitlines()
        raise RecoveryError(
            f"operator {name}: {argv[0]} cannot encrypt to this key: {said[0] if said else ''}"
        )
    return result.stdout


def ansible_vault(passphrase: str, data: bytes) -> bytes:
    """Return data as a file of ansible-vault, format 1.1 (AES-256 in counter mode, HMAC)."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    salt = os.urandom(32)
    derived = hashlib.pbkdf2_hmac("sha256", passphrase.encode(), salt, _ROUNDS, 80)
    cipher_key, mac_key, counter = derived[:32], derived[32:64], derived[64:]
    fill = 16 - len(data) % 16
    encryptor = Cipher(algorithms.AES(cipher_key), modes.CTR(counter)).encryptor()
    encrypted = encryptor.update(data + bytes([fill]) * fill) + encryptor.finalize()
    signature = hmac.new(mac_key, encrypted, hashlib.sha256).hexdigest()
    content = "\n".join([salt.hex(), signature, encrypted.hex()]).encode().hex()
    lines = [content[start : start + 80] for start in range(0, len(content), 80)]
    return "\n".join(["$ANSIBLE_VAULT;1.1;AES256", *lines, ""]).encode()
