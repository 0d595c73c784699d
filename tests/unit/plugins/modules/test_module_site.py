from __future__ import annotations

import typing as t

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import health
from ansible_collections.vedfolnir.stack.plugins.modules import site

Run = t.Callable[..., dict[str, t.Any]]
PAGE = {"url": "https://site.test:443/", "status": 200, "ok": True, "error": ""}


@pytest.mark.parametrize("check", [False, True])
def test_a_page_that_is_well(run_module: Run, monkeypatch: pytest.MonkeyPatch, check: bool) -> None:
    asked: list[t.Any] = []

    def ask(page: t.Any) -> dict[str, t.Any]:
        asked.append(page)
        return PAGE

    monkeypatch.setattr(health, "ask", ask)
    result = run_module(site.main, name="site.test", path="/", check=check)
    assert (result["changed"], result["problem"], result["site"]) == (False, "", PAGE)
    assert (asked[0]["address"], asked[0]["port"]) == ("site.test", 443)


def test_a_page_that_is_not_is_told_without_failing(
    run_module: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = PAGE | {"ok": False, "error": "answers 503"}
    monkeypatch.setattr(health, "ask", lambda _page: page)
    result = run_module(site.main, name="site.test", path="/", address="192.0.2.1", port=8443)
    assert not result.get("failed")
    assert result["problem"] == "From the controller: https://site.test:443/ answers 503"
