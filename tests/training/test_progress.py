"""A command of hours that runs into a file says how far it is."""

from __future__ import annotations

import pytest

from training import progress


def test_where_no_bar_can_move_it_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress.progress_bar() as bar:
        task = bar.add_task("fold 1 of 5", total=10)
        bar.advance(task)
        bar.advance(task)
        assert "/10" not in capsys.readouterr().out, "a line for each step would fill the file"
        monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
        bar.update(task, completed=4, description="fold 2 of 5")
        assert "fold 2 of 5" in (said := capsys.readouterr().out)
        assert said.count("4/10") == 1


def test_a_bar_that_is_not_shown_says_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    with progress.progress_bar(shown=False) as bar:
        task = bar.add_task("loading", total=2)
        bar.advance(task)
        bar.advance(task)
    assert capsys.readouterr().out.strip() == ""
