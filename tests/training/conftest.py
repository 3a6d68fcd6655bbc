"""Small worlds for the training room: a folder to fill, a snapshot, one trained run for all tests that read it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.training.pictures import Folder, picture, scratched, tiny_ask
from training.dataset.snapshot import Snapshot


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Two threads that spin at barriers crawl beside any other load: 60 tiny steps then take a minute."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "labelled")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """48 pictures of 64x80 px, every other one with a scratch of 1.6 to 5 mm at 10 px/mm: learnable in seconds."""
    made = Folder(tmp_path_factory.mktemp("tiny") / "labelled")
    splits = ["train"] * 8 + ["val"] * 4 + ["test"] * 4
    for k in range(48):
        image, mask = scratched(k, 18 + k) if k % 2 else (picture(k), np.zeros((64, 80), np.uint8))
        made.add(image, mask, labels=["scratch"] if k % 2 else [], split=splits[k % 16])
    return made.snapshot(made.root.parent / "snapshot")


@pytest.fixture(scope="session")
def tiny_run(tiny: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the tiny pictures."""
    from training.fit import fit

    run = tmp_path_factory.mktemp("runs") / "tiny"
    fit(tiny, run, tiny_ask())
    return run
