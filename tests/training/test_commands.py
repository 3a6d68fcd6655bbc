"""The commands as a person types them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from inspection.bundle import parse_manifest
from inspection.errors import InputError
from inspection.samples import LabelledHeader
from tests.training.pictures import picture, png, samples_of
from training import cli, release
from training.dataset.item import decode, decode_mask
from training.dataset.snapshot import Snapshot, read_snapshot
from training.rendering import render_folder
from training.train_cli import _not_in_vain

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def commands() -> typer.Typer:
    app = typer.Typer()
    for command in (cli.render, cli.evaluate, cli.export):
        app.command()(command)
    app.add_typer(cli.train, name="train")
    app.add_typer(cli.dataset, name="dataset")
    return app


def run(app: typer.Typer, *arguments: object) -> str:
    """What the command printed; what it raised is raised here."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.output


def test_help_and_data_sets_need_no_torch() -> None:
    heavy = "{'torch', 'onnx', 'onnxruntime'}"
    code = f"import sys, training.cli, training.dataset.commands; print(sorted({heavy} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_pictures_that_nothing_is_said_of_are_counted(commands: typer.Typer, tmp_path: Path) -> None:
    """Nobody could tell looked at, and good, from not looked at yet."""
    boxes = [{"image_id": 0, "category_id": 0, "bbox": [2, 2, 9, 9]}]
    listed = [{"id": k, "file_name": f"{k}.png"} for k in range(3)]
    told = {"images": listed, "annotations": boxes, "categories": [{"id": 0, "name": "pore"}]}
    (tmp_path / "a.json").write_text(json.dumps(told))
    for k in range(3):
        (tmp_path / f"{k}.png").write_bytes(png(picture(k)))
    said = run(commands, "dataset", "import", tmp_path / "a.json", "--out", tmp_path / "s", "--task", "weld")
    assert f"2 pictures are listed without a mark and count as good, such as {tmp_path}/1.png" in said


def test_bad_input_ends_with_2_and_says_what_to_do(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "haltline", "dataset", "show", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is not a snapshot: it has no snapshot.json" in done.stdout + done.stderr
    assert "haltline dataset import" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_an_import_says_which_defects_nobody_outlined(commands: typer.Typer, tmp_path: Path) -> None:
    for n in range(3):
        (tmp_path / f"{n}.png").write_bytes(png(picture(n)))
        (tmp_path / f"m{n}.png").write_bytes(png(np.zeros((64, 80), np.uint8)))
    rows = ["image,mask_or_boxes,label,group", *(f"{n}.png,m{n}.png,{('good', 'pore')[n % 2]},{n}" for n in range(3))]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    whole = run(commands, "dataset", "import", tmp_path / "t.csv", "--out", tmp_path / "whole", "--task", "t")
    assert f"t.csv:3: is called pore, and {tmp_path / 'm1.png'} shows nothing: taken as a defect" in whole
    assert "1 in doubt" in whole
    assert [s.labels for s in read_snapshot(tmp_path / "whole").samples].count(("pore",)) == 1
    cut = ("--task", "t", "--crop", "80x64")
    for source in ("t.csv", "whole"):
        out = run(commands, "dataset", "import", tmp_path / source, "--out", tmp_path / f"{source}-cut", *cut)
        assert "1 left out: a crop" in out
        assert len(read_snapshot(tmp_path / f"{source}-cut").samples) == 2


def table(folder: Path, labels: str) -> Path:
    """A CSV of pictures of one part each: `g` a good one, `p` one with a pore that nobody outlined."""
    words = {"g": "good", "p": "pore"}
    for n in range(len(labels)):
        (folder / f"{n}.png").write_bytes(png(picture(n)))
    rows = ["image,mask_or_boxes,label,group", *(f"{n}.png,,{words[label]},{n}" for n, label in enumerate(labels))]
    (folder / "t.csv").write_text("\n".join(rows))
    return folder / "t.csv"


def test_what_there_is_nothing_to_learn_from_is_not_trained_on(commands: typer.Typer, tmp_path: Path) -> None:
    """Good pictures alone gave a finished run, and after it the refusal of `export`."""
    asked = ("--task", "t", "--classes", "pore", "--no-look")
    run(
        commands,
        "dataset",
        "import",
        table(tmp_path, "ggggg"),
        "--out",
        tmp_path / "s",
        "--val",
        0,
        "--test",
        0,
        *asked,
    )
    with pytest.raises(InputError, match=r"shows no defect in its 5 training pictures\n.*good-parts"):
        run(commands, "train", tmp_path / "s", "--out", tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_what_an_export_will_refuse_is_said_before_the_training(
    tmp_path: Path, commands: typer.Typer, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--task", "t", "--classes", "pore,dent", "--no-look", "--val", 0, "--test", 0)
    run(commands, "dataset", "import", table(tmp_path, "gpgpg"), "--out", tmp_path / "s", *asked)
    _not_in_vain(read_snapshot(tmp_path / "s"))
    said = " ".join(capsys.readouterr().out.split())
    assert "no training picture shows dent" in said
    assert "no validation pictures: `haltline export` will refuse this run" in said


def test_a_class_that_validation_does_not_show_is_said_by_import_and_before_the_training(
    tmp_path: Path, commands: typer.Typer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its limits were exported as if somebody had measured what they miss."""
    path = table(tmp_path, "gpgpg")
    rows = path.read_text().splitlines()
    parts = ("split", "train", "train", "val", "test", "test")
    path.write_text("\n".join(f"{row},{part}" for row, part in zip(rows, parts, strict=True)))
    said = run(commands, "dataset", "import", path, "--out", tmp_path / "s", "--no-look")
    assert "no picture for val shows pore: see --seed, --val and --resplit" in said
    assert "for test shows" not in said
    _not_in_vain(read_snapshot(tmp_path / "s"))
    assert "no validation picture shows pore: how low" in " ".join(capsys.readouterr().out.split())


@pytest.mark.timeout(180)
def test_from_nothing_to_a_judged_bundle(commands: typer.Typer, tmp_path: Path) -> None:
    frames, snapshot, made, bundle = (tmp_path / name for name in ("frames", "snapshot", "run", "scratch-0.0.1"))
    assert "24 frames" in run(commands, "render", "scratch", frames, "--count", 24, "--seed", 5)
    assert "scratch-" in run(commands, "dataset", "import", frames, "--out", snapshot, "--val", 0.25, "--test", 0.25)
    assert "scratch@1 scratch" in run(commands, "dataset", "show", snapshot)
    assert "24 pictures, all as they were" in run(commands, "dataset", "verify", snapshot)
    size = ("--size", "160x128", "--channels", 8, "--batch", 4, "--threads", 1)
    trained = run(commands, "train", snapshot, "--out", made, "--epochs", 1, *size)
    assert "1 epochs" in trained
    assert "--name mine" in " ".join(trained.split()), "another name than that of a released bundle"
    assert "card.md" in run(commands, "export", made, "--out", bundle, "--version", "0.0.1", "--no-stream")
    manifest = parse_manifest((bundle / "manifest.json").read_bytes())
    assert (manifest.id, manifest.input.px_per_mm) == ("scratch-0.0.1", 5.0)
    assert "drawn by Haltline's renderer" in (bundle / "card.md").read_text()
    figures = tmp_path / "figures.json"
    written = ("--out", figures, "--pictures", tmp_path / "worst")
    assert "length error" in run(commands, "evaluate", bundle, snapshot, "--no-stream", *written)
    assert (tmp_path / "worst/00.png").stat().st_size > 1000
    assert json.loads(figures.read_text())["bundle"] == "scratch-0.0.1"
    again = ("--init", bundle, "--epochs", 1, "--channels", 8, "--batch", 4, "--threads", 1)
    assert "1 epochs" in run(commands, "train", snapshot, "--out", tmp_path / "next", *again)
    config = json.loads((tmp_path / "next/config.json").read_text())
    assert (config["ask"]["width_px"], config["ask"]["lr"]) == (160, 5e-4), "size and rate follow from --init"
    with pytest.raises(InputError, match="--init brings the encoder too"):
        run(commands, "train", snapshot, "--out", tmp_path / "both", "--weights", bundle, *again)


@pytest.mark.timeout(120)
def test_a_run_nobody_said_anything_about(commands: typer.Typer, tiny: Snapshot, tmp_path: Path) -> None:
    """The pictures' own size, the released encoder; and from nothing where that is asked for."""

    def asked(name: str, *more: object) -> Any:
        said = run(commands, "train", tiny.folder, "--out", tmp_path / name, "--epochs", 1, "--threads", 1, *more)
        assert ("encoder-0.2.0" if not more else "starts from nothing") in said.replace("\n", "")
        return json.loads((tmp_path / name / "config.json").read_text())["ask"]

    usual, bare = asked("usual"), asked("bare", "--weights", "none")
    assert (usual["width_px"], usual["height_px"], usual["lr"]) == (80, 64, 2e-3)
    assert (bare["width_px"], bare["lr"], bare["backbone"]) == (80, 2e-3, {**usual["backbone"], "weights": None})


def test_renderings_repeat_and_keep_to_the_label_book(tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert len(list(render_folder("scratch", tmp_path / name, 16, seed=3))) == 16
    one, two = ((tmp_path / name / "samples.jsonl").read_bytes() for name in ("one", "two"))
    assert one == two
    header = LabelledHeader.model_validate_json((tmp_path / "one/labelled.json").read_bytes())
    assert (header.task, header.label_book) == ("scratch", "scratch@1")
    samples = samples_of(tmp_path / "one/samples.jsonl")
    drawn = [decode_mask((tmp_path / "one" / str(s.mask)).read_bytes(), "mask").any() for s in samples]
    assert all(d or not s.labels for s, d in zip(samples, drawn, strict=True))
    short = [s for s, d in zip(samples, drawn, strict=True) if d and not s.labels]
    assert short, "a scratch under the limit is in the mask and no label"
    assert all((a.length_mm or 0) >= 1.5 for s in samples for a in s.annotations)
    image = decode((tmp_path / "one" / samples[0].image).read_bytes(), "image")
    assert image.shape == (samples[0].height_px, samples[0].width_px, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["render", "brazing", "{tmp}/x"], "there is no task 'brazing'\n.*choose one of"),
        (["train", "{snapshot}", "--out", "{tmp}/r", "--size", "300x256"], "--size: is 300x256"),
        (["train", "{snapshot}", "--out", "{tmp}/r", "--size", "big"], "--size: is 'big'"),
        (["train", "{snapshot}", "--out", "{tmp}/r", "--epochs", "1", "--minutes", "1"], "were both given"),
        (["train", "{tmp}", "--out", "{tmp}/r"], "is not a snapshot"),
        (["train", "{snapshot}", "--out", "{snapshot}"], "is a snapshot, which never changes"),
        (["train", "{snapshot}", "--out", "{snapshot}/samples.jsonl"], "is a file"),
        (["train", "{snapshot}", "--out", "{tmp}/r", "--lr", "0"], "--lr: is 0.0\n.*greater than 0"),
        (["train", "{snapshot}", "--out", "{tmp}/r", "--channels", "0"], "--channels: is 0"),
        (["train", "{snapshot}", "--out", "{tmp}/r", "--minutes", "0"], "--minutes: is 0"),
        (
            ["train", "{snapshot}", "--out", "{tmp}/r", "--size", "99999999999984x128"],
            "--size: is '99999999999984x128'",
        ),
        (["train", "ablate", "{snapshot}", "--size", "100x100"], "--size: is 100x100"),
        (["train", "compare-backbones", "{snapshot}", "--backbones", "own:abc"], "write a width as a number"),
        (["evaluate", "{tmp}", "{snapshot}", "--split", "foo"], "--split: is 'foo'\n.*train, val, test"),
        (["export", "{tmp}", "--name", "Größe"], "--name: is 'Größe'"),
        (["export", "{tmp}"], "is no training run: it has no config.json"),
        (["evaluate", "{tmp}", "{snapshot}"], "is no bundle: it has no manifest.json"),
        (["dataset", "import", "{snapshot}", "--out", "{tmp}/s", "--crop", "8x8"], "use 16 px or more"),
        (["dataset", "import", "{snapshot}", "--out", "{tmp}/s", "--px-per-mm", "inf"], "--px-per-mm: is inf"),
        (["dataset", "import", "{snapshot}", "--out", "{tmp}/s", "--stride", "64"], "--stride: is 64, and nothing is"),
        (["dataset", "import", "{snapshot}", "--out", "{tmp}/s", "--only", "weld"], "--only: is 'weld', and no source"),
        (
            ["dataset", "import", "{snapshot}", "--out", "{tmp}/s", "--unlabelled-good"],
            "--unlabelled-good: is asked for, and snapshot says itself",
        ),
        (["evaluate", "{tmp}", "{snapshot}", "--must-catch", "l.txt"], "--must-catch: is l.txt, and no model is there"),
        (["train", "labels", "{tmp}/missing.csv"], r"missing.csv: does not exist\n.*a CSV with the columns labels"),
        (
            ["dataset", "import", "{snapshot}", "--out", "{tmp}/s", "--crop", "64x64", "--stride", "0"],
            "use 16 px or more",
        ),
        (["dataset", "import", "{snapshot}", "--out", "{tmp}/s", "--classes", "1st"], "'1st' gives no class name"),
    ],
)
def test_bad_input(commands: typer.Typer, tiny: Snapshot, tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(commands, *(a.format(tmp=tmp_path, snapshot=tiny.folder) for a in arguments))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--out", "--page", "--pictures"])
def test_where_figures_cannot_be_written_is_said_before_judging(
    commands: typer.Typer, tiny: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    def judge(*_: object) -> None:
        pytest.fail("judged first")

    monkeypatch.setattr("training.evaluate.evaluate", judge)
    (tmp_path / "file").touch()
    path = tmp_path / "file" if option == "--pictures" else tmp_path
    with pytest.raises(OSError, match=r"exists|directory"):
        run(commands, "evaluate", ROOT / "models/scratch-0.2.0", tiny.folder, option, path)


def test_frames_that_change_size_are_read(commands: typer.Typer, tiny: Snapshot, tmp_path: Path) -> None:
    run(commands, "dataset", "import", tiny.folder, "--out", tmp_path / "crops", "--crop", "48x48", "--resplit")
    crops = read_snapshot(tmp_path / "crops")
    assert {(s.width_px, s.height_px) for s in crops.samples} == {(48, 48)}
    assert {s.split for s in crops.samples} >= {"train"}


def test_recipes_are_commands_anybody_can_type() -> None:
    lines = [" ".join(arguments) for _, arguments in release.RECIPES["weld"].commands()]
    assert [line.split()[0] for line in lines] == ["render", "dataset", "train", "export"]
    assert "--init models/weld-0.2.0" in lines[2]
    assert lines[0].endswith("--count 4000 --seed 51")
    twice = replace(release.RECIPES["weld"], stages=((20, "320x256", 0.002), (15, "480x384", 0.0015)))
    lines = [" ".join(arguments) for _, arguments in twice.commands()]
    assert "--init var/release/weld-run-1" in lines[3]


def test_a_recipe_of_clips_starts_where_the_one_before_ended() -> None:
    first, then = (release.RECIPES[name].commands() for name in ("weld-clips", "weld-moving"))
    bundle, train = first[-1][0], " ".join(then[2][1])
    assert f"--init {bundle}" in train
    assert "--frames 8" in train
    assert " ".join(then[0][1]).startswith("render weld ")
    assert "--clip-frames 32" in " ".join(then[0][1])
    assert "--name weld-moving --version 0.1.0" in " ".join(then[-1][1])


@pytest.mark.parametrize("name", sorted(p.parent.name for p in (ROOT / "models").glob("*/manifest.json")))
def test_released_bundles_are_whole(name: str) -> None:
    from training.served import read_bundle

    folder = ROOT / "models" / name
    served = read_bundle(folder)
    assert served.manifest.id == name
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) < 6e6
    assert str(ROOT).encode() not in (folder / "model.onnx").read_bytes()
