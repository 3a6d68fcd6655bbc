"""A snapshot: the pictures a model is trained and judged on, which never change.

    snapshot.json    `SnapshotManifest`: what it is for, its label book, counts, the hash of samples.jsonl
    samples.jsonl    one `inspection.samples.Sample` a line, each with its split
    images/ masks/   files named by the sha256 of their content

The id is a hash of the content, so "trained on weld-3f2a..." means exactly these pictures, labels and splits. A mask
whose name ends in `.boxes.png` was filled from boxes: it says where to look, not where the defect ends.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspection.errors import DatasetError
from inspection.label_book import LabelBook
from inspection.samples import ClassName, Sample, Sha256, Split

SNAPSHOT_FILE = "snapshot.json"
SAMPLES = "samples.jsonl"
BOXES_SUFFIX = ".boxes.png"
SPLITS: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")


class LeakNote(BaseModel):
    """What the import found when it looked for pictures of one scene in several groups.

    `pairs` of such pictures; `joined`: given groups that became part of another; `crossing`: pairs on both sides of the
    split, 0 unless `forced`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pairs: int
    joined: int
    crossing: int
    forced: bool


class SnapshotManifest(BaseModel):
    """`snapshot.json`. `counts` is split -> {samples, groups, good, and one entry per class}.

    `made_by` are the kinds of source its pictures came from, e.g. `rendered:` or `coco`. `leaks` None: nobody looked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    id: str = Field(pattern=r"^[a-z0-9_-]+-[0-9a-f]{12}$")
    created_utc: str
    task: str
    classes: tuple[ClassName, ...] = Field(min_length=1)
    label_book: LabelBook
    counts: dict[str, dict[str, int]]
    sources: tuple[str, ...]
    made_by: tuple[str, ...] = ()
    duplicates_dropped: int = 0
    leaks: LeakNote | None = None
    seed: int
    samples_sha256: Sha256


class Snapshot(BaseModel):
    """A snapshot that has been read: where it lies, its manifest, its samples."""

    model_config = ConfigDict(frozen=True)

    folder: Path
    manifest: SnapshotManifest
    samples: tuple[Sample, ...]

    @property
    def sha256(self) -> str:
        return self.manifest.samples_sha256

    def split(self, name: str) -> tuple[Sample, ...]:
        return tuple(s for s in self.samples if s.split == name)


def snapshot_id(task: str, book: LabelBook, samples_sha256: str) -> str:
    """The same pictures, labels, splits and rules give the same id, whenever and wherever they are put together."""
    content = json.dumps([task, book.model_dump(mode="json"), samples_sha256], sort_keys=True)
    return f"{task}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def count(samples: Iterable[Sample], classes: tuple[str, ...]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    groups: dict[str, set[str]] = {split: set() for split in SPLITS}
    for s in samples:
        split = s.split or "train"
        counts[split].update(["samples", *(s.labels or ("good",))])
        groups[split].add(s.group)
    keys = ("samples", "good", *classes)
    return {split: {"groups": len(groups[split]), **{k: counts[split][k] for k in keys}} for split in SPLITS}


def dealt(snapshot: Snapshot, splits: Sequence[Split]) -> Snapshot:
    """The snapshot with its samples in other splits, and so with another id: a run knows that it saw other pictures."""
    samples = tuple(s.model_copy(update={"split": split}) for s, split in zip(snapshot.samples, splits, strict=True))
    digest = hashlib.sha256("".join(s.model_dump_json() for s in samples).encode()).hexdigest()
    m = snapshot.manifest
    changes = {
        "id": snapshot_id(m.task, m.label_book, digest),
        "samples_sha256": digest,
        "counts": count(samples, m.classes),
    }
    return snapshot.model_copy(update={"samples": samples, "manifest": m.model_copy(update=changes)})


def read_snapshot(folder: Path) -> Snapshot:
    """The snapshot in `folder`, its list of samples checked against the manifest; `verify` checks the files."""
    manifest_file = folder / SNAPSHOT_FILE
    if not manifest_file.is_file():
        raise DatasetError(
            folder, f"is not a snapshot: it has no {SNAPSHOT_FILE}", "make one with `haltline dataset import`"
        )
    try:
        manifest = SnapshotManifest.model_validate_json(manifest_file.read_bytes())
    except ValidationError as e:
        raise DatasetError(manifest_file, first_error(e), "import the snapshot again") from e
    data = _read(folder / SAMPLES)
    if hashlib.sha256(data).hexdigest() != manifest.samples_sha256:
        raise DatasetError(
            folder / SAMPLES, f"is not the list {SNAPSHOT_FILE} names", "a snapshot never changes: import it again"
        )
    return Snapshot(folder=folder, manifest=manifest, samples=tuple(parse_samples(data, folder / SAMPLES)))


def parse_samples(data: bytes, where: Path) -> list[Sample]:
    """One sample a line; an error names the line."""
    samples = []
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            samples.append(Sample.model_validate_json(line))
        except ValidationError as e:
            raise DatasetError(f"{where}:{number}", first_error(e), "mend the line or export again") from e
    return samples


def verify(folder: Path) -> Snapshot:
    """Read every file again and compare it with its hash; DatasetError names the first that differs."""
    snapshot = read_snapshot(folder)
    manifest = snapshot.manifest
    wanted = snapshot_id(manifest.task, manifest.label_book, manifest.samples_sha256)
    if manifest.id != wanted:
        raise DatasetError(
            folder / SNAPSHOT_FILE, f"its id is {manifest.id}, its content says {wanted}", "import again"
        )
    if manifest.counts != count(snapshot.samples, manifest.classes):
        raise DatasetError(folder / SNAPSHOT_FILE, "its counts are not those of its samples", "import again")
    check_groups(snapshot.samples, folder / SAMPLES)
    for sample in snapshot.samples:
        _check_file(folder / sample.image, sample.image_sha256)
        if sample.mask and sample.mask_sha256:
            _check_file(folder / sample.mask, sample.mask_sha256)
    return snapshot


def check_groups(samples: Iterable[Sample], where: object) -> None:
    """Refuse a group on both sides of a split: the test would meet a part it was trained on."""
    seen: dict[str, Sample] = {}
    for s in samples:
        first = seen.setdefault(s.group, s)
        if first.split != s.split:
            raise DatasetError(
                where,
                f"group {s.group!r} is in {first.split} ({first.image}) and in {s.split} ({s.image})",
                "give all pictures of one part the same split, or none and let the import choose",
            )


def first_error(e: ValidationError) -> str:
    error = e.errors()[0]
    key = ".".join(str(part) for part in error["loc"])
    return f"{key}: {error['msg']}" if key else str(error["msg"])


def _check_file(path: Path, sha256: str) -> None:
    if hashlib.sha256(_read(path)).hexdigest() != sha256:
        raise DatasetError(path, "is not the file the snapshot was made with", "copy the snapshot again")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise DatasetError(path, f"cannot be read: {e.strerror or e}", "copy the snapshot again") from e
