"""`haltline train limits | kfold | debug | labels` and `evaluate --against`, as a person types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from inspection.bundle import parse_manifest
from inspection.errors import InputError
from training import cli
from training.backbones import Backbone
from training.checkpoint import RunConfig
from training.dataset.snapshot import Snapshot
from training.kfold import deal
from training.timm_models import timm


@pytest.fixture(scope="module")
def commands() -> typer.Typer:
    app = typer.Typer()
    for command in (cli.evaluate, cli.export):
        app.command()(command)
    app.add_typer(cli.train, name="train")
    return app


def run(app: typer.Typer, *arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False, env={"COLUMNS": "220"})
    assert result.exit_code == code, result.output
    return result.output


def test_limits_are_refused_or_reach_the_bundle_and_its_card(
    commands: typer.Typer, tiny: Snapshot, tiny_run: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "run"
    shutil.copytree(tiny_run, mine)
    at = ("--snapshot", tiny.folder, "--threads", 1)
    with pytest.raises(InputError, match=r"cannot be promised with \d+ groups with a defect.*\n.*collect \d+ more"):
        run(commands, "train", "limits", mine, *at)
    with pytest.raises(InputError, match="--miss: is 2"):
        run(commands, "train", "limits", mine, "--miss", 2, *at)
    assert not (mine / "limits.json").exists()
    lax = ("--miss", 0.6, "--false-halt", 0.6, "--confidence", 0.9, "--cost-escape", 500, "--cost-stop", 20)
    said = run(commands, "train", "limits", mine, *lax, *at, "--parts-per-hour", 1000)
    assert "promised with 90% confidence" in said
    assert "false halts an hour" in said
    lo, hi = json.loads((mine / "limits.json").read_text())["limits"]["scratch"]
    assert lo <= 1 / 500
    assert hi >= 1 - 1 / 20
    bundle = tmp_path / "bundle"
    run(commands, "export", mine, "--out", bundle, "--snapshot", tiny.folder, "--no-stream")
    manifest = parse_manifest((bundle / "manifest.json").read_bytes())
    assert (manifest.limits[0].lo, manifest.limits[0].hi) == (lo, hi)
    assert manifest.lineage.metrics["promise.miss"] == 0.6
    card = (bundle / "card.md").read_text()
    assert "At most **60.00% of defective parts are passed**" in card
    assert "Costs moved them" in card
    page = tmp_path / "card.html"
    said = run(commands, "evaluate", bundle, tiny.folder, "--no-stream", "--page", page, "--against", bundle)
    assert "promote" in said
    assert "do not promote" not in said
    html = page.read_text()
    assert "<h2>Promised</h2>" in html
    assert "http" not in html.replace("http://www.w3.org", ""), "nothing is fetched from anywhere"


def test_folds_keep_groups_whole_and_classes_even(tiny: Snapshot) -> None:
    samples = [s.model_copy(update={"group": f"g{n // 2}"}) for n, s in enumerate(tiny.samples)]
    fold = deal(samples, tiny.manifest.classes, 4)
    assert all(
        len({f for f, s in zip(fold, samples, strict=True) if s.group == g}) == 1 for g in {s.group for s in samples}
    )
    bad = [sum(bool(s.labels) for f, s in zip(fold, samples, strict=True) if f == k) for k in range(4)]
    assert max(bad) - min(bad) <= 2
    assert set(fold) == {0, 1, 2, 3}


@pytest.mark.timeout(240)
def test_kfold_judges_every_picture_once(commands: typer.Typer, tiny: Snapshot, tmp_path: Path) -> None:
    out = tmp_path / "k"
    small = ("--size", "80x64", "--channels", 8, "--batch", 8, "--epochs", 14, "--lr", 0.004, "--threads", 1)
    said = run(commands, "train", "kfold", tiny.folder, "--out", out, "-k", 3, *small)
    assert "pooled split" in said
    assert "nan" not in said
    lines = [json.loads(line) for line in (out / "out-of-fold.jsonl").read_text().splitlines()]
    assert sorted(line["image"] for line in lines) == sorted(s.image for s in tiny.samples)
    figures = json.loads((out / "figures.json").read_text())
    assert figures["pictures"] == len(tiny.samples)
    assert figures["classes"][0]["image_ap"]["value"] > 0.6
    assert (out / "card.html").stat().st_size > 3000
    before = [(p.name, p.stat().st_mtime_ns) for p in sorted(out.glob("fold-*/checkpoint.pt"))]
    run(commands, "train", "kfold", tiny.folder, "--out", out, "-k", 3, *small)
    assert before == [(p.name, p.stat().st_mtime_ns) for p in sorted(out.glob("fold-*/checkpoint.pt"))]


@pytest.mark.timeout(240)
def test_kfold_takes_what_train_takes(commands: typer.Typer, tiny: Snapshot, tmp_path: Path) -> None:
    out, weights = tmp_path / "k", tmp_path / "w.pth"
    torch.save(timm().create_model("mobilenetv2_050").state_dict(), weights)
    of_timm = ("--backbone", "mobilenetv2_050", "--weights", weights, "--pixels", "signed", "--frozen")
    asked = (*of_timm, "--also", "synthetic", "--without", "noise", "--size", "80x64", "--epochs", 1, "--threads", 1)
    run(commands, "train", "kfold", tiny.folder, "--out", out, "-k", 3, *asked)
    ask = RunConfig.model_validate_json((out / "fold-2/config.json").read_bytes()).ask
    assert ask.backbone == Backbone(name="mobilenetv2_050", weights=str(weights), pixels="signed", frozen=True)
    assert ask.augment == ("flip", "warp", "light", "synthetic")
    assert ask.lr == 0.001, "half of the rate from weights of another task"


def test_debug_ends_with_1_when_something_is_strange(commands: typer.Typer, tiny: Snapshot, tiny_run: Path) -> None:
    assert "AUROC of brightness alone" in run(commands, "train", "debug", tiny.folder)
    said = run(commands, "train", "debug", tiny_run, "--snapshot", tiny.folder, "--no-overfit", "--hardest", 2)
    assert "AUROC with inputs zeroed" in said
    assert said.count("in training") == 2


def test_labels_says_how_many_more(commands: typer.Typer, tmp_path: Path) -> None:
    results = tmp_path / "r.csv"
    results.write_text("labels,figure\n" + "".join(f"{n},{1 - 2 * n**-0.6:.4f}\n" for n in (20, 50, 100, 200, 400)))
    said = run(commands, "train", "labels", results, "--target", 0.97, "--more", 700)
    assert "1100" in said
    needed = int(said.split("needs about ")[1].split()[0])
    assert needed == pytest.approx((2 / 0.03) ** (1 / 0.6), rel=0.5), "a floor can never be ruled out"
    results.write_text("labels,figure\n20,0.5\n50,0.6\n")
    with pytest.raises(InputError, match="2 label counts"):
        run(commands, "train", "labels", results)
