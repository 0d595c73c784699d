"""The tables are those of the contract, with the same rules of deletion."""

from __future__ import annotations

import re

from standin_services import APP_SOURCE
from standin_site import Site

_RULES = {"RESTRICT": "RESTRICT", "NO ACTION": "RESTRICT"}


def test_twenty_tables_in_the_right_format(running: Site) -> None:
    rows = running.rows(
        "SELECT engine, table_collation, row_format FROM information_schema.tables "
        "WHERE table_schema=DATABASE()"
    )
    assert len(rows) == 20
    assert set(rows) == {("InnoDB", "utf8mb4_unicode_ci", "Dynamic")}


def test_foreign_keys_and_their_rules(running: Site) -> None:
    rows = running.rows(
        "SELECT k.table_name, k.column_name, k.referenced_table_name, r.delete_rule "
        "FROM information_schema.key_column_usage k "
        "JOIN information_schema.referential_constraints r "
        "ON r.constraint_schema=k.constraint_schema AND r.constraint_name=k.constraint_name "
        "WHERE k.table_schema=DATABASE()"
    )
    found = {f"{t}.{c} {target} {_RULES.get(rule, rule)}" for t, c, target, rule in rows}
    source = (APP_SOURCE / "standin" / "schema.py").read_text(encoding="utf-8")
    wanted = set(re.findall(r"^\w+\.\w+ \w+ (?:RESTRICT|CASCADE|SET NULL)$", source, re.M))
    assert found == wanted
    assert len(found) == 34


def test_enumerations_are_stored_by_name_except_the_priority(running: Site) -> None:
    types = dict(
        running.rows(
            "SELECT CONCAT(table_name, '.', column_name), column_type "
            "FROM information_schema.columns WHERE data_type='enum' "
            "AND table_schema=DATABASE()"
        )
    )
    assert types["users.role"] == "enum('ADMIN','MODERATOR','REVIEWER','VIEWER')"
    assert types["caption_generation_tasks.priority"] == "enum('low','normal','high','urgent')"
    assert len(types) == 18


def test_creating_the_schema_again_changes_nothing(running: Site) -> None:
    code = (
        "from config import Config\n"
        "from app.core.database.core.database_manager import DatabaseManager\n"
        "DatabaseManager(Config()); DatabaseManager(Config())"
    )
    assert running.command("-c", code).returncode == 0
