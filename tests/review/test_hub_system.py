"""The System page opens when things are broken; a backup can be put back, and a damaged one is refused."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from inspection.errors import ConfigError, InputError
from inspection.messages import Permit, Topics
from inspection.station_messages import About
from review import audit, backup, badges, people, system
from review.app import create_app
from review.cli import app as cli
from review.clock import wall_ms
from review.settings import Settings
from review.store import Record, ShiftNote, Station, Store
from tests.review.doors import BADGE, World, enter
from tests.review.factory import REPO, png, until

NOW = 1_800_000_000_000
TOPICS = Topics("p", "l", "s")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "hub")


def fill(world: World, frames: int = 3, received_ms: int = 0) -> list[str]:
    import numpy as np

    shas = [world.hub.frames.put(png(np.full((20, 20, 3), n, np.uint8))) for n in range(frames)]
    with world.hub.store.writing() as session:
        for n, sha in enumerate(shas):
            session.add(
                Record(
                    uid=f"{n:032x}", station_id=1, why=[], camera="cam", frame_id=n, ts_ms=NOW, call="pass", scores={},
                    findings=[], image=sha, heat=None, heat_to_frame=[], px_per_mm=10.0, width_px=20, height_px=20,
                    stages_ms={}, received_ms=received_ms + n,
                )
            )  # fmt: skip
    return shas


# ── backup and restore ──────────────────────────────────────────────────────────────────────────────────────────────


def test_what_was_backed_up_comes_back_and_its_log_holds(world: World, tmp_path: Path) -> None:
    shas = fill(world)
    badges.enrol(world.hub.store, world.hub.settings.badge_key(), "Olga", BADGE)
    made = backup.make(world.hub.settings, tmp_path / "out", NOW)
    world.hub.store.close()
    assert made.path.name == "2027-01-15T080000Z"
    assert (made.files, made.added) == (len(shas) + 5, len(shas))  # and database, cookie key, badge key, name, anchor
    restored = tmp_path / "again"
    assert backup.restore(made.path, restored) == backup.Restored(made.files)
    app = create_app(Settings(data_dir=restored))
    with app.state.hub.store.reading() as session:
        assert session.query(Record).count() == len(shas)
    assert [app.state.hub.frames.read(sha) for sha in shas] == [world.hub.frames.read(sha) for sha in shas]
    assert (restored / "secret").read_text() == (world.hub.settings.data_dir / "secret").read_text()
    for folder, key in ((made.path, "secret"), (restored, "secret"), (made.path, "badge_key"), (restored, "badge_key")):
        assert (folder / key).stat().st_mode & 0o777 == 0o600
    said = CliRunner().invoke(cli, ["audit", "verify", "--data", str(restored)])
    assert said.exit_code == 0, said.output
    client = TestClient(app, base_url="http://hub", follow_redirects=False)
    assert enter(client, "Olga", "402817").status_code == 303, "people, too"
    assert client.post("/who/badge", data={"read": BADGE}).status_code == 303, "and their badges"


def test_a_second_backup_adds_only_what_is_new(world: World, tmp_path: Path) -> None:
    fill(world, 2)
    out = tmp_path / "out"
    assert backup.make(world.hub.settings, out, NOW).added == 2
    world.hub.frames.put(b"\x89PNG a third")
    second = backup.make(world.hub.settings, out, NOW + 60_000)
    assert (second.added, second.files) == (1, 8)
    newest = backup.newest(out, NOW + 60_000)
    assert newest
    assert (newest.path, newest.at_ms, newest.files) == (second.path, NOW + 60_000, 8)
    assert backup.newest(tmp_path / "nowhere", NOW) is None


def test_a_backup_made_while_the_clock_was_ahead_hides_none_made_since(world: World, tmp_path: Path) -> None:
    """The System page named it for as long, and was content, whether or not another was ever made."""
    out, ahead = tmp_path / "out", NOW + 400 * 24 * 3600 * 1000
    early = backup.make(world.hub.settings, out, ahead)
    assert backup.newest(out, NOW) == replace(early, added=0), "where there is no other"
    late = backup.make(world.hub.settings, out, NOW)
    assert backup.newest(out, NOW) == replace(late, added=0)
    assert backup.newest(out, ahead) == replace(early, added=0)


def test_two_backups_of_one_second_are_two(world: World, tmp_path: Path) -> None:
    """The button and the command, or a hasty finger; a third one, that is being made, is in nobody's way."""
    fill(world, 1)
    out = tmp_path / "out"
    third = out / "2027-01-15T080002Z.part"
    third.mkdir(parents=True)
    lock = os.open(third, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    made = [backup.make(world.hub.settings, out, NOW + ms) for ms in (0, 400, 900)]
    assert [b.path.name[-6:] for b in made] == ["80000Z", "80001Z", "80003Z"]
    assert third.exists()
    os.close(lock)
    assert len({b.files for b in made}) == 1
    newest = backup.newest(out, NOW + 60_000)
    assert newest
    assert newest.path == made[-1].path
    for n, one in enumerate(made):
        assert backup.restore(one.path, tmp_path / f"again-{n}").files == one.files


def test_what_a_killed_backup_had_copied_goes_with_the_next(world: World, tmp_path: Path) -> None:
    fill(world, 1)
    out = tmp_path / "out"
    code = f"""
import os, signal, sys
from pathlib import Path
from review import backup
from review.settings import Settings
sys.addaudithook(lambda event, args: event == "open" and str(args[0]).endswith("files.jsonl")
                 and os.kill(os.getpid(), signal.SIGKILL))
backup.make(Settings(data_dir=Path({str(world.hub.settings.data_dir)!r})), Path({str(out)!r}), {NOW})
"""
    killed = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (out / "2027-01-15T080000Z.part" / "hub.db").exists()
    made = backup.make(world.hub.settings, out, NOW)
    assert sorted(path.name for path in out.iterdir()) == [made.path.name, "pool"]


def test_a_bundle_that_is_being_uploaded_is_in_no_backup(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it keep one from being made, when it gets its name while the backup reads."""
    bundles = world.hub.settings.bundles_dir
    arriving, there = bundles / ".new-x", bundles / "scratch-0.1.0"
    for folder in (arriving, there):
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(bytes(9))
    read = backup._sha256

    def arrives(path: Path) -> str:
        if arriving.exists():
            arriving.rename(bundles / "weld-0.1.0")
        return read(path)

    monkeypatch.setattr(backup, "_sha256", arrives)
    made = backup.make(world.hub.settings, tmp_path / "out", NOW)
    backup.restore(made.path, tmp_path / "again")
    assert (tmp_path / "again" / "bundles" / "scratch-0.1.0" / "model.onnx").exists()
    assert not (tmp_path / "again" / "bundles" / ".new-x").exists()


def test_a_backup_made_while_others_write_is_whole(world: World, tmp_path: Path) -> None:
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            with world.hub.store.writing() as session:
                session.add(ShiftNote(by="Olga", at_ms=NOW, text="x" * 2000))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        time.sleep(0.3)
        made = backup.make(world.hub.settings, tmp_path / "out", NOW)
    finally:
        stop.set()
        writer.join()
    backup.restore(made.path, tmp_path / "again")
    store = Store(f"sqlite:///{tmp_path / 'again' / 'hub.db'}")
    with store.reading() as session:
        notes = session.query(ShiftNote).count()
    assert notes > 0
    assert sum(link.what == "shift_note" for link in audit.links(store)) == notes, "each act with its row"
    store.close()


@pytest.mark.parametrize("damage", ["flipped", "gone", "list", "outside"])
def test_a_damaged_backup_is_refused_and_puts_nothing_there(world: World, tmp_path: Path, damage: str) -> None:
    sha = fill(world, 1)[0]
    made = backup.make(world.hub.settings, tmp_path / "out", NOW)
    frame, listed = tmp_path / "out" / "pool" / sha[:2] / sha, made.path / "files.jsonl"
    if damage == "flipped":
        data = frame.read_bytes()
        frame.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "gone":
        frame.unlink()
    else:
        row = {"path": "../../evil", "bytes": 1, "sha256": "0" * 64}
        listed.write_text(listed.read_text() + (json.dumps(row) if damage == "outside" else "{") + "\n")
    with pytest.raises(InputError, match=r"is damaged|is missing|does not read|leads out"):
        backup.restore(made.path, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def flip(path: Path) -> None:
    """A bit of its middle, as a disk does it: the same size, the same inode."""
    data = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(len(data) // 2)
        file.write(bytes([data[len(data) // 2] ^ 1]))


def test_a_frame_that_rots_after_a_backup_does_not_rot_in_the_backup(world: World, tmp_path: Path) -> None:
    sha = fill(world)[0]
    live, out = world.hub.settings.frames_dir / sha[:2] / sha, world.hub.settings.data_dir / "backups"
    whole = live.read_bytes()
    first = backup.make(world.hub.settings, out, NOW)
    flip(live)
    backup.restore(first.path, tmp_path / "again")
    assert (tmp_path / "again" / "frames" / sha[:2] / sha).read_bytes() == whole


def test_a_damaged_frame_is_named_by_the_backup_and_the_rest_can_be_restored(world: World, tmp_path: Path) -> None:
    sha, *others = fill(world)
    flip(world.hub.settings.frames_dir / sha[:2] / sha)
    data, out = str(world.hub.settings.data_dir), world.hub.backups.folder
    said = CliRunner().invoke(cli, ["backup", "--data", data, "--out", str(out)])
    assert said.exit_code == 1
    assert f"frames/{sha[:2]}/{sha}" in said.output
    page = world.client("Eve").get("/system").text
    assert "1 frame on the hub's disk is damaged" in page
    assert sha in page
    folder, again = said.output.split(":")[0], tmp_path / "again"
    refused = CliRunner().invoke(cli, ["restore", folder, "--data", str(again)])
    assert refused.exit_code == 2
    assert "--without-damaged" in refused.output
    done = CliRunner().invoke(cli, ["restore", folder, "--data", str(again), "--without-damaged"])
    assert done.exit_code == 0, done.output
    assert f"frames/{sha[:2]}/{sha}" in done.output
    frames = create_app(Settings(data_dir=again)).state.hub.frames
    assert not frames.exists(sha)
    assert all(frames.exists(other) for other in others)


def test_what_an_earlier_backup_kept_whole_is_restored(world: World, tmp_path: Path) -> None:
    sha = fill(world)[0]
    live, out = world.hub.settings.frames_dir / sha[:2] / sha, tmp_path / "out"
    backup.make(world.hub.settings, out, NOW)
    live.write_bytes(b"cut short by a full disk")
    second = backup.make(world.hub.settings, out, NOW + 60_000)
    newest = backup.newest(out, NOW + 60_000)
    assert newest
    assert second.damaged == newest.damaged == (f"frames/{sha[:2]}/{sha}",)
    assert backup.restore(second.path, tmp_path / "again").missing == ()
    live.write_bytes((out / "pool" / sha[:2] / sha).read_bytes())
    assert backup.make(world.hub.settings, out, NOW + 120_000).damaged == (), "mended from there"


def test_a_damaged_frame_is_named_until_it_is_mended(world: World, tmp_path: Path) -> None:
    sha = fill(world)[0]
    backup.make(world.hub.settings, tmp_path / "out", NOW)
    flip(world.hub.settings.frames_dir / sha[:2] / sha)
    found = [backup.make(world.hub.settings, tmp_path / "out", NOW + n * 60_000).damaged for n in range(1, 35)]
    first = found.index((f"frames/{sha[:2]}/{sha}",))
    assert first < 256 // backup.IN_TURN
    assert set(found[first:]) == {(f"frames/{sha[:2]}/{sha}",)}


def test_every_frame_of_the_pool_is_read_in_its_turn_and_replaced_where_it_is_bad(world: World, tmp_path: Path) -> None:
    sha, short = fill(world, 2)
    out = tmp_path / "out"
    first = backup.make(world.hub.settings, out, NOW)
    flip(out / "pool" / sha[:2] / sha)
    (out / "pool" / short[:2] / short).write_bytes(b"")
    assert backup.make(world.hub.settings, out, NOW + 60_000).added >= 1, "another size is seen at once"
    for n in range(2, 2 + 256 // backup.IN_TURN):
        made = backup.make(world.hub.settings, out, NOW + n * 60_000)
        assert made.damaged == ()
    for one in (first, made):
        assert backup.restore(one.path, tmp_path / f"again-{one.path.name}").missing == ()


def test_links_that_backups_were_once_made_of_become_copies_in_their_turn(world: World) -> None:
    sha = fill(world, 1)[0]
    live, out = world.hub.settings.frames_dir / sha[:2] / sha, world.hub.backups.folder
    pooled = out / "pool" / sha[:2] / sha
    pooled.parent.mkdir(parents=True)
    pooled.hardlink_to(live)
    for n in range(256 // backup.IN_TURN):
        backup.make(world.hub.settings, out, NOW + n * 60_000)
    assert not pooled.samefile(live)
    assert pooled.read_bytes() == live.read_bytes()


@pytest.mark.parametrize("damage", ["flipped", "gone"])
def test_a_damaged_database_is_never_left_out(world: World, tmp_path: Path, damage: str) -> None:
    fill(world, 1)
    made = backup.make(world.hub.settings, tmp_path / "out", NOW)
    flip(made.path / "hub.db") if damage == "flipped" else (made.path / "hub.db").unlink()
    with pytest.raises(InputError, match=r"hub.db: is (damaged|missing)"):
        backup.restore(made.path, tmp_path / "again", without_damaged=True)
    assert not (tmp_path / "again").exists()


def test_a_restore_never_writes_over_a_hub(world: World, tmp_path: Path) -> None:
    made = backup.make(world.hub.settings, tmp_path / "out", NOW)
    with pytest.raises(InputError, match="holds a hub already"):
        backup.restore(made.path, world.hub.settings.data_dir)
    with pytest.raises(InputError, match="no complete backup"):
        backup.restore(tmp_path, tmp_path / "again")


@pytest.mark.parametrize(
    "left", ["hub.db-wal", "hub.db-shm", "hub.db-journal", "audit.anchor", "secret", "frames", "bundles"]
)
def test_a_restore_never_mixes_with_what_is_left_of_a_hub(world: World, tmp_path: Path, left: str) -> None:
    made = backup.make(world.hub.settings, tmp_path / "out", NOW)
    (tmp_path / "rest").mkdir()
    if left in backup.FOLDERS:
        (tmp_path / "rest" / left).mkdir()
    else:
        (tmp_path / "rest" / left).write_bytes(b"")
    with pytest.raises(InputError, match=f"holds a hub already.*: {left}\n.*move all of these away"):
        backup.restore(made.path, tmp_path / "rest")
    assert [path.name for path in (tmp_path / "rest").iterdir()] == [left]


def test_the_log_of_a_hub_that_lost_its_power_is_not_played_into_a_backup(world: World, tmp_path: Path) -> None:
    """hub.db is broken, somebody removes it and restores into the same folder."""
    made = backup.make(world.hub.settings, tmp_path / "out", NOW)
    for n in range(50):
        with world.hub.store.writing() as session:
            session.add(ShiftNote(by="Olga", at_ms=n, text="x" * 2000))
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    (crashed / "hub.db-wal").write_bytes((world.hub.settings.data_dir / "hub.db-wal").read_bytes())
    assert (crashed / "hub.db-wal").stat().st_size > 100_000
    with pytest.raises(InputError, match=r"what is left of one: hub\.db-wal"):
        backup.restore(made.path, crashed)


def test_a_restore_onto_a_full_disk_says_so_and_a_second_try_works(world: World, tmp_path: Path) -> None:
    fill(world)
    big = world.hub.frames.put(random.Random(1).randbytes(3_000_000))
    made = backup.make(world.hub.settings, tmp_path / "out", NOW)
    again = tmp_path / "again"
    restore = ["from review.cli import app", f"app(['restore', {str(made.path)!r}, '--data', {str(again)!r}])"]
    full = ["import resource", "resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000,) * 2)"]
    said = subprocess.run([sys.executable, "-c", "\n".join(full + restore)], cwd=REPO, capture_output=True, text=True)
    assert said.returncode == 2
    assert said.stderr.startswith(f"haltline review: nothing was restored into {again}: ")
    assert "fix: make room" in said.stderr
    assert not again.exists()
    assert backup.restore(made.path, again).files == made.files
    assert (again / "frames" / big[:2] / big).stat().st_size == 3_000_000


@pytest.mark.parametrize("when", ["it copies", "all but the database is in its place"])
def test_a_restore_that_is_killed_leaves_no_hub_and_a_second_try_works(world: World, tmp_path: Path, when: str) -> None:
    sha = sorted(fill(world))[1]
    made = backup.make(world.hub.settings, tmp_path / "out", NOW)
    again = tmp_path / "again"
    copies = f'event == "open" and str(args[0]).endswith("{sha}") and args[2] & os.O_WRONLY'
    moves = f'event == "os.rename" and str(args[1]) == {str(again / "hub.db")!r}'
    code = f"""
import os, signal, sys
from pathlib import Path
from review import backup
sys.addaudithook(lambda event, args: {copies if when == "it copies" else moves}
                 and os.kill(os.getpid(), signal.SIGKILL))
backup.restore(Path({str(made.path)!r}), Path({str(again)!r}))
"""
    killed = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (again / "frames").exists() == (when != "it copies")
    assert not (again / "hub.db").exists(), "no hub would open without its pictures"
    assert backup.restore(made.path, again).files == made.files
    assert not list(again.glob("restore.*"))
    assert backup.make(Settings(data_dir=again), tmp_path / "out", NOW).files == made.files


def test_a_folder_with_nothing_of_a_hub_is_a_new_one(world: World, tmp_path: Path) -> None:
    """A disk of its own has a lost+found."""
    made = backup.make(world.hub.settings, tmp_path / "out", NOW)
    (tmp_path / "disk" / "lost+found").mkdir(parents=True)
    assert backup.restore(made.path, tmp_path / "disk").missing == ()


def test_a_database_elsewhere_is_named_with_its_own_tool(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pg_dump"):
        backup.make(Settings(data_dir=tmp_path, database_url="postgresql+psycopg://h/db"), tmp_path / "out", NOW)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("there", ["no folder", "no database", "an empty one"])
@pytest.mark.parametrize("command", [["backup"], ["audit", "verify"], ["audit", "export", "OUT"]])
def test_where_there_is_no_hub_nothing_succeeds_and_none_is_made(
    tmp_path: Path, command: list[str], there: str
) -> None:
    typo = tmp_path / "ty #1 po"  # a character that means something in SQLite's addresses
    if there != "no folder":
        typo.mkdir()
    if there == "an empty one":
        (typo / "hub.db").touch()
    before = sorted(tmp_path.rglob("*"))
    command = [str(tmp_path / "out") if part == "OUT" else part for part in command]
    said = CliRunner().invoke(cli, [*command, "--data", str(typo)])
    assert said.exit_code == 2, said.output
    assert ("is no hub's database" if there == "an empty one" else "holds no hub.db") in said.output
    assert "name the hub's data folder" in said.output
    assert "sqlalche" not in said.output
    assert sorted(tmp_path.rglob("*")) == before


def test_the_folder_of_a_hub_on_postgresql_is_told_from_a_wrong_one(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    said = CliRunner().invoke(cli, ["backup", "--data", str(tmp_path)])
    assert (said.exit_code, "pg_dump backs up PostgreSQL" in said.output) == (2, True)


def test_a_hub_in_a_folder_with_odd_characters_is_backed_up(tmp_path: Path) -> None:
    odd = World(tmp_path / "hub #1")
    sha = fill(odd, 1)[0]
    made = backup.make(odd.hub.settings, tmp_path / "out", NOW)
    backup.restore(made.path, tmp_path / "again")
    assert create_app(Settings(data_dir=tmp_path / "again")).state.hub.frames.read(sha) == odd.hub.frames.read(sha)


def test_the_two_commands(world: World, tmp_path: Path) -> None:
    world.hub.store.close()
    data = str(world.hub.settings.data_dir)
    made = CliRunner().invoke(cli, ["backup", "--data", data, "--out", str(tmp_path / "out")])
    assert made.exit_code == 0, made.output
    folder = made.output.split(":")[0]
    back = CliRunner().invoke(cli, ["restore", folder, "--data", str(tmp_path / "again")])
    assert back.exit_code == 0, back.output
    again = CliRunner().invoke(cli, ["restore", folder, "--data", str(tmp_path / "again")])
    assert again.exit_code == 2
    with sqlite3.connect(tmp_path / "again" / "hub.db") as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_backup_that_fails_says_why_in_one_line(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.hub.backups.folder.write_text("a file where the folder should be")
    assert world.client("Eve").post("/system/backup", headers={"HX-Request": "true"}).status_code == 200
    until(lambda: world.hub.backups.failed, 10)
    until(lambda: not world.hub.backups.running_since_ms, 10)
    said = capsys.readouterr().out
    assert f"no backup was made below {world.hub.backups.folder}" in said
    assert "Traceback" not in said


def test_the_button_makes_one_and_the_log_says_who(world: World) -> None:
    eve = world.client("Eve")
    assert eve.post("/system/backup", headers={"HX-Request": "true"}).status_code == 200
    until(lambda: not world.hub.backups.running_since_ms, 10)
    assert world.hub.backups.failed == ""
    assert [(a.who, a.what) for a in audit.links(world.hub.store)][-1] == ("Eve", "backup_made")
    assert "2 files" not in eve.get("/system").text
    newest = backup.newest(world.hub.backups.folder, wall_ms())
    assert newest
    assert newest.path.name[:4] in ("2026", "2027", "2028")


# ── the page ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_days_left_follow_the_pace_of_the_newest_records(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    day = 24 * 3_600_000
    fill(world, 3, NOW - day)
    monkeypatch.setattr(system, "wall_ms", lambda: NOW)
    disk = system.view(world.hub).disk
    assert disk
    size = sum((world.hub.settings.frames_dir / sha[:2] / sha).stat().st_size for sha in _shas(world)) / 3
    assert disk.per_day_bytes == pytest.approx(3 * size)
    assert disk.days_left == pytest.approx(disk.free_bytes / (3 * size))
    assert disk.short == (disk.free_bytes < disk.total_bytes / 20)


def _shas(world: World) -> list[str]:
    with world.hub.store.reading() as session:
        return [record.image or "" for record in session.query(Record)]


def test_nothing_written_is_no_pace(world: World) -> None:
    disk = system.view(world.hub).disk
    assert disk
    assert (disk.per_day_bytes, disk.days_left) == (0.0, None)


def test_what_an_edge_really_runs_on_and_its_clock(world: World) -> None:
    model = {"bundle": "weld-1.0.0", "asked_for": "CUDAExecutionProvider", "runs_on": "CPUExecutionProvider"}
    facts = {
        "model": {**model, "runs_how": "", "golden_error": 0},
        "machine": {},
        "cameras": {"cam1": {"type": "video"}},
        "state": {"trouble": "No space left on device"},
        "broker": {"refuses": "hear cmd/stop"},
    }
    about = About(
        boot=1, facts=facts, config={}, disk_free_bytes=1, spool_pending=0, spool_bytes=0, spool_quota_bytes=1, ts_ms=1
    )
    permit = {"boot": 1, "seq": 1, "run": 1, "code": 0, "halt": 0, "echo": 0, "age_ms": 1}
    live = world.hub.live
    live.about(TOPICS, about, time.monotonic_ns())
    live.permit(TOPICS, Permit.model_validate(permit | {"ts_ms": wall_ms() + 9000}), time.monotonic_ns())
    (edge,) = (e for e in system.view(world.hub).edges if e.now.topics == TOPICS)
    assert edge.not_as_asked
    assert edge.skewed
    assert [name for name, _, _ in edge.cameras] == ["cam1"]
    page = world.client("Eve").get("/system").text
    assert "asked for CUDAExecutionProvider" in page
    assert "an open halt would not outlive a restart: No space left on device" in page
    assert "the broker does not let this edge: hear cmd/stop" in page
    live.permit(TOPICS, Permit.model_validate(permit | {"ts_ms": wall_ms() - 100}), time.monotonic_ns())
    (edge,) = (e for e in system.view(world.hub).edges if e.now.topics == TOPICS)
    assert not edge.skewed


def test_configuration_is_for_engineers(world: World) -> None:
    facts = {
        "model": {"bundle": "b", "asked_for": "x", "runs_on": "x", "runs_how": "", "golden_error": 0},
        "machine": {},
    }
    about = About(
        boot=1, facts=facts, config={"mqtt": {"host": "broker.plant"}}, disk_free_bytes=1, spool_pending=0,
        spool_bytes=0, spool_quota_bytes=1, ts_ms=1,
    )  # fmt: skip
    world.hub.live.about(TOPICS, about, 1)
    assert "broker.plant" in world.client("Eve").get("/system").text
    for name in ("", "Olga", "Ian"):
        said = world.client(name).get("/system").text
        assert "broker.plant" not in said
        assert str(world.hub.backups.folder) not in said


def test_a_disk_that_is_full_is_said_before_something_is_not_stored(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "disk" not in world.client().get("/healthz").json()
    monkeypatch.setattr(system, "FULL_BYTES", 2**70)
    answer = world.client().get("/healthz")
    assert (answer.status_code, "MiB are free for" in answer.json()["disk"]) == (503, True)
    page = world.client().get("/system").text
    assert "what still fits is kept; then new records wait" in page


def test_without_a_database_the_page_opens_in_safe_mode(world: World) -> None:
    eve = world.client("Eve")
    assert "SAFE MODE" in eve.get("/system").text, "there is no broker here"
    world.hub.store.close()
    world.hub.settings.data_dir.joinpath("hub.db").write_bytes(b"no database at all, " * 500)
    for name in ("hub.db-wal", "hub.db-shm"):
        world.hub.settings.data_dir.joinpath(name).unlink(missing_ok=True)
    answer = eve.get("/system")
    assert answer.status_code == 200
    assert "Database" in answer.text
    assert "the line stays guarded" in answer.text
    assert eve.get("/healthz").status_code == 503


def test_a_camera_test_without_a_broker_says_so(world: World) -> None:
    world.hub.live.know(TOPICS)
    olga = world.client("Olga")
    form = {"station": "p~l~s", "camera": "cam1"}
    answer = olga.post("/system/cameras/test", data=form, headers={"HX-Request": "true"})
    assert answer.status_code == 409
    assert "lost the broker" in answer.text
    assert olga.post("/system/cameras/test", data={"station": "x", "camera": "c"}).status_code == 404


def test_people_stay_after_people_are_added(tmp_path: Path) -> None:
    """A backup of a hub that nobody has used yet is one too."""
    settings = Settings(data_dir=tmp_path / "hub")
    store = Store(f"sqlite:///{tmp_path / 'hub' / 'hub.db'}")
    store.migrate()
    people.add_person(store, "Olga", "operator")
    with store.writing() as session:
        session.add(Station(site="a", line="b", station="c"))
    store.close()
    made = backup.make(settings, tmp_path / "out", NOW)
    assert made.files == 1
