"""docs/edge.md is what the code takes: a setting nobody described, or a page nobody remade, fails here."""

from __future__ import annotations

from deploy.config_docs import PAGE, page, undocumented


def test_every_setting_is_described() -> None:
    assert undocumented() == []


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m deploy.config_docs"
