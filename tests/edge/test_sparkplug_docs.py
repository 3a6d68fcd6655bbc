"""docs/sparkplug.md claims nothing that no test shows."""

from __future__ import annotations

import re
from pathlib import Path

from edge.line.sparkplug import CAMERA, GONE_S

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "sparkplug.md").read_text(encoding="utf-8")
TESTS = Path(__file__).with_name("test_sparkplug.py").read_text(encoding="utf-8")


def test_every_test_that_the_table_names_exists_and_every_test_is_in_the_table() -> None:
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", PAGE))
    there = set(re.findall(r"^def (test_[a-z0-9_]+)", TESTS, re.MULTILINE))
    assert named <= there
    assert there - named == {"test_an_edge_with_sparkplug_tells_a_host_and_stops_the_line_as_ever"}


def test_the_page_names_what_is_sent() -> None:
    assert all(f"`{name}`" in PAGE for name in CAMERA)
    assert f"no frame for {GONE_S:.0f} s" in PAGE
