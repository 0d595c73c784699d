"""A dump is read while it passes by."""

from __future__ import annotations

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_dump import (
    DumpReader,
    differences,
    gtid_set,
    rows_in,
)

DUMP = r"""-- MySQL dump 10.13  Distrib 9.7.4, for Linux (x86_64)
-- Server version	9.7.4-2

SET @@SESSION.SQL_LOG_BIN= 0;
SET @@GLOBAL.GTID_PURGED=/*!80000 '+'*/ '9bbc05cb-e89c-11f1-b587-0242ac1e0002:1-114,
f44f4503-e89e-11f1-a13f-0242ac1d0202:1-69';
-- CHANGE REPLICATION SOURCE TO SOURCE_LOG_FILE='binlog.000003', SOURCE_LOG_POS=46372;
CREATE TABLE `a` (
  `id` int NOT NULL,
  `text` varchar(9) COLLATE utf8mb4_bin
) ENGINE=InnoDB AUTO_INCREMENT=3;
INSERT INTO `a` VALUES (1,'x'),(2,'y');
INSERT INTO `a` VALUES (3,'),(');
CREATE TABLE `odd``name` (
  `id` int NOT NULL
) ENGINE=InnoDB;
-- Dump completed
"""


def read(text: str) -> DumpReader:
    reader = DumpReader()
    for line in text.encode().splitlines(keepends=True):
        reader.feed(line)
    return reader


@pytest.mark.parametrize(
    ("line", "rows"),
    [
        ("INSERT INTO `a` VALUES (1);", 1),
        ("INSERT INTO `a` VALUES (1,2),(3,4),(5,6);", 3),
        ("INSERT INTO `a` VALUES ('x'),('y');", 2),
        ("INSERT INTO `a` VALUES ('),('),('y');", 2),
        (r"INSERT INTO `a` VALUES ('it\'s),(\'no'),('y');", 2),
        (r"INSERT INTO `a` VALUES ('ends with \\'),('y');", 2),
        (r"INSERT INTO `a` VALUES ('\\\'),('),(NULL,0x27),('');", 3),
        ("INSERT INTO `a` (`x`, `y`) VALUES (1,''),(2,'');", 2),
    ],
)
def test_rows_are_counted_outside_of_texts(line: str, rows: int) -> None:
    assert rows_in(line.encode()) == rows


def test_what_a_dump_says_of_itself() -> None:
    reader = read(DUMP)
    assert reader.gtid == (
        "9bbc05cb-e89c-11f1-b587-0242ac1e0002:1-114,f44f4503-e89e-11f1-a13f-0242ac1d0202:1-69"
    )
    assert reader.position == "binlog.000003:46372"
    assert reader.version == "9.7.4-2"
    assert reader.complete
    assert reader.size == len(DUMP)
    assert {name: table["rows"] for name, table in reader.tables.items()} == {
        "a": 3,
        "odd`name": 0,
    }


def test_half_a_dump_is_not_complete() -> None:
    assert not read(DUMP[: len(DUMP) // 2]).complete


def test_a_set_of_one_server_and_an_empty_one() -> None:
    assert gtid_set("SET @@GLOBAL.GTID_PURGED=/*!80000 '+'*/ 'a1-b2:1-4';") == "a1-b2:1-4"
    assert gtid_set("SET @@GLOBAL.GTID_PURGED=/*!80000 '+'*/ '';") == ""


def test_a_character_set_that_the_collation_implies_makes_no_difference() -> None:
    other = DUMP.replace("COLLATE utf8mb4_bin", "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
    assert differences(read(DUMP).tables, read(other).tables) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("(2,'y')", "(2,'z')", "table a has other content"),
        (",(2,'y')", "", "table a has 2 rows instead of 3"),
        ("varchar(9)", "varchar(8)", "table a has another definition"),
        ("odd``name", "even", "table odd`name is missing"),
    ],
)
def test_differences_are_named(old: str, new: str, problem: str) -> None:
    assert problem in differences(read(DUMP).tables, read(DUMP.replace(old, new)).tables)


def test_a_table_too_much_is_named() -> None:
    assert differences({}, read(DUMP).tables)[0] == "table a is too much"
