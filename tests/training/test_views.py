"""A model that looks at a picture from several sides: one answer, the mean of what it says of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from inspection.bundle import MODEL_FILE
from inspection.errors import ConfigError, DatasetError
from inspection.types import Image
from tests.training.pictures import picture, scratched, tiny_ask
from training.calibrate import Platt
from training.dataset.snapshot import Snapshot
from training.export import Release, check_parity, export
from training.fit import fit
from training.graph import graph_of, to_onnx
from training.network import Network
from training.outcome import Judge
from training.promise import Asked, promise
from training.promised import read_promise, write_promise
from training.quantize import quantize
from training.served import Served, open_session, read_bundle
from training.trained import predict, trained
from training.views import check_views

SIDES = {2: (np.s_[:], np.s_[::-1, ::-1]), 4: (np.s_[:], np.s_[::-1, ::-1], np.s_[::-1], np.s_[:, ::-1])}


def seen(image: Image, views: int) -> list[Image]:
    return [np.ascontiguousarray(image[side]) for side in SIDES[views]]


def once(served: Served, image: Image, views: int) -> tuple[np.ndarray, np.ndarray]:
    """What a bundle of one view says, as the mean of its logits and of its maps turned back."""
    answers = [served.answer(side) for side in seen(image, views)]
    logits = [np.log(a.scores / (1 - a.scores)) for a in answers]
    back = [a.heat[0][side] for a, side in zip(answers, SIDES[views], strict=True)]
    return 1 / (1 + np.exp(-np.mean(logits, 0))), np.mean(back, 0)


@pytest.fixture(scope="module")
def bundles(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Release]:
    folder = tmp_path_factory.mktemp("views")
    return {
        views: export(tiny_run, folder / f"seen{views}-0.1.0", f"seen{views}", "0.1.0", stream=False, views=views)
        for views in (1, 2)
    }


@pytest.mark.parametrize("views", [2, 4])
def test_the_answer_is_the_mean_of_every_side(views: int) -> None:
    torch.manual_seed(0)
    network = Network(2, 8).eval()
    shown = [picture(k, (48, 64)) for k in range(5)]
    scores, maps = predict(network, shown, batch=2, views=views)
    for k, image in enumerate(shown):
        each = [predict(network, [side]) for side in seen(image, views)]
        assert torch.allclose(scores[k], torch.stack([s[0] for s, _ in each]).mean(0), atol=1e-5)
        back = [m[0].numpy().transpose(1, 2, 0)[side] for (_, m), side in zip(each, SIDES[views], strict=True)]
        assert maps[k].numpy().transpose(1, 2, 0) == pytest.approx(np.mean(back, 0), abs=1e-5)
    upside, turned_maps = predict(network, [np.ascontiguousarray(s[::-1, ::-1]) for s in shown], views=views)
    assert torch.allclose(scores, upside, atol=1e-5), "the same part, put down the other way round"
    assert torch.allclose(maps, turned_maps.flip(2, 3), atol=1e-5)


def test_the_graph_holds_the_views_and_the_edge_sees_none_of_them(bundles: dict[int, Release]) -> None:
    model, plain = (onnx.load(bundles[v].folder / MODEL_FILE).graph for v in (2, 1))
    assert [(i.name, i.type) for i in model.input] == [(i.name, i.type) for i in plain.input]
    assert [(o.name, o.type) for o in model.output] == [(o.name, o.type) for o in plain.output]
    served, one = read_bundle(bundles[2].folder), read_bundle(bundles[1].folder)
    mine, other = ({w.name: w for w in g.initializer} for g in (model, plain))
    scale, bias = (
        [float(onnx.numpy_helper.to_array(of[name])[0]) for of in (mine, other)] for name in ("scale", "bias")
    )
    for k in range(6):
        image, _ = scratched(k, 25 + 3 * k)
        said = served.answer(image)
        score, heat = once(one, image, 2)
        # Calibrated apart: from one's logit to the other's.
        logit = (np.log(score / (1 - score)) - bias[1]) / scale[1] * scale[0] + bias[0]
        assert np.log(said.scores / (1 - said.scores)) == pytest.approx(logit, abs=2e-2)
        assert said.heat[0] == pytest.approx(heat, abs=1.01), "each heat of the mean is rounded to 256 levels"
        assert said.novelty == pytest.approx(one.answer(image).novelty, abs=1e-4), "of the picture as it is"


def test_a_graph_of_four_views_says_what_torch_says(bundles: dict[int, Release], tiny_run: Path) -> None:
    _, network = trained(tiny_run)
    manifest = bundles[1].manifest.model_copy(update={"novelty": None})
    graph = graph_of(network, [Platt(0.5, 0.1)], views=4)
    served = Served(manifest, open_session(to_onnx(graph, manifest.input, manifest.outputs)))
    check_parity(graph, served, [scratched(k, 30)[0] for k in range(4)], 20)
    logits, maps = predict(network, [scratched(3, 30)[0]], views=4)
    scores, heat = served.raw(scratched(3, 30)[0])
    assert scores == pytest.approx(Platt(0.5, 0.1)(logits[0].double().numpy()), abs=1e-4)
    assert heat == pytest.approx(maps[0].numpy() * 255, abs=0.51)


def test_a_bundle_of_two_views_is_calibrated_and_judged_by_both(bundles: dict[int, Release], tiny_run: Path) -> None:
    for views, words in ((1, None), (2, "twice, as it is and turned by 180 degrees")):
        card = (bundles[views].folder / "card.md").read_text()
        assert ("looks at each picture" in card) is (words is not None)
        assert words is None or words in card
    for views in (1, 2):
        judge, weights = Judge(tiny_run, views=views), onnx.load(bundles[views].folder / MODEL_FILE).graph.initializer
        platt = [float(onnx.numpy_helper.to_array(w)[0]) for w in weights if w.name in ("scale", "bias")]
        assert sorted(platt) == pytest.approx(sorted((judge.classes[0].platt.scale, judge.classes[0].platt.bias)))
        images = [e.image for e in judge.of("test").examples]
        logits = predict(trained(tiny_run)[1], images, views=views)[0].numpy()
        assert judge.of("test").logits == pytest.approx(logits, abs=1e-5)


def test_a_promise_holds_for_the_views_it_was_made_with(tiny_run: Path, tiny: Snapshot, tmp_path: Path) -> None:
    judge = Judge(tiny_run, views=2)
    test = judge.of("test")
    asked = Asked(miss=0.6, false_halt=0.6, confidence=0.7)
    found = promise(test.scores, test.target, test.groups, judge.config.classes, asked)
    write_promise(tiny_run, found.model_copy(update={"snapshot": tiny.manifest.id, "on": "test", "views": 2}))
    try:
        with pytest.raises(DatasetError, match="promises of 2 views of a picture, not of 1") as refused:
            export(tiny_run, tmp_path / "one", "one", "0.1.0", stream=False)
        assert "say --views 2" in refused.value.fix
        kept = read_promise(tiny_run, tiny.manifest.id, views=2)
    finally:
        (tiny_run / "limits.json").unlink()
    assert kept is not None
    assert kept.limits == found.limits


def test_integers_and_later_trainings_start_from_two_views_as_from_one(
    bundles: dict[int, Release], tiny: Snapshot, tiny_run: Path, tmp_path: Path
) -> None:
    quick = quantize(bundles[2].folder, tiny.folder, tmp_path / "int8", max_flips=0.1, max_ap_loss=0.05)
    nodes = onnx.load(quick.folder / MODEL_FILE).graph.node
    fed = {out: n.op_type for n in nodes for out in n.output}
    integers = [n for n in nodes if n.op_type == "Conv" and fed.get(n.input[1]) == "DequantizeLinear"]
    assert len(integers) == sum(n.op_type == "Conv" for n in nodes) - 8, "of each view the heads stay in float"
    assert "looks at each picture twice" in (quick.folder / "card.md").read_text()
    fit(tiny, tmp_path / "next", tiny_ask(epochs=1, lr=1e-6, init=str(bundles[2].folder)))
    before, after = (
        predict(network, [scratched(k, 30)[0] for k in range(4)])[0]
        for network in (trained(tiny_run)[1], trained(tmp_path / "next")[1])
    )
    assert after.numpy() == pytest.approx(before.numpy(), abs=2), "it did not begin again"


@pytest.mark.parametrize("views", [0, 3, 8])
def test_other_numbers_of_views_are_refused(views: int, tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"--views: is {views}") as refused:
        export(tiny_run, tmp_path / "b", "tiny", "0.1.0", views=views)
    assert refused.value.fix == "choose 1, 2, 4"
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"frames": 4}, "is 2 for a model with a memory"),
        ({"augment": ("warp", "light")}, "is 2, and the run has seen no mirrored picture"),
    ],
)
def test_a_run_that_has_not_learnt_from_other_sides_has_one_view(asked: dict[str, object], words: str) -> None:
    check_views(1, tiny_ask(**asked))
    check_views(2, tiny_ask())
    with pytest.raises(ConfigError, match=words):
        check_views(2, tiny_ask(**asked))
