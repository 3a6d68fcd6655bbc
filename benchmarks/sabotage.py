"""`python -m benchmarks.sabotage FUNCTION,... FILE edge.yaml`: an edge in which FUNCTION raises once FILE exists.

For the fault bench only. FUNCTION is `module:Class.method`, or several with commas; the rest is the edge as shipped.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from edge.cli import run


def sabotage(target: str, flag: Path) -> None:
    module, _, path = target.partition(":")
    owner: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original = getattr(owner, name)

    def sabotaged(*args: Any, **kwargs: Any) -> Any:
        if flag.exists():
            raise RuntimeError(f"sabotaged {target}")
        return original(*args, **kwargs)

    setattr(owner, name, sabotaged)


if __name__ == "__main__":
    for function in sys.argv[1].split(","):
        sabotage(function, Path(sys.argv[2]))
    run(Path(sys.argv[3]))
