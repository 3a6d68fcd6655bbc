"""An edge that is too slow for its cameras judges fewer frames of each, and every camera in its turn."""

from __future__ import annotations

import random
from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest

from edge.inbox import Inbox
from inspection.types import Frame

PICTURE = np.zeros((2, 2, 3), np.uint8)
CAMERAS, PERIOD_S, SECONDS = 8, 0.2, 60


@pytest.mark.parametrize("judging_s", [0.027, 0.03, 0.04, 0.06], ids=["a tenth too slow", "0.8", "0.6", "0.4"])
@pytest.mark.parametrize("seed", range(3))
def test_no_camera_waits_much_longer_than_another(judging_s: float, seed: int) -> None:
    drawn = random.Random(seed)
    phases = [drawn.random() * PERIOD_S for _ in range(CAMERAS)]
    times = [(phases[c] + k * PERIOD_S, c, k) for c in range(CAMERAS) for k in range(round(SECONDS / PERIOD_S))]
    inbox, coming = Inbox(), iter(sorted(times))
    judged: dict[str, list[tuple[float, int]]] = defaultdict(list)
    now_s = 0.0
    for at_s, camera, number in coming:
        while now_s < at_s and any(inbox.waiting(f"cam{c}") for c in range(CAMERAS)):
            frame = next(iter(inbox))
            assert isinstance(frame, Frame)
            now_s += judging_s
            judged[frame.camera].append((now_s, frame.frame_id))
        now_s = max(now_s, at_s)
        inbox.put(Frame(f"cam{camera}", number, 0, 0, PICTURE, 1.0))
    each = [len(judged[f"cam{c}"]) for c in range(CAMERAS)]
    assert min(each) > 0.7 * max(each)
    for seen in judged.values():
        assert [number for _, number in seen] == sorted(number for _, number in seen)
        longest_s = max(later - earlier for (earlier, _), (later, _) in pairwise(seen))
        assert longest_s < 2.5 * CAMERAS * judging_s
