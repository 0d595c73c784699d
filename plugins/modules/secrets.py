#!/usr/bin/python
# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The module of this name: generate secrets, render their files."""

from __future__ import annotations

DOCUMENTATION = r"""
module: secrets
short_description: Generate the stack's secrets on the host and render the files of their consumers
version_added: 0.1.0
description:
  - The local provider. Values are generated on the host, kept in a file that only root reads, and
    rendered to a directory per service on a tmpfs; they never travel to the controller.
  - A value that exists is never changed, except by O(given); one that the manifest no longer lists
    is kept.
author:
  - Vedfolnir stack contributors (@vedfolnir)
attributes:
  check_mode:
    description: Predicts what would be generated and rendered.
    support: full
  diff_mode:
    description: There is nothing to show without showing values.
    support: none
  idempotent:
    description: A second call changes nothing.
    support: full
  platform:
    description: Debian 12 and later.
    support: full
    platforms: debian
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
options:
  manifest:
    description:
      - The secrets. Each has C(name), C(kind) (password, hex, fernet, ca, tls, given), and as the
        kind needs C(length) (characters), C(names) (of a certificate), C(issuer), C(optional).
    type: list
    elements: dict
    required: true
  files:
    description: Per service C(owner) (C(uid:gid)) and C(files), name to template, see the module's
      source.
    type: dict
    required: true
  given:
    description: Values that the operator brings along, by name.
    type: dict
    default: {}
  directory:
    description: Directory of the store.
    type: path
    default: /etc/vedfolnir/secrets
  runtime_directory:
    description: Directory (on a tmpfs) of the consumers' files.
    type: path
    default: /run/vedfolnir/secrets
requirements:
  - cryptography (on the host)
"""

EXAMPLES = r"""
- name: Make the secrets
  vedfolnir.stack.secrets:
    manifest:
      - name: redis_app
        kind: password
    files:
      redis:
        owner: "999:999"
        files:
          users.acl: "user app on #${redis_app|sha256} ~* +@all\n"
"""

RETURN = r"""
generated:
  description: Names of the secrets that were (or would be) made or replaced.
  returned: always
  type: list
  elements: str
changed_files:
  description: Files below the runtime directory that were (or would be) written or removed.
  returned: always
  type: list
  elements: str
revisions:
  description: Per service a salted digest of its files, C(pending) where it cannot be known before
    the real run.
  returned: always
  type: dict
"""

import contextlib
import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vedfolnir.stack.plugins.module_utils import secrets as provider
from ansible_collections.vedfolnir.stack.plugins.module_utils.files import (
    FileError,
    write_atomic,
)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "manifest": {"type": "list", "elements": "dict", "required": True, "no_log": False},
            "files": {"type": "dict", "required": True, "no_log": False},
            "given": {"type": "dict", "default": {}, "no_log": True},
            "directory": {"type": "path", "default": "/etc/vedfolnir/secrets"},
            "runtime_directory": {"type": "path", "default": "/run/vedfolnir/secrets"},
        },
        supports_check_mode=True,
    )
    params = module.params
    directory, runtime, files = params["directory"], params["runtime_directory"], params["files"]
    store_path, manifest_path = (
        os.path.join(directory, "store.json"),
        os.path.join(directory, "manifest.json"),
    )
    given = {name: "" if value is None else str(value) for name, value in params["given"].items()}
    manifest_text = (
        json.dumps({"secrets": params["manifest"], "files": files}, indent=2, sort_keys=True) + "\n"
    )
    try:
        store = provider.read_store(store_path)
        if module.check_mode and not store:
            # On a fresh host cryptography may be missing; what is made here is thrown away, it
            # serves to name what is wrong with the manifest.
            with contextlib.suppress(ImportError):
                provider.converge_store(store, params["manifest"], given)
            module.exit_json(
                changed=True,
                generated=[
                    item["name"]
                    for item in params["manifest"]
                    if item["kind"] != "given" or item["name"] in given
                ],
                revisions={},
                changed_files=[
                    f"{service}/{name}" for service, spec in files.items() for name in spec["files"]
                ],
            )
        store, generated = provider.converge_store(store, params["manifest"], given)
        contents = provider.rendered_files(files, store)
        known = _read(manifest_path)
        if not module.check_mode:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            os.chmod(directory, 0o700)
            if generated:
                _write(store_path, json.dumps(store, indent=2, sort_keys=True))
            if known != manifest_text:
                _write(manifest_path, manifest_text)
        written = provider.write_runtime(runtime, files, contents, check=module.check_mode)
    except (provider.SecretError, FileError, OSError, ImportError) as exc:
        module.fail_json(msg=f"The secrets cannot be made: {exc}")
    module.exit_json(
        changed=bool(generated or written or known != manifest_text),
        generated=[name for name in generated if not name.startswith("__")],
        changed_files=written,
        revisions={
            service: provider.revision(contents[service], store["__salt"]) for service in files
        },
    )


def _write(path: str, text: str) -> None:
    write_atomic(path, text.encode(), uid=0, gid=0, mode=0o600)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read()
    except FileNotFoundError:
        return ""


if __name__ == "__main__":
    main()
