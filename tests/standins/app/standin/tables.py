"""Turn the schema data into SQLAlchemy tables (InnoDB, utf8mb4_unicode_ci, DYNAMIC rows)."""

from __future__ import annotations

import re
import typing as t
from datetime import UTC, datetime

import sqlalchemy as sa

from standin import enums, schema

_MYSQL_OPTIONS: dict[str, t.Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_unicode_ci",
    "mysql_row_format": "DYNAMIC",
}
_SIMPLE_TYPES: dict[str, type[sa.types.TypeEngine[t.Any]]] = {
    "int": sa.Integer,
    "bool": sa.Boolean,
    "float": sa.Float,
    "text": sa.Text,
    "datetime": sa.DateTime,
}


def naive_utc_now() -> datetime:
    """Return the time as the application stores it: UTC without a time zone."""
    return datetime.now(UTC).replace(tzinfo=None)


def column_type(name: str) -> sa.types.TypeEngine[t.Any]:
    """Return the SQL type for one type name of the schema data."""
    kind, _, argument = name.partition(":")
    if kind == "str":
        return sa.String(int(argument))
    if kind == "enum":
        if argument in enums.STORED_BY_VALUE:
            return sa.Enum(
                enums.STORED_BY_VALUE[argument],
                values_callable=lambda choices: [choice.value for choice in choices],
            )
        return sa.Enum(enums.STORED_BY_NAME[argument])
    return _SIMPLE_TYPES[kind]()


def _foreign_keys() -> dict[tuple[str, str], sa.ForeignKey]:
    keys: dict[tuple[str, str], sa.ForeignKey] = {}
    for line in schema.FOREIGN_KEYS.split("\n"):
        match = re.fullmatch(r"(\w+)\.(\w+) (\w+) (RESTRICT|CASCADE|SET NULL)", line)
        if match:
            table, column, target, rule = match.groups()
            # RESTRICT is what the server does when no rule is written, as upstream leaves it.
            ondelete = None if rule == "RESTRICT" else rule
            keys[(table, column)] = sa.ForeignKey(f"{target}.id", ondelete=ondelete)
    return keys


def _column(name: str, type_name: str, key: sa.ForeignKey | None) -> sa.Column[t.Any]:
    required = type_name.endswith("!")
    options: dict[str, t.Any] = {"nullable": not required, "primary_key": name == "id"}
    if name in ("created_at", "updated_at", "last_activity"):
        options["default"] = naive_utc_now
    elif name in schema.COLUMN_DEFAULTS:
        options["default"] = schema.COLUMN_DEFAULTS[name]
    if name == "updated_at":
        options["onupdate"] = naive_utc_now
    keys = [] if key is None else [key]
    return sa.Column(name, column_type(type_name.rstrip("!")), *keys, **options)


def build_tables(metadata: sa.MetaData) -> dict[str, sa.Table]:
    """Create every table of the schema data in ``metadata``."""
    keys = _foreign_keys()
    tables: dict[str, sa.Table] = {}
    for table, text in schema.TABLES.items():
        columns = [
            _column(name, type_name, keys.get((table, name)))
            for name, type_name in (entry.split() for entry in text.split(","))
        ]
        unique = [sa.UniqueConstraint(*names) for names in schema.UNIQUE_KEYS.get(table, [])]
        tables[table] = sa.Table(table, metadata, *columns, *unique, **_MYSQL_OPTIONS)
    return tables
