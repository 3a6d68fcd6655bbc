"""The page of figures: made table by table, and none is lost when another is made again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import all as figures
from benchmarks.figures import Figure


def printed(path: Path, *made: Figure) -> Path:
    path.write_text(json.dumps([{**asdict(f), "ok": f.ok, "machine": "a machine"} for f in made]))
    return path


def test_one_table_is_made_again_and_the_others_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    doc = tmp_path / "figures.md"
    edge = printed(
        tmp_path / "edge.json", Figure("halt, p50", 1.4, "ms", "<= 1.5"), Figure("memory", 228.7, "MiB", "<= 200")
    )
    assert figures.main(["--only", "Edge", "--read", str(edge), "--doc", str(doc)]) == 1, "a miss fails the command"
    hub = printed(
        tmp_path / "hub.json", Figure("events lost", 0, "of 120000", "<= 0", "200 stations"), Figure("size", 3, "GiB")
    )
    assert figures.main(["--only", "Hub", "--read", str(hub), "--doc", str(doc)]) == 0
    text = doc.read_text()
    assert "| memory | 228.7 MiB | <= 200 MiB | **miss** |" in text
    assert "| events lost (200 stations) | 0 of 120000 | <= 0 of 120000 | ok |" in text
    assert "| size | 3 GiB |  |  |" in text
    assert text.index("## Edge") < text.index("## Hub") < text.index("## Sequential test")
    assert text.count(figures.NEVER) == len(figures.COMMANDS) - 2, "what was never run says so"

    (tmp_path / "broken.json").write_text("Traceback")
    assert figures.main(["--only", "Hub", "--read", str(tmp_path / "broken.json"), "--doc", str(doc)]) == 1
    assert "`haltline bench review` printed no figures: **not measured**" in doc.read_text()
    assert "| memory | 228.7 MiB" in doc.read_text()
    with pytest.raises(SystemExit):
        figures.main(["--only", "Cub"])
    assert "no table is called Cub" in capsys.readouterr().err
