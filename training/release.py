"""Makes the released bundles again, from rendered frames only: `python -m training.release [weld] [scratch]`.

Each is a few commands that anybody can type, printed before they run. A stopped run goes on where it was. The bundles
are written to var/models: what is released in models/ changes only when somebody copies it there with a new version.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from inspection.errors import ConfigError, InputError

WORK, OUT = Path("var/release"), Path("var/models")


@dataclass(frozen=True, slots=True)
class Stage:
    """`epochs` over `frames` rendered frames of `seed`, brought to `size`; `lr` is the highest learning rate.

    No seed is one of the tests', so that every frame they render is unseen.
    """

    epochs: int
    size: str
    lr: float
    seed: int
    frames: int = 2000


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a released bundle is made of: one stage of training after the other.

    A later stage starts from the earlier: what was learnt coarsely, at a fraction of the cost, need only be refined.
    The last one sees frames of its own, so that what limits, novelty and card rest on was never trained on.
    """

    task: str
    version: str
    stages: tuple[Stage, ...]

    def commands(self) -> list[tuple[Path, list[str]]]:
        """(what the command makes, its arguments after `haltline`), in order."""
        bundle, made = OUT / f"{self.task}-{self.version}", []
        runs = [WORK / f"{self.task}-run-{k}" for k, _ in enumerate(self.stages, 1)]
        for k, stage in enumerate(self.stages):
            frames, snapshot = (WORK / f"{self.task}-{what}-{stage.seed}" for what in ("frames", "snapshot"))
            count = ["--count", str(stage.frames), "--seed", str(stage.seed)]
            train = ["train", str(snapshot), "--out", str(runs[k]), "--epochs", str(stage.epochs), "--size", stage.size]
            start = ["--init", str(runs[k - 1])] if k else []
            made += [
                (frames, ["render", self.task, str(frames), *count]),
                (snapshot, ["dataset", "import", str(frames), "--out", str(snapshot)]),
                # A run that is there may be half done: the same command goes on with it, or finds nothing left to do.
                (bundle, [*train, "--lr", str(stage.lr), *start]),
            ]
        made.append((bundle, ["export", str(runs[-1]), "--version", self.version, "--out", str(bundle)]))
        return made


RECIPES = {
    "weld": Recipe(
        "weld",
        "0.2.0",
        (
            Stage(20, "320x256", 0.002, seed=1),
            Stage(15, "480x384", 0.0015, seed=1),
            Stage(10, "480x384", 0.001, seed=11, frames=3000),
        ),
    ),
    "scratch": Recipe(
        "scratch", "0.2.0", (Stage(20, "320x256", 0.002, seed=2), Stage(12, "320x256", 0.001, seed=12, frames=3000))
    ),
}


def main(tasks: list[str]) -> None:
    for task in tasks or list(RECIPES):
        if task not in RECIPES:
            raise ConfigError("training.release", f"knows no model {task!r}", f"choose from {', '.join(RECIPES)}")
        for makes, arguments in RECIPES[task].commands():
            print("haltline", shlex.join(arguments), flush=True)
            if makes.exists():
                print(f"  {makes} is there already")
                continue
            makes.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run([sys.executable, "-m", "haltline", *arguments], check=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InputError as e:
        sys.exit(f"{e}")
    except subprocess.CalledProcessError as e:
        sys.exit(e.returncode)
