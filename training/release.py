"""Makes the released bundles again, from rendered frames only: `python -m training.release [weld] [scratch]`.

Each is four commands that anybody can type, printed before they run. A stopped run goes on where it was. The bundles
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
    """What a released bundle is made of. Another seed than the test renderings' keeps every test frame unseen."""

    task: str
    version: str
    frames: int
    seed: int
    epochs: int
    size: str

    def commands(self) -> list[tuple[Path, list[str]]]:
        """(what the command makes, its arguments after `haltline`), in order."""
        frames, snapshot = WORK / f"{self.task}-frames", WORK / f"{self.task}-snapshot"
        run, bundle = WORK / f"{self.task}-run", OUT / f"{self.task}-{self.version}"
        train = ["train", str(snapshot), "--out", str(run), "--epochs", str(self.epochs), "--size", self.size]
        return [
            (frames, ["render", self.task, str(frames), "--count", str(self.frames), "--seed", str(self.seed)]),
            (snapshot, ["dataset", "import", str(frames), "--out", str(snapshot)]),
            (run / "finished", train),
            (bundle, ["export", str(run), "--version", self.version, "--out", str(bundle)]),
        ]


RECIPES = {
    "weld": Recipe("weld", "0.1.0", frames=2000, seed=1, epochs=16, size="320x256"),
    "scratch": Recipe("scratch", "0.1.0", frames=2000, seed=2, epochs=16, size="320x256"),
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
