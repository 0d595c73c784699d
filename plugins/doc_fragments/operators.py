# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules that hand out keys of Vault say of those who keep them."""

from __future__ import annotations


class ModuleDocFragment:
    """The option ``operators``, and what the host needs for it."""

    DOCUMENTATION = r"""
options:
  operators:
    description: Who keeps the keys. Each has a name and one means of encryption.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name, which the file is called by.
        type: str
        required: true
      age:
        description: An age recipient, or an SSH public key that age accepts.
        type: str
      pgp:
        description: An armoured PGP public key.
        type: str
      passphrase:
        description: Passphrase of a file of ansible-vault.
        type: str
requirements:
  - age or gpg (on the host), as the operators need
"""
