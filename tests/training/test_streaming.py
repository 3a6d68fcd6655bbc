"""A model that remembers: clips in order, state in and out, the same answers in torch, onnxruntime and on the edge."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edge.bundle_store import read_bundle as edge_reads
from edge.config import BundleConfig
from edge.memory import LONGEST_GAP_NS, Memory
from edge.model_base import BundleModel
from edge.models import open_model
from inspection.bundle import StateSpec, parse_manifest
from inspection.errors import BundleError, DatasetError
from inspection.label_book import BOOKS
from inspection.render.clip import ClipSpec, render_clip
from inspection.types import Frame
from tests.training.pictures import SCRATCH, Folder, tiny_ask
from training.clips import in_clips
from training.dataset.build import Looking, Shares, build
from training.dataset.clip_source import place_of, source_of
from training.dataset.clips import classes_in, import_clips, read_intervals
from training.dataset.item import Target
from training.dataset.labelled import import_labelled
from training.dataset.snapshot import Snapshot, read_snapshot
from training.dataset.sources import plain_book
from training.export import export
from training.fit import fit
from training.network import Network
from training.novelty import evenly_of_clips
from training.quantize import quantize
from training.rendering import render_folder
from training.served import read_bundle
from training.streaming import StreamNetwork


def dot_clip(seed: int, bad: bool, frames: int = 12) -> list[np.ndarray]:
    """A bright dot that stays is a defect, one that jumps is none: no frame alone can tell."""
    rng = np.random.default_rng(seed)
    x, y = (int(v) for v in rng.integers(8, 40, 2))
    pictures = []
    for _ in range(frames):
        image = rng.integers(90, 120, (48, 64, 3), np.uint8)
        if not bad:
            x, y = (int(v) for v in rng.integers(8, 40, 2))
        image[y : y + 5, x : x + 5] = 250
        pictures.append(image)
    return pictures


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    made = Folder(tmp_path_factory.mktemp("clips") / "labelled")
    splits = ["train"] * 6 + ["val"] * 2 + ["test"] * 2
    for k in range(20):
        for number, image in enumerate(dot_clip(k, bad=bool(k % 2))):
            mask = ((image > 200).all(2) & bool(k % 2)).astype(np.uint8)
            place = source_of(f"clip-{k}", 30, number)
            labels = ["scratch"] if k % 2 else []
            # 5 px at 2 px/mm: over the book's limit
            made.add(image, mask, labels=labels, split=splits[k // 2], group=f"c{k}", source=place, px_per_mm=2.0)
    target, out = Target(SCRATCH.task, SCRATCH), made.root.parent / "snapshot"
    # Dots on noise are all alike: whoever looks for scenes finds them in every clip.
    build(import_labelled(made.root, target), out, target, Shares(), ("test",), Looking.SKIP)
    return read_snapshot(out)


@pytest.fixture(scope="module")
def bundle(clips: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "stream"
    fit(clips, run, tiny_ask(epochs=12, width_px=64, height_px=48, frames=4, augment=("flip", "noise"), lr=8e-3))
    return export(run, run.parent / "stream-0.1.0", "stream", "0.1.0", stream=False).folder


def test_drawn_clips_stay_clips_and_say_that_they_were_drawn(tmp_path: Path) -> None:
    drawn = list(render_folder("weld", tmp_path / "drawn", 48, seed=3, clip_frames=8))
    assert len(drawn) == 48
    target, thirds = Target("weld", BOOKS["weld"]), Shares(0.34, 0.34)
    build(import_labelled(tmp_path / "drawn", target), tmp_path / "out", target, thirds, ("test",), Looking.SKIP)
    snapshot = read_snapshot(tmp_path / "out")
    found = [clip for split in ("train", "val", "test") for clip in in_clips(snapshot, split)]
    assert sorted(len(clip) for clip in found) == [8] * 6
    assert snapshot.manifest.made_by == ("rendered:",), "or its card would not say that it saw no real metal"


def edge_model(bundle: Path, provider: str = "CPUExecutionProvider") -> BundleModel:
    return open_model(edge_reads(bundle), BundleConfig(path=bundle, provider=provider))


def frame(image: np.ndarray, number: int, camera: str = "one", gap_ns: int = 33_000_000) -> Frame:
    return Frame(camera, number, number * gap_ns, 0, image, 2.0)


def scores(model: BundleModel, clip: list[np.ndarray], start: int = 1, camera: str = "one") -> list[float]:
    return [model.infer(frame(image, k, camera)).scores["scratch"] for k, image in enumerate(clip, start)]


def test_one_frame_at_a_time_is_the_whole_clip_at_once() -> None:
    torch.manual_seed(0)
    network = StreamNetwork(2, 8, frames=6).eval()
    images = torch.randint(0, 256, (6, 48, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        whole_scores, whole_maps = network(images)
        state = [torch.zeros(shape) for shape in network.state_shapes(64, 48)]
        for k in range(6):
            one_scores, one_maps, state = network.step(images[k : k + 1], state)
            assert torch.allclose(one_scores[0], whole_scores[k], atol=1e-4)
            assert torch.allclose(one_maps[0], whole_maps[k], atol=1e-4)


def test_clips_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    network = StreamNetwork(1, 8, frames=3).eval()
    images = torch.randint(0, 256, (6, 32, 32, 3), dtype=torch.uint8)
    changed = images.clone()
    changed[:3] = 0
    with torch.no_grad():
        assert torch.equal(network(images)[0][3:], network(changed)[0][3:])
        assert not torch.equal(network(images)[0][2], network(changed)[0][2])


def test_the_bundle_tells_what_no_frame_alone_can(bundle: Path) -> None:
    model = edge_model(bundle)
    stays, jumps = (
        [scores(model, dot_clip(1000 + k, bad), camera=f"{bad}{k}")[-1] for k in range(6)] for bad in (True, False)
    )
    assert np.mean(stays) > np.mean(jumps) + 0.3


def test_a_manifest_says_what_the_graph_remembers(bundle: Path) -> None:
    manifest = parse_manifest((bundle / "manifest.json").read_bytes())
    assert [s.input for s in manifest.state] == [f"state_in_{k}" for k in range(4)]
    assert [s.output for s in manifest.state] == [f"state_out_{k}" for k in range(4)]
    assert len(manifest.golden.cases) == 8


@pytest.mark.parametrize("provider", ["CPUExecutionProvider", "openvino"])
def test_the_edge_remembers_per_camera_until_a_part_or_a_gap(bundle: Path, provider: str) -> None:
    if provider == "openvino":
        pytest.importorskip("openvino")
    clip = dot_clip(7, bad=True)
    model = edge_model(bundle, provider)
    fresh = scores(model, clip)
    assert scores(model, clip, camera="two") == pytest.approx(fresh, abs=1e-5), "another camera begins from nothing"
    assert fresh[0] != pytest.approx(fresh[-1], abs=1e-3), "the past matters"
    again = model.infer(frame(clip[0], 100)).scores["scratch"]
    assert again == pytest.approx(fresh[0], abs=1e-5), "three seconds later everything is new"
    model.infer(frame(clip[1], 101))
    model.begin_part(102 * 33_000_000)
    assert model.infer(frame(clip[0], 102)).scores["scratch"] == pytest.approx(fresh[0], abs=1e-5)


@pytest.mark.parametrize("provider", ["CPUExecutionProvider", "openvino"])
def test_its_novelty_is_of_frames_in_their_order(bundle: Path, clips: Snapshot, provider: str) -> None:
    """Fitted on whole clips, each from nothing, as the edge shows them; golden frames hold it there."""
    if provider == "openvino":
        pytest.importorskip("openvino")
    manifest = parse_manifest((bundle / "manifest.json").read_bytes())
    known = manifest.novelty
    assert known
    assert (known.fitted_on, known.held_out) == (len(clips.split("train")), len(clips.split("val")))
    assert all(case.novelty is not None for case in manifest.golden.cases)
    model = edge_model(bundle, provider)
    rng = np.random.default_rng(1)
    flat = [np.full((48, 64, 3), 30 + 5 * k, np.uint8) + rng.integers(0, 3, (48, 64, 3), np.uint8) for k in range(6)]
    own = [model.infer(frame(image, k)).novelty or 0.0 for k, image in enumerate(dot_clip(3, bad=True), 1)]
    strange = [model.infer(frame(image, k, "two")).novelty or 0.0 for k, image in enumerate(flat, 1)]
    assert np.median(own) < known.threshold < np.median(strange)


def test_many_clips_are_taken_evenly_and_whole() -> None:
    taken = evenly_of_clips([[k] * 32 for k in range(100)])
    assert [clip[0] for clip in taken[:3]] == [0, 3, 6]
    assert all(len(clip) == 32 for clip in taken)
    assert evenly_of_clips([[1, 2], [3]]) == [[1, 2], [3]]


def test_served_and_edge_agree(bundle: Path) -> None:
    clip = dot_clip(9, bad=True)
    runner = read_bundle(bundle).in_order()
    assert [float(runner.raw(i)[0][0]) for i in clip] == pytest.approx(scores(edge_model(bundle), clip), abs=1e-5)


def test_golden_frames_out_of_order_are_refused(bundle: Path) -> None:
    read = edge_reads(bundle)
    cases = read.manifest.golden.cases
    turned = read.manifest.golden.model_copy(update={"cases": cases[::-1], "tolerance": 1e-4, "heat_tolerance": 0.01})
    object.__setattr__(read, "manifest", read.manifest.model_copy(update={"golden": turned}))
    with pytest.raises(BundleError, match="off in its scores"):
        open_model(read, BundleConfig(path=bundle))


def test_int8_of_a_memory_is_refused(bundle: Path, clips: Snapshot, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="has a memory"):
        quantize(bundle, clips.folder, tmp_path / "int8")


def test_a_memory_of_its_own() -> None:
    memory = Memory((StateSpec(input="a", output="b", shape=(1, 2)),))
    image, kept = np.zeros((4, 4, 3), np.uint8), [np.ones((1, 2), np.float32)]

    def at(number: int, ns: int) -> Frame:
        return Frame("c", number, ns, 0, image, 1.0)

    assert not memory.before(at(1, 0))[0].any()
    memory.keep(at(1, 0), kept)
    assert memory.before(at(2, LONGEST_GAP_NS)) is kept
    assert not memory.before(at(2, LONGEST_GAP_NS + 1))[0].any()
    assert not memory.before(at(1, 5))[0].any(), "a counter that did not advance belongs to another stream"
    memory.forget()
    assert not memory.before(at(2, 5))[0].any()


def test_clips_are_cut_where_frames_are_missing(clips: Snapshot) -> None:
    assert [len(c) for c in in_clips(clips, "val")] == [12] * 4
    numbers = [0, 1, 2, 6, 7, 12]
    one = clips.samples[0]
    some = [one.model_copy(update={"split": "train", "source": source_of("x", 25, n)}) for n in reversed(numbers)]
    cut = in_clips(clips.model_copy(update={"samples": tuple(some)}), "train")
    assert [[place_of(s.source).number for s in c] for c in cut] == [[0, 1, 2, 6, 7], [12]]
    with pytest.raises(DatasetError, match="holds no clips"):
        in_clips(clips.model_copy(update={"samples": (one.model_copy(update={"source": "x"}),)}), "train")


def test_droplets_and_bubbles_look_alike_and_only_bubbles_stay() -> None:
    spec = ClipSpec(frames=40, bubbles=1, flashes_per_frame=0.0, exposure_step=False)
    frames = list(render_clip(5, spec))
    shown = [f.mask.any() for f in frames]
    assert sum(shown) >= 20
    first = shown.index(True)
    assert all(shown[first : first + 15]), "a bubble stays in view"
    storm = list(render_clip(5, ClipSpec(frames=40, bubbles=0, flashes_per_frame=1.0, exposure_step=False)))
    assert not any(f.mask.any() for f in storm), "a droplet is no defect"
    assert np.array_equal(frames[3].image, list(render_clip(5, spec))[3].image)


# ── films of a factory ──────────────────────────────────────────────────────────────────────────────────────────


def film(path: Path, frames: int = 30, fps: float = 10.0) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (64, 48))
    for k in range(frames):
        image = np.full((48, 64, 3), 60 + 4 * k, np.uint8)
        image[:, : 2 * (k + 1)] = 200
        writer.write(image)
    writer.release()
    return path


def test_films_become_clips(tmp_path: Path) -> None:
    films = [film(tmp_path / name) for name in ("a.avi", "b.avi")]
    table = tmp_path / "told.csv"
    table.write_text("video,start_s,end_s,label\na.avi,0.5,1.0,good\na.avi,1.0,1.6,pore\nb.avi,2,3.5,pore+crack\n")
    told = read_intervals(table)
    assert classes_in(told) == ("crack", "pore")
    target = Target("seam", plain_book("seam", classes_in(told)))
    build(import_clips(films, told, target), tmp_path / "s", target, Shares(0, 0), ("a",), Looking.SKIP)
    data = read_snapshot(tmp_path / "s")
    runs = in_clips(data, "train")
    assert [[place_of(s.source).number for s in run] for run in runs] == [list(range(5, 16)), list(range(20, 30))]
    assert [s.labels for s in runs[0]] == [()] * 5 + [("pore",)] * 6
    assert {s.labels for s in runs[1]} == {("crack", "pore")}
    assert {s.group for s in runs[1]} == {"b"}


def uneven(path: Path, runs: list[tuple[int, int]]) -> Path:
    """A film whose frames are shown for as long as `runs` say: how many, how many 10240ths of a second each."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for k in range(sum(n for n, _ in runs)):
        writer.write(np.full((48, 64, 3), 60 + 4 * k, np.uint8))
    writer.release()
    data = bytearray(path.read_bytes())
    old = data.find(b"stts") - 4
    size = int.from_bytes(data[old : old + 4])
    new = struct.pack(">I4sII", 16 + 8 * len(runs), b"stts", 0, len(runs)) + b"".join(
        struct.pack(">II", *r) for r in runs
    )
    for box in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        at = data.find(box) - 4
        data[at : at + 4] = (int.from_bytes(data[at : at + 4]) + len(new) - size).to_bytes(4)
    data[old : old + size] = new
    for box, at, units in ((b"mdhd", 20, 10240), (b"elst", 12, 1000)):  # how long it is in all
        place = data.find(box) + at
        data[place : place + 4] = (sum(n * d for n, d in runs) * units // 10240).to_bytes(4)
    path.write_bytes(data)
    return path


def test_an_interval_holds_the_frames_that_are_shown_in_it(tmp_path: Path) -> None:
    """By the mean rate, of a phone's film, it held others."""
    video = uneven(tmp_path / "a.mp4", [(20, 1024), (20, 2048)])  # 2 s of 20 frames, 4 s of as many
    table = tmp_path / "told.csv"
    table.write_text("video,start_s,end_s,label\na.mp4,0,1,good\na.mp4,3,4,pore\n")
    told = read_intervals(table)
    found = list(import_clips([video], told, Target("seam", plain_book("seam", ("pore",)))))
    shown = [place.number for item in found if (place := place_of(item.source))]
    assert shown == [*range(10), *range(25, 30)]
    assert [item.labels for item in found] == [()] * 10 + [("pore",)] * 5
    (doubt,) = [item.doubt for item in found if item.doubt]
    assert doubt.startswith("frame 1 comes 0.100 s after the one before, and others every 0.150 s: a model that rememb")


def test_two_films_of_one_name_are_not_one_clip(tmp_path: Path) -> None:
    films = [film(tmp_path / name) for name in ("a.avi", "a.mov")]
    with pytest.raises(DatasetError, match=r"a.avi: and .*a.mov would be one clip, a\n"):
        list(import_clips(films, {}, Target("seam", plain_book("seam", ("pore",)))))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("a.avi,2,1,good", r"told.csv:2 runs from 2 to 1 s|runs from 2 to 1 s"),
        ("a.avi,0,x,good", "'x' is no time"),
        ("a.avi,0,1,good\na.avi,0.5,2,pore", "begins at 0.5 s, inside"),
        ("c.avi,0,1,good", "names the video 'c.avi', which was not given"),
        ("a.avi,50,51,good", "begins at 50 s"),
        ("a.avi,0,1,good\na.avi,1,60,pore", r"told.csv:3: ends at 60 s, .*a.avi ends at 3.00 s"),
        ("a.avi,0,1,", "has no label"),
        ("\n\na.avi,2,1,good", r"told.csv:4: runs from 2"),
        ("a.avi,0,1,pore,crack", r"told.csv:2: goes on behind its last column: crack"),
    ],
)
def test_intervals_that_cannot_be(tmp_path: Path, lines: str, said: str) -> None:
    table = tmp_path / "told.csv"
    table.write_text(f"video,start_s,end_s,label\n{lines}\n")
    with pytest.raises(DatasetError, match=said):
        list(import_clips([film(tmp_path / "a.avi")], read_intervals(table), Target("x", plain_book("x", ("pore",)))))


def test_a_memory_starts_from_an_encoder_that_knew_single_frames() -> None:
    """In a clip that stands still it sees what the other sees, from the fifth frame on; and back again."""
    torch.manual_seed(0)
    single, remembers, back = Network(1, 8).eval(), StreamNetwork(1, 8, frames=6).eval(), Network(1, 8).eval()
    remembers.load_state_dict(remembers.fitted(single.state_dict()))
    still = torch.randint(0, 256, (1, 48, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        seen = remembers.stages(remembers.see(still.expand(6, -1, -1, -1)))
        known = single.stages(single.see(still))
    assert torch.allclose(seen.s16[5], known.s16[0], atol=1e-4)
    assert not torch.allclose(seen.s16[0], known.s16[0], atol=1e-4)
    back.load_state_dict(back.fitted(remembers.state_dict()))
    assert all(torch.equal(w, back.state_dict()[n]) for n, w in single.state_dict().items())
