# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Seal unseal keys to this host with ``systemd-creds``, so that it can unseal Vault by itself.

With a TPM2 the file opens on this machine only. Without one it is encrypted with a key that lies
on the same disk: that keeps the keys out of a stolen backup of the file, not out of a stolen disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import typing as t

NAME = "vedfolnir-unseal"
"""Name of the credential, which is sealed with it: the file cannot pass for another one."""

_PROGRAM = "/usr/bin/systemd-creds"

Sealed = t.Literal["tpm2", "host"]


class CredentialError(Exception):
    """Keys cannot be sealed to the host or read back."""


def path(directory: str) -> str:
    """Return the file that holds the sealed keys."""
    return os.path.join(directory, "unseal.cred")


def next_path(directory: str) -> str:
    """Return the file that holds those of a rekey until they are in force."""
    return os.path.join(directory, "unseal.cred.next")


def kind() -> Sealed:
    """Tell what keys are sealed with on this host."""
    try:
        result = subprocess.run([_PROGRAM, "has-tpm2", "--quiet"], capture_output=True, check=False)
    except FileNotFoundError:
        return "host"
    return "tpm2" if result.returncode == 0 else "host"


def seal(directory: str, keys: t.Sequence[str]) -> Sealed:
    """Write the sealed keys and prove that they can be read back; return what they are sealed with.

    Raises:
        CredentialError: when systemd-creds fails.
    """
    return _seal(path(directory), keys)


def seal_next(directory: str, keys: t.Sequence[str]) -> Sealed:
    """As :func:`seal`, beside those that are in force; see :func:`promote`."""
    return _seal(next_path(directory), keys)


def promote(directory: str) -> Sealed | None:
    """Let the sealed keys of a rekey take the place of the others, if there are any."""
    try:
        os.replace(next_path(directory), path(directory))
    except FileNotFoundError:
        return None
    return kind()


def candidates(*directories: str) -> list[list[str]]:
    """Return each set of sealed keys in the directories that this host can open."""
    found: list[list[str]] = []
    for file in (one(directory) for directory in directories for one in (path, next_path)):
        if os.path.exists(file):
            with contextlib.suppress(CredentialError):
                found.append(_read(file))
    return found


def _seal(target: str, keys: t.Sequence[str]) -> Sealed:
    found = kind()
    key = "host+tpm2" if found == "tpm2" else "host"
    candidate = target + ".new"
    if os.path.exists(candidate):
        os.unlink(candidate)
    arguments = ["encrypt", f"--with-key={key}", f"--name={NAME}", "-", candidate]
    _creds(arguments, json.dumps(list(keys)))
    if _read(candidate) != list(keys):
        raise CredentialError("what systemd-creds sealed does not read back")
    os.chmod(candidate, 0o400)
    with open(candidate, "rb") as handle:
        os.fsync(handle.fileno())
    os.replace(candidate, target)
    return found


def _read(file: str) -> list[str]:
    try:
        return [str(key) for key in json.loads(_creds(["decrypt", f"--name={NAME}", file, "-"]))]
    except ValueError as exc:
        raise CredentialError(f"{file} does not hold unseal keys") from exc


def unsealed(directory: str) -> list[str]:
    """Return the keys.

    Raises:
        CredentialError: when there are none, or this host cannot open them.
    """
    target = path(directory)
    if not os.path.exists(target):
        raise CredentialError(
            f"{target} is missing, so this host cannot unseal Vault by itself; run "
            "playbooks/unseal.yml with the operators' keys, which seals them to the host again"
        )
    return _read(target)


def _creds(arguments: list[str], text: str | None = None) -> str:
    try:
        result = subprocess.run(
            [_PROGRAM, *arguments], input=text, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as exc:
        raise CredentialError("systemd-creds is not installed") from exc
    if result.returncode != 0:
        raise CredentialError(f"systemd-creds {arguments[0]} failed: {result.stderr.strip()}")
    return result.stdout
