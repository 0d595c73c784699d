"""The dashboards are what their generator writes, and each panel tells what it shows."""

from __future__ import annotations

import copy
import itertools
import json
import sys
import typing as t
from pathlib import Path

import gate_repo
import grafana_schema
import pytest

sys.path.insert(0, str(gate_repo.ROOT / "files/dashboards"))

import generate

FILES = {path: json.loads(text) for path, text in generate.files().items()}
EACH = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def test_the_files_are_what_the_generator_writes() -> None:
    there = {path: path.read_text(encoding="utf-8") for path in generate.HERE.glob("*.json")}
    assert there == generate.files(), "run python files/dashboards/generate.py"


def test_the_role_installs_every_dashboard() -> None:
    listed = gate_repo.role_main("observability", "vars")["__observability_dashboards"]
    assert listed == sorted(path.stem for path in FILES)


def test_nothing_is_there_twice() -> None:
    assert len({page["uid"] for page in FILES.values()}) == len(FILES)
    assert len({page["title"] for page in FILES.values()}) == len(FILES)


@EACH
def test_every_panel_has_a_unit_a_description_and_a_query(path: Path) -> None:
    for panel in FILES[path]["panels"]:
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert all(target["expr"] for target in panel["targets"])
        assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0]["value"] is None


def cells(panel: dict[str, t.Any]) -> set[tuple[int, int]]:
    """Return the cells of the grid that a panel covers."""
    place = panel["gridPos"]
    columns = range(place["x"], place["x"] + place["w"])
    return set(itertools.product(columns, range(place["y"], place["y"] + place["h"])))


@EACH
def test_panels_do_not_lie_on_each_other(path: Path) -> None:
    panels = FILES[path]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    covered = [cell for panel in panels for cell in cells(panel)]
    assert len(covered) == len(set(covered))
    assert max(x for x, _y in covered) < generate.WIDTH


@EACH
def test_it_follows_the_published_schema(path: Path) -> None:
    assert grafana_schema.problems(FILES[path]) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda page: page.update(titel="x"), "dashboard.titel: is not in the schema"),
        (lambda page: page.update(refresh=30), "dashboard.refresh: 30 is not"),
        (lambda page: page["panels"][0].update(type=5), "type_val: 5 is not"),
        (lambda page: page["panels"][0]["gridPos"].update(w="4"), "grid_pos.w: '4' is not"),
        (lambda page: page["panels"][0]["options"].update(colour="x"), "options.colour: is not in"),
        (
            lambda page: page["panels"][0]["targets"][0].update(range="yes"),
            "range_val: 'yes' is not",
        ),
        (lambda page: page["panels"][0]["options"].update(textMode="loud"), "'loud' is not"),
        (
            lambda page: page["panels"][0]["fieldConfig"]["defaults"].update(unit=1),
            "unit: 1 is not",
        ),
        (lambda page: page["templating"]["list"][0].update(type="choice"), "'choice' is not"),
    ],
)
def test_what_does_not_follow_the_schema_is_noticed(
    change: t.Callable[[dict[str, t.Any]], None], problem: str
) -> None:
    (page,) = (copy.deepcopy(page) for path, page in FILES.items() if path.stem == "overview")
    change(page)
    assert any(problem in found for found in grafana_schema.problems(page))
