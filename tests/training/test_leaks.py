"""Pictures of one scene are found by their pixels, groups follow, and a split that crosses them is refused."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from inspection.errors import DatasetError
from tests.training.pictures import SCRATCH, Folder, picture
from training.dataset import alike as room
from training.dataset.alike import MIRRORS, Pair, alike, joined
from training.dataset.build import Looking, Shares, build
from training.dataset.commands import dataset
from training.dataset.item import Target
from training.dataset.labelled import import_labelled, import_snapshot
from training.dataset.leaks import agreement, claims, look, proxy_ap
from training.dataset.snapshot import Snapshot, read_snapshot, verify

REAL = Path(os.environ.get("HALTLINE_DATA", Path(__file__).parents[2] / "../shared/data"))


def scene(seed: int, size: tuple[int, int] = (120, 160)) -> np.ndarray:
    """A picture with structure at several scales, as metal has."""
    rng, grey = np.random.default_rng(seed), np.zeros(size, np.float32)
    for cell in (6, 12, 30):
        small = rng.normal(0, 18, (size[0] // cell + 2, size[1] // cell + 2)).astype(np.float32)
        grey += np.asarray(cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC))
    return np.clip(110 + grey, 0, 255).astype(np.uint8)


def again(grey: np.ndarray, gain: float = 1.0, shift: int = 0, seed: int = 0) -> np.ndarray:
    """The same scene at another exposure, moved, with new noise and light that falls off to one side."""
    moved = np.roll(grey.astype(np.float32), shift, 1)
    light = np.linspace(0.8, 1.2, grey.shape[1], dtype=np.float32)
    noise = np.random.default_rng((seed, 7)).normal(0, 2, grey.shape)
    return np.clip(moved * gain * light + noise, 0, 255).astype(np.uint8)


def pairs_of(pictures: list[np.ndarray]) -> list[Pair]:
    return alike(len(pictures), lambda k: pictures[k])


def test_strangers_are_not_alike() -> None:
    assert pairs_of([scene(seed) for seed in range(30)]) == []
    assert pairs_of([np.full((60, 80), v, np.uint8) for v in (0, 90, 90, 255)]) == [], "flat pictures show nothing"
    assert pairs_of([]) == []
    assert pairs_of([scene(1)]) == []


@pytest.mark.parametrize(("gain", "shift"), [(1.0, 0), (0.4, 0), (1.8, 0), (1.0, 3), (0.6, -4)])
def test_another_exposure_or_place_is_the_same_scene(gain: float, shift: int) -> None:
    pictures = [*(scene(seed) for seed in range(8)), again(scene(3), gain, shift)]
    found = pairs_of(pictures)
    assert [(p.a, p.b, p.mirror) for p in found] == [(3, 8, "")]
    assert found[0].likeness > 0.6


def test_crops_that_overlap_are_the_same_scene() -> None:
    wide = scene(5, (120, 220))
    left, right = wide[:, :160], wide[:, 12:172]
    found = pairs_of([*(scene(seed) for seed in range(20, 26)), left, again(right, 0.8)])
    assert [(p.a, p.b) for p in found] == [(6, 7)]
    assert 0.8 < found[0].overlap < 1.0


@pytest.mark.parametrize("mirror", list(MIRRORS))
def test_half_of_the_products_say_what_all_of_them_do(mirror: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that end in the middle, thumbnails with and without an empty rim, groups; against every shift of every
    pair."""
    monkeypatch.setattr(room, "_BLOCK", 7)
    rng, reach, keep = np.random.default_rng(3), 1 if mirror else 2, 5
    thumbs = np.zeros((24, 40, 40), np.float32)
    thumbs[:, 5:35, 2:38] = rng.normal(size=(24, 30, 36))
    thumbs[9, 2:, :] = thumbs[8, :-2, :]
    thumbs[17] = thumbs[3][MIRRORS[mirror]]
    thumbs /= np.linalg.norm(thumbs, axis=(1, 2), keepdims=True)
    own = np.arange(24) // 2
    turned = thumbs[:, *MIRRORS[mirror]]
    shifts = [(y, x) for y in range(-reach, reach + 1) for x in range(-reach, reach + 1)]
    every = np.max([np.einsum("nyx,myx->nm", np.roll(thumbs, s, (1, 2)), turned) for s in shifts], 0)
    every[own[:, None] == own[None]] = -1
    near, who = room._nearest(thumbs, own, mirror, keep)
    assert np.sort(near) == pytest.approx(np.sort(every)[:, -keep:], abs=1e-6)
    assert near == pytest.approx(np.take_along_axis(every, who, 1), abs=1e-6)
    assert all(len(set(row)) == keep for row in who)
    few, _ = room._nearest(thumbs[:3], own[:3], mirror, 2)
    assert (few == -1).sum() == 2, "two of one group: each has one other, the third has both"


def test_mirrored_pictures_are_found_and_say_how() -> None:
    for turned, how in ((scene(2)[:, ::-1], "mirrored"), (scene(2)[::-1], "upside down")):
        found = pairs_of([scene(1), scene(2), np.ascontiguousarray(turned)])
        assert [(p.a, p.b, p.mirror) for p in found] == [(1, 2, how)]
    assert pairs_of([scene(2), np.ascontiguousarray(scene(2)[::-1, ::-1])])[0].mirror == "turned by 180"


def test_the_same_file_saved_again_is_told_from_the_same_scene() -> None:
    jpeg = cv2.imdecode(cv2.imencode(".jpg", scene(4), [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_GRAYSCALE)
    found = pairs_of([scene(1), scene(4), np.asarray(jpeg), again(scene(1), 0.7, 4)])
    assert {(p.a, p.b): p.same_file for p in found} == {(1, 2): True, (0, 3): False}


def test_chains_become_one_group() -> None:
    assert joined(5, [(0, 3), (3, 4)]) == [0, 1, 2, 0, 0]
    assert joined(3, []) == [0, 1, 2]


def folder_of_bursts(root: Path, splits: list[str | None], bursts: int = 6, each: int = 3) -> Folder:
    """`bursts` scenes of `each` pictures, every picture a group of its own; every other scene has a defect."""
    made = Folder(root / "labelled")
    for b in range(bursts):
        for e in range(each):
            grey = again(scene(b), 0.6 + 0.3 * e, e, seed=10 * b + e)
            mask = np.zeros(grey.shape, np.uint8)
            if b % 2:
                mask[50:54, 40:80] = 1
            made.add(
                np.repeat(grey[..., None], 3, 2),
                mask,
                labels=["scratch"] if b % 2 else [],
                split=splits[(b * each + e) % len(splits)],
            )
    return made


def made_from(folder: Folder, out: Path, looking: Looking = Looking.JOIN) -> Snapshot:
    target = Target(SCRATCH.task, SCRATCH)
    build(import_labelled(folder.root, target), out, target, Shares(), ("x",), looking)
    return read_snapshot(out)


def test_import_joins_the_groups_of_one_scene(tmp_path: Path) -> None:
    found = made_from(folder_of_bursts(tmp_path, [None]), tmp_path / "s")
    assert len({s.group for s in found.samples}) == 6
    note = found.manifest.leaks
    assert note is not None
    assert (note.joined, note.crossing, note.forced) == (12, 0, False)
    assert note.pairs >= 12
    verify(tmp_path / "s")


def names_dealt(*splits: str) -> list[str]:
    """Names in alphabetical order that are dealt so."""
    names = iter(f"shot-{n:03}" for n in range(999))
    return [next(name for name in names if Shares().of(name) == split) for split in splits]


def test_one_more_picture_of_a_scene_does_not_move_it(tmp_path: Path) -> None:
    names, made = names_dealt("test", "train"), []
    for count in (1, 3):
        folder = Folder(tmp_path / f"labelled-{count}")
        for k, group in enumerate([*names[:1] * 2, *names[1:] * count]):
            folder.add(np.repeat(again(scene(1), 0.6 + 0.2 * k, k, seed=k)[..., None], 3, 2), None, group=group)
        made.append(made_from(folder, tmp_path / f"s-{count}"))
    assert [{(s.group, s.split) for s in snapshot.samples} for snapshot in made] == [{(names[0], "test")}] * 2


def test_a_scene_of_the_old_test_keeps_its_part_whatever_its_new_pictures_are_called(tmp_path: Path) -> None:
    newer, older = names_dealt("train", "test")
    old, new = Folder(tmp_path / "old"), Folder(tmp_path / "new")
    old.add(np.repeat(scene(1)[..., None], 3, 2), None, group=older)
    new.add(np.repeat(again(scene(1), 0.6, 2)[..., None], 3, 2), None, group=newer)
    made_from(old, tmp_path / "first")
    target = Target(SCRATCH.task, SCRATCH)
    items = [*import_labelled(new.root, target), *import_snapshot(tmp_path / "first", target)]
    build(items, tmp_path / "next", target, Shares(), ("x",))
    assert [s.split for s in read_snapshot(tmp_path / "next").samples] == ["test", "test"]


def test_a_split_across_a_scene_is_refused_unless_forced(tmp_path: Path) -> None:
    folder = folder_of_bursts(tmp_path, ["train", "val", "test"])
    with pytest.raises(DatasetError, match=r"(?s)shows the same scene as .*--force-split"):
        made_from(folder, tmp_path / "s")
    assert not (tmp_path / "s").exists()
    forced = made_from(folder, tmp_path / "forced", Looking.FORCE)
    note = forced.manifest.leaks
    assert note is not None
    assert note.forced
    assert note.crossing >= 12
    assert {s.split for s in forced.samples} == {"train", "val", "test"}
    assert made_from(folder, tmp_path / "blind", Looking.SKIP).manifest.leaks is None


def test_the_report_says_what_a_leaky_split_would_have_claimed(tmp_path: Path) -> None:
    snapshot = made_from(folder_of_bursts(tmp_path, ["train", "test"], bursts=40), tmp_path / "s", Looking.FORCE)
    leaks = look(snapshot.folder, snapshot.samples)
    assert leaks.bursts == 40
    spoilt, test = leaks.spoilt()
    assert (spoilt, test) == (60, 60)
    claim = claims(snapshot, leaks)[0]
    assert claim.by_picture > 0.95
    assert claim.by_proposed_group < 0.8
    result = CliRunner().invoke(dataset, ["leaks", str(tmp_path / "s"), "--fail"], env={"COLUMNS": "200"})
    assert result.exit_code == 1
    assert "60 of 60 test pictures (100.0%)" in result.output
    assert "by proposed group" in result.output


def test_proposed_groups_are_a_table_whatever_a_group_is_called(tmp_path: Path) -> None:
    named = ['part 1, "left"', "two\nlines"]
    folder = Folder(tmp_path / "labelled")
    for n, group in enumerate(named):
        folder.add(picture(n), None, labels=[], group=group)
    made_from(folder, tmp_path / "s", Looking.SKIP)
    out = tmp_path / "groups.csv"
    done = CliRunner().invoke(dataset, ["leaks", str(tmp_path / "s"), "--out", str(out)], catch_exceptions=False)
    assert done.exit_code == 0
    with out.open(newline="", encoding="utf-8") as file:
        assert sorted(row["given"] for row in csv.DictReader(file)) == named


def test_agreement_of_groups_by_hand() -> None:
    found = agreement(["a", "a", "b", "b", "c"], ["1", "1", "1", "2", "3"])
    assert (found.precision, found.recall) == (1 / 2, 1 / 3)
    assert (found.exact, found.given) == (1, 3)
    assert agreement(["a", "b"], ["1", "2"]).precision == 1


def test_the_proxy_knows_nothing_it_was_not_trained_on() -> None:
    near = np.eye(40, dtype=np.float32)
    near[::2, 1::2] = near[1::2, ::2] = 0.9  # each is most like those of the other kind
    labels = np.arange(40) % 2 == 0
    assert proxy_ap(near, labels, [str(k) for k in range(40)]) < 0.6


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.skipif(not (REAL / "manifest.csv").exists(), reason="needs the public inspection images (HALTLINE_DATA)")
def test_bursts_of_real_tiles_are_found_unaided() -> None:
    """A fifth of magnetic_tile, groups unseen: what is found lies within them, and pairs of one burst are found."""
    import csv

    rows = [r for r in csv.DictReader((REAL / "manifest.csv").open()) if r["dataset"] == "magnetic_tile"]
    names = sorted({r["group"] for r in rows})[::5]
    rows = [r for r in rows if r["group"] in names]
    groups = [r["group"] for r in rows]
    pictures = [np.asarray(cv2.imread(str(REAL / r["image"]), cv2.IMREAD_GRAYSCALE)) for r in rows]
    roots = [str(r) for r in joined(len(rows), [(p.a, p.b) for p in pairs_of(pictures)])]
    simple = [k for k, g in enumerate(groups) if groups.count(g) <= 8]
    found = agreement([roots[k] for k in simple], [groups[k] for k in simple])
    assert found.precision >= 0.98
    assert found.recall >= 0.95
