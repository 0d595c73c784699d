"""Make vedfolnir.stack a collection for Ansible before any test imports it."""

from __future__ import annotations

import sys
from pathlib import Path

LINKS = Path(__file__).parents[2] / ".collections"


def _install_loader() -> None:
    try:
        from ansible.plugins.loader import init_plugin_loader
        from ansible.utils.collection_loader import _collection_finder as finder
    except ImportError:  # ansible-test hides the controller's code from tests of modules
        return
    # ansible-test has done so on its own.
    if not any(isinstance(there, finder._AnsibleCollectionFinder) for there in sys.meta_path):
        init_plugin_loader([str(LINKS)])


_install_loader()
