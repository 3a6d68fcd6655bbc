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
class Recipe:
    """What a released bundle is made of: frames, then one stage of training after the other, each (epochs, size, lr).

    A later stage starts from the earlier: what was learnt coarsely, at a fraction of the cost, need only be refined.
    The first starts from `start`, the release before, so that its frames count too. The seed is none of the tests', so
    that every frame they render is unseen.
    """

    task: str
    version: str
    frames: int
    seed: int
    stages: tuple[tuple[int, str, float], ...]
    start: str = ""

    def commands(self) -> list[tuple[Path, list[str]]]:
        """(what the command makes, its arguments after `haltline`), in order."""
        frames, snapshot = WORK / f"{self.task}-frames", WORK / f"{self.task}-snapshot"
        runs = [WORK / f"{self.task}-run-{k}" for k, _ in enumerate(self.stages, 1)]
        bundle = OUT / f"{self.task}-{self.version}"
        made = [
            (frames, ["render", self.task, str(frames), "--count", str(self.frames), "--seed", str(self.seed)]),
            (snapshot, ["dataset", "import", str(frames), "--out", str(snapshot)]),
        ]
        for k, (epochs, size, lr) in enumerate(self.stages):
            train = ["train", str(snapshot), "--out", str(runs[k]), "--epochs", str(epochs), "--size", size]
            before = str(runs[k - 1]) if k else self.start
            start = ["--init", before] if before else []
            # A run that is there may be half done: the same command goes on with it, or finds nothing left to do.
            made.append((bundle, [*train, "--lr", str(lr), *start]))
        made.append((bundle, ["export", str(runs[-1]), "--version", self.version, "--out", str(bundle)]))
        return made


RECIPES = {
    "weld": Recipe("weld", "0.3.0", 4000, 51, ((16, "480x384", 0.001),), "models/weld-0.2.0"),
    "scratch": Recipe("scratch", "0.3.0", 4000, 52, ((24, "320x256", 0.001),), "models/scratch-0.2.0"),
}
"""Those of 0.2.0 had as many frames of seeds 11 and 12 and began with 0.1.0; those of 0.1.0 had 2,000 of seeds 1 and 2:
weld 20 epochs at 320x256 and 15 at 480x384 from there, scratch 20 at 320x256, from nothing."""


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
