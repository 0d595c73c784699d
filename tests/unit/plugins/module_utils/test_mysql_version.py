from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import mysql_version

# As 9.7.4 of Debian wrote it.
ENTRY: dict[str, t.Any] = {
    "date": "2026-11-25 02:16:41",
    "version": "9.7.4-2",
    "maturity": "LTS",
    "initialize": True,
    "update_history": [{"date": "2026-11-25 02:16:41", "version_with_update": "9.7.4.0-2"}],
}


def history(*versions: str) -> str:
    entries = [{**ENTRY, "version": version} for version in versions]
    return json.dumps({"file_format": "1", "upgrade_history": entries})


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("docker.io/library/mysql:9.7.1", "9.7.1"),
        ("mysql:9.7", "9.7"),
        ("mysql:8.4.3-oraclelinux9", "8.4.3"),
        ("localhost/vedfolnir-lab/mysql:9.7-48b1f3aa", "9.7"),
        ("mysql:v26.10.0", "26.10.0"),
        ("mysql:8.4.3@sha256:0123456789abcdef", "8.4.3"),
        ("registry.example.org:5000/mysql:8.0.36", "8.0.36"),
        # no version
        ("mysql", ""),
        ("mysql:latest", ""),
        ("mysql:lts-9.7", ""),
        ("mysql:9", ""),
        ("mysql:2026.11", ""),
        ("mysql:9.7.1.4.5", ""),
        ("mysql@sha256:0123456789abcdef", ""),
        ("registry.example.org:50.00/mysql", ""),
        ("", ""),
    ],
)
def test_the_version_of_a_tag(image: str, version: str) -> None:
    assert mysql_version.of_tag(image) == version


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("/usr/sbin/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))\n", "9.7.4"),
        (
            "/usr/sbin/mysqld  Ver 8.4.3 for Linux on x86_64 (MySQL Community Server - GPL)\n",
            "8.4.3",
        ),
        ("docker: Error response from daemon: No such image: mysql:lts.\n", ""),
        ("", ""),
    ],
)
def test_the_version_that_a_server_prints(text: str, version: str) -> None:
    assert mysql_version.of_output(text) == version


@pytest.mark.parametrize(
    ("files", "version"),
    [
        ({"mysql_upgrade_history": history("9.7.4-2")}, "9.7.4"),
        ({"mysql_upgrade_history": history("8.4.0", "8.4.3", "9.7.1")}, "9.7.1"),
        ({"mysql_upgrade_info": "8.0.36"}, "8.0.36"),
        ({"mysql_upgrade_info": "8.0.36\n"}, "8.0.36"),
        # an upgrade from 8.0 leaves the old file
        ({"mysql_upgrade_history": history("8.4.3"), "mysql_upgrade_info": "8.0.36"}, "8.4.3"),
        # not known
        ({}, ""),
        ({"mysql_upgrade_history": history()}, ""),
        ({"mysql_upgrade_history": history("unknown")}, ""),
        ({"mysql_upgrade_history": "[]"}, ""),
        ({"mysql_upgrade_history": '{"upgrade_history": [1]}'}, ""),
        ({"mysql_upgrade_history": '{"file_format": "1", "upgr'}, ""),
        ({"mysql_upgrade_info": ""}, ""),
    ],
)
def test_the_version_of_data(tmp_path: pathlib.Path, files: dict[str, str], version: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert mysql_version.of_data(str(tmp_path)) == version


def test_bytes_that_are_no_text_are_no_version(tmp_path: pathlib.Path) -> None:
    (tmp_path / "mysql_upgrade_info").write_bytes(b"\xff\xfe8.0.36")
    assert mysql_version.of_data(str(tmp_path)) == ""
