"""Makes the released bundles again, from rendered frames only: `python -m training.release [NAME ...]`.

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
REMEMBERS = 8
"""Frames of a clip that are learnt from at once."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a released bundle is made of: frames, then one stage of training after the other, each (epochs, size, lr).
    With `clip_frames` they are clips of a moving weld, so many frames each, for a model that remembers.

    A later stage starts from the earlier: what was learnt coarsely, at a fraction of the cost, need only be refined.
    The first starts from `start`, the release before, so that its frames count too. The seed is none of the tests', so
    that every frame they render is unseen.
    """

    name: str
    version: str
    frames: int
    seed: int
    stages: tuple[tuple[int, str, float], ...]
    start: str = ""
    task: str = ""
    clip_frames: int = 0

    def commands(self) -> list[tuple[Path, list[str]]]:
        """(what the command makes, its arguments after `haltline`), in order."""
        frames, snapshot = WORK / f"{self.name}-frames", WORK / f"{self.name}-snapshot"
        runs = [WORK / f"{self.name}-run-{k}" for k, _ in enumerate(self.stages, 1)]
        bundle = OUT / f"{self.name}-{self.version}"
        of_clips = ["--clip-frames", str(self.clip_frames)] if self.clip_frames else []
        drawn = ["--count", str(self.frames), "--seed", str(self.seed), *of_clips]
        # Frames of one clip are alike on purpose, and drawn clips are each of a weld of their own.
        unseen = ["--no-look"] if self.clip_frames else []
        made = [
            (frames, ["render", self.task or self.name, str(frames), *drawn]),
            (snapshot, ["dataset", "import", str(frames), "--out", str(snapshot), *unseen]),
        ]
        for k, (epochs, size, lr) in enumerate(self.stages):
            train = ["train", str(snapshot), "--out", str(runs[k]), "--epochs", str(epochs), "--size", size]
            train += ["--frames", str(REMEMBERS)] if self.clip_frames else []
            before = str(runs[k - 1]) if k else self.start
            start = ["--init", before] if before else []
            # A run that is there may be half done: the same command goes on with it, or finds nothing left to do.
            made.append((bundle, [*train, "--lr", str(lr), *start]))
        named = ["--name", self.name] if self.task else []
        made.append((bundle, ["export", str(runs[-1]), *named, "--version", self.version, "--out", str(bundle)]))
        return made


RECIPES = {
    "weld": Recipe("weld", "0.3.0", 4000, 51, ((16, "480x384", 0.001),), "models/weld-0.2.0"),
    "scratch": Recipe("scratch", "0.3.0", 4000, 52, ((24, "320x256", 0.001),), "models/scratch-0.2.0"),
    "weld-clips": Recipe("weld-clips", "0.3.0", 16_000, 22, ((12, "192x160", 0.002),), "", "weld", 32),
    "weld-moving": Recipe(
        "weld-moving", "0.1.0", 57_600, 23, ((6, "192x160", 0.001),), f"{OUT}/weld-clips-0.3.0", "weld", 32
    ),
}
"""weld-clips is no release of its own: weld-moving goes on from it. Those of 0.2.0 had as many frames of seeds 11 and
12 and began with 0.1.0; those of 0.1.0 had 2,000 of seeds 1 and 2: weld 20 epochs at 320x256 and 15 at 480x384 from
there, scratch 20 at 320x256, from nothing."""


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
