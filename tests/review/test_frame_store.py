"""The hub's frames on disk: what is answered for would survive a power cut, and what failed is not called there."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from inspection.bundle import sha256
from inspection.errors import StorageError
from review.frames import FolderFrames

FILES = {sha256(data): data for data in (f"frame {k}".encode() * 30 for k in range(5))}


class Watch:
    """What is done to the disk, in order: ("sync", name) and ("rename", sha)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[str, str]] = []
        self.fails_at = ""
        fsync, replace = os.fsync, os.replace

        def watched_sync(fd: int) -> None:
            name = str(Path(f"/proc/self/fd/{fd}").readlink())
            if self.fails_at and re.search(self.fails_at, name):
                raise OSError(5, "Input/output error")
            self.seen.append(("sync", name))
            fsync(fd)

        def watched_replace(old: Path, new: Path) -> None:
            assert ("sync", str(old)) in self.seen, "renamed before its bytes were safe"
            self.seen.append(("rename", new.name))
            replace(old, new)

        monkeypatch.setattr(os, "fsync", watched_sync)
        monkeypatch.setattr(os, "replace", watched_replace)

    def at(self, what: str, name: str) -> int:
        return self.seen.index((what, name))


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


def test_every_name_is_synced_after_its_bytes_and_before_the_answer(tmp_path: Path, watch: Watch) -> None:
    store = FolderFrames(tmp_path)
    store.put_all(FILES)
    for sha, data in FILES.items():
        assert store.read(sha) == data
        assert watch.at("rename", sha) < watch.at("sync", str(tmp_path / sha[:2]))
    assert watch.seen[-1] == ("sync", str(tmp_path)), "the folders' own names, once"
    watch.seen.clear()
    store.put_all(FILES)
    assert watch.seen == [], "what is there costs nothing"
    candidates = (b"%d" % k for k in range(10_000))
    store.put(next(data for data in candidates if sha256(data)[:2] == next(iter(FILES))[:2]))
    assert [what for what, _ in watch.seen] == ["sync", "rename", "sync"], "the folder's own name is safe already"


@pytest.mark.parametrize("at", [r"/\.new-", "$"], ids=["a file", "its folder"])
def test_what_could_not_be_made_safe_is_not_there_until_it_is(tmp_path: Path, watch: Watch, at: str) -> None:
    store = FolderFrames(tmp_path)
    watch.fails_at = f"/{next(iter(FILES))[:2]}{at}"
    with pytest.raises(StorageError, match="cannot be written"):
        store.put_all(FILES)
    assert not any(store.exists(sha) for sha in FILES), "an edge that is told so would delete its own"
    watch.fails_at = ""
    store.put_all(FILES)
    assert all(store.exists(sha) for sha in FILES)
    assert not list(tmp_path.rglob(".new-*"))


def test_a_new_hub_makes_safe_what_a_killed_one_only_named(tmp_path: Path, watch: Watch) -> None:
    FolderFrames(tmp_path).put_all(FILES)
    sha = next(iter(FILES))
    old, young = tmp_path / sha[:2] / ".new-old", tmp_path / sha[:2] / ".new-young"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    watch.seen.clear()
    store = FolderFrames(tmp_path)
    store.settle()
    assert {name for _, name in watch.seen} == {str(tmp_path / s[:2]) for s in FILES} | {str(tmp_path)}
    assert store.exists(sha)
    assert (old.exists(), young.exists()) == (False, True)
    watch.fails_at = f"{tmp_path}$"
    with pytest.raises(StorageError, match="cannot be made safe"):
        FolderFrames(tmp_path).settle()
