"""docs/faults.md accumulates: what it says must be what was measured last, and a quick look may not replace proof."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from benchmarks import faults
from benchmarks.faults import FAULTS, Fault, main
from benchmarks.faults_doc import Ran, merge
from benchmarks.figures import Figure


def ran(number: int, value: float, options: str = "--only", note: str = "") -> Ran:
    figures = (Figure("slowest | trip", value, "s", "<= 1.05", note), Figure("starts", 0, "", "<= 0"))
    return Ran(number, f"fault {number}", "x9", f"{options} {number}", "2026-01-01 00:00", 7.4, "a machine", figures)


def rows(doc: Path, number: int) -> list[str]:
    return [line for line in doc.read_text().splitlines() if line.startswith(f"| {number} |")]


def test_a_run_replaces_its_own_rows_and_keeps_the_others(tmp_path: Path) -> None:
    doc = tmp_path / "faults.md"
    merge(doc, ran(11, 1.01))
    merge(doc, ran(2, 1.2))
    assert rows(doc, 2)[0] == "| 2 | fault 2 | x9 | slowest / trip | 1.2 s | <= 1.05 | **miss** |"
    assert rows(doc, 2)[1] == "| 2 |  |  | starts | 0 | <= 0 | ok |"
    assert rows(doc, 2)[2] == "| 2 | `--only 2` | 2026-01-01 00:00 | 7 s | a machine |"
    merge(doc, ran(2, 1.0, note="a | b"))
    assert "**miss**" not in doc.read_text()
    assert "(a / b)" in rows(doc, 2)[0]
    assert [len(rows(doc, number)) for number in (1, 2, 11)] == [0, 3, 3]
    assert doc.read_text().index("| 2 |") < doc.read_text().index("| 11 |")


def test_a_quick_run_never_replaces_a_full_one(tmp_path: Path) -> None:
    doc = tmp_path / "faults.md"
    assert merge(doc, ran(2, 0.5, "--quick --only"))
    assert merge(doc, ran(2, 0.6, "--quick --only"))
    assert merge(doc, ran(2, 0.7))
    before = doc.read_text()
    assert not merge(doc, ran(2, 0.8, "--quick --only"))
    assert doc.read_text() == before


def test_what_people_wrote_stays(tmp_path: Path) -> None:
    doc = tmp_path / "faults.md"
    merge(doc, ran(1, 1.0))
    notes = "\n## Notes\n\n| 1 | a table of theirs |\n\n## More\n\nwords\n"
    doc.write_text(doc.read_text() + notes)
    merge(doc, ran(2, 1.0))
    merge(doc, ran(1, 1.0))
    assert doc.read_text().endswith(notes)
    assert doc.read_text().count("## Notes") == 1


def command(monkeypatch: pytest.MonkeyPatch, doc: Path, *args: str, run: object = None) -> tuple[int, str]:
    def good() -> list[Figure]:
        return [Figure("starts", 0, "", "<= 0")]

    made = tuple(Fault(n, f"fault {n}", ("x9", run or good), ("x1", good)) for n in (1, 2))  # type: ignore[arg-type]
    monkeypatch.setattr(faults, "FAULTS", made)
    app = Typer()
    app.command()(main)
    done = CliRunner().invoke(app, [*args, "--doc", str(doc)])
    return done.exit_code, done.output


def test_a_miss_and_a_run_that_breaks_off_are_told_written_and_exit_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doc = tmp_path / "faults.md"
    assert command(monkeypatch, doc)[0] == 0
    assert len(rows(doc, 1)) == len(rows(doc, 2)) == 2
    code, said = command(monkeypatch, doc, "--only", "2", "--json", run=lambda: [Figure("starts", 1, "", "<= 0")])
    assert code == 1
    assert json.loads(said)[0] | {"machine": ""} == {
        "figure": "starts", "value": 1, "unit": "", "goal": "<= 0", "note": "",
        "fault": 2, "times": "x9", "ok": False, "machine": "",
    }  # fmt: skip
    assert "**miss**" in rows(doc, 2)[0]

    def broken() -> list[Figure]:
        raise AssertionError("not within 15 s: a good permit")

    assert command(monkeypatch, doc, "--only", "1", run=broken)[0] == 1
    assert "not within 15 s: a good permit" in rows(doc, 1)[0]


def test_a_number_that_is_no_fault_is_named(tmp_path: Path) -> None:
    app = Typer()
    app.command()(main)
    done = CliRunner().invoke(app, ["--only", "1,99", "--doc", str(tmp_path / "x.md")])
    assert done.exit_code != 0
    assert "99" in str(done.exception)


def test_every_fault_of_the_table_is_there_once() -> None:
    numbers = [fault.number for fault in FAULTS]
    assert numbers == sorted(set(numbers))
    assert set(range(1, 24)) <= set(numbers)
