"""What a run is where nobody says."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inspection.errors import BundleError, ConfigError, DatasetError
from inspection.types import Call
from tests.training.pictures import tiny_ask
from training import defaults
from training.backbones import Backbone, build
from training.checkpoint import TOP_RATE, Ask, read_config
from training.dataset.crops import parent_of
from training.dataset.snapshot import Snapshot
from training.examples import input_spec
from training.fit import FEWEST_SHOWN, fit
from training.judging import JudgedPicture, whole_pictures
from training.network import SIZES
from training.outcome import Judge, judged
from training.pretraining.run import how_they_are_drawn
from training.warm_start import HEAD


def of_size(data: Snapshot, *sizes: tuple[int, int]) -> Snapshot:
    """The snapshot as if its pictures had these sizes, in turn."""
    sized = [
        s.model_copy(update={"width_px": sizes[n % len(sizes)][0], "height_px": sizes[n % len(sizes)][1]})
        for n, s in enumerate(data.samples)
    ]
    return data.model_copy(update={"samples": tuple(sized)})


@pytest.mark.parametrize(
    ("pictures", "size"),
    [
        ([(640, 512)], (320, 256)),
        ([(2448, 2048)], (320, 256)),
        ([(230, 630)], (176, 480)),  # upright stays upright
        ([(1600, 256)], (720, 112)),
        ([(200, 200)], (208, 208)),
        ([(96, 40)], (96, 48)),
        ([(20, 20)], (32, 32)),
        ([(640, 512), (640, 512), (630, 500)], (320, 256)),
        ([(640, 480), (640, 480), (480, 640)], (288, 288)),  # one scale, lying and upright: room for both
        ([(8192, 8)], (2560, 32)),  # a line-scan camera
        ([(16384, 1)], (2560, 32)),
        ([(4096, 1), (4096, 1)], (2560, 32)),
    ],
)
def test_the_input_has_the_shape_of_the_pictures(
    tiny: Snapshot, pictures: Sequence[tuple[int, int]], size: tuple[int, int]
) -> None:
    assert defaults.input_size(of_size(tiny, *pictures)) == size
    assert size[0] * size[1] <= 1.06 * defaults.INPUT_PX


def test_pictures_of_any_size_may_be_learnt_from_where_none_states_a_scale(tiny: Snapshot) -> None:
    """With a label and no outline they cannot be cut to one size either. The edge is told what the model saw."""
    mixed = of_size(tiny, (80, 64), (80, 64), (160, 128))
    with pytest.raises(DatasetError, match=r"holds pictures at 5\.00 and at 10\.00 px/mm of the 80x64 input"):
        input_spec(mixed, 80, 64)
    unknown = mixed.model_copy(
        update={"samples": tuple(s.model_copy(update={"px_per_mm": None}) for s in mixed.samples)}
    )
    spec = input_spec(unknown, 80, 64)
    assert (spec.px_per_mm, spec.scale_tolerance) == (1.0, 2.0)
    assert "2.0 times larger or smaller" in defaults.mixed(unknown, (80, 64))
    assert defaults.mixed(tiny, (80, 64)) == ""


def test_a_size_class_says_how_many_pixels_the_shape_is_the_pictures(tiny: Snapshot) -> None:
    m = SIZES["M"].width_px * SIZES["M"].height_px
    assert defaults.input_size(of_size(tiny, (1024, 4096)), m) == (256, 1024)
    assert defaults.input_size(of_size(tiny, (200, 200)), m) == (208, 208), "nothing is enlarged"


@pytest.mark.parametrize("width", defaults.ENCODERS)
def test_an_encoder_starts_from_the_released_one(width: int) -> None:
    started = build(defaults.own_encoder(width), classes=1, width=width).state_dict()
    random = build(Backbone(), classes=1, width=width).state_dict()
    released = build(Backbone(weights=str(defaults.ENCODERS[width])), classes=3, width=width).state_dict()
    encoder = [n for n in started if n.endswith("0.weight") and n.split(".")[0] not in HEAD]
    assert len(encoder) > 10
    assert all((started[n] == released[n]).all() for n in encoder)
    assert not any((started[n] == random[n]).all() for n in encoder if started[n].ndim == 4)
    assert defaults.own_encoder(16, "none").weights is None
    assert defaults.own_encoder(20).weights is None, "no released encoder is so wide"
    assert defaults.encoder_weights("resnet18", 16, None) is None
    assert defaults.encoder_weights("resnet18", 16, "hub") == "hub"


def test_an_encoder_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="24 channels wide"):
        build(Backbone(weights=str(defaults.ENCODERS[16])), classes=1, width=24)
    for asked in ("hub", str(tmp_path), str(tmp_path / "nowhere")):
        with pytest.raises(ConfigError, match=r"--weights.*no model of ours is there"):
            defaults.own_encoder(16, asked)
    with pytest.raises(ConfigError, match="cannot be frozen"):
        build(Backbone(frozen=True), classes=1, width=16)


def test_only_what_saw_surfaces_goes_on_at_the_whole_rate(tmp_path: Path) -> None:
    def rate(name: str, weights: str | None) -> float:
        return defaults.rate(Backbone(name=name, weights=weights), None, ("scratch",))

    assert rate("own", None) == rate("own", str(defaults.ENCODERS[16])) == TOP_RATE
    assert rate("own", str(defaults.MODELS / "scratch-0.2.0")) == rate("resnet18", "hub") == TOP_RATE / 2


@pytest.mark.parametrize("width", defaults.ENCODERS)
def test_the_released_encoder_can_be_made_again(width: int) -> None:
    """Whoever changes a line that draws releases a new one, or says in the old one's README that it cannot be."""
    assert read_config(defaults.ENCODERS[width]).snapshot_sha256 == how_they_are_drawn()


@pytest.mark.timeout(120)
def test_a_run_keeps_where_its_encoder_came_from(tiny: Snapshot, tmp_path: Path) -> None:
    here = shutil.copytree(defaults.ENCODERS[16], tmp_path / "here" / defaults.ENCODERS[16].name)
    released = "run encoder-0.2.0 on surfaces-1"
    ask = tiny_ask(epochs=1, channels=16, lr=1e-3, backbone=Backbone(weights=str(here)))
    assert fit(tiny, tmp_path / "run", ask).parent == released
    assert fit(tiny, tmp_path / "bare", tiny_ask(epochs=1)).parent is None
    here.parent.rename(tmp_path / "elsewhere")
    same = ask.model_copy(update={"backbone": defaults.own_encoder()})
    assert fit(tiny, tmp_path / "run", same).parent == released, "the same model from another folder goes on"
    with pytest.raises(ConfigError, match=f"started with backbone weights {released}, not .* left out"):
        fit(tiny, tmp_path / "run", ask.model_copy(update={"backbone": Backbone()}))


@pytest.mark.timeout(120)
def test_few_pictures_are_seen_more_often(tiny: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.fit.FEWEST_SHOWN", 720)
    fit(tiny, tmp_path / "run", tiny_ask(epochs=None))
    assert read_config(tmp_path / "run").epochs == 720 / 24
    assert 300 * Ask().batch <= FEWEST_SHOWN


def test_crops_are_judged_as_the_picture_they_were_cut_from(tiny: Snapshot, tiny_run: Path) -> None:
    pictures = judged(Judge(tiny_run, tiny).of("test"))
    assert [p.sample.image for p in whole_pictures(pictures)] == [p.sample.image for p in pictures]

    def crop(p: JudgedPicture, source: str) -> JudgedPicture:
        return replace(p, sample=p.sample.model_copy(update={"source": source}))

    bad = next(p for p in pictures if p.target.any())
    good = [p for p in pictures if not p.target.any()]
    cut = [crop(bad, "a.png#1f@0,0,80,64"), crop(good[0], "a.png#1f@80,0,80,64"), crop(good[1], "b.png#1f@0,0,80,64")]
    one, other = whole_pictures(cut)
    assert (one.target.any(), other.target.any()) == (True, False)
    assert one.scores == np.maximum(bad.scores, good[0].scores)
    assert one.sample.labels == bad.sample.labels
    assert (one.sample.source, one.sample.width_px, one.sample.height_px) == ("a.png", 160, 64)
    assert (other.sample.source, other.sample.width_px) == ("b.png", 80)
    assert one.cells is None, "crops have figures of their own for where a defect lies"
    hidden = whole_pictures([cut[1], cut[0]])[0]
    assert hidden.sample.labels == bad.sample.labels, "the first crop of a bad part may be good"
    unsure = replace(cut[1], verdict=Call.UNCERTAIN)
    assert whole_pictures([replace(cut[0], verdict=Call.PASS), unsure])[0].verdict is Call.UNCERTAIN
    assert parent_of("hub:record=7#frame@1") == ""
