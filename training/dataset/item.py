"""One picture on its way into a snapshot, and the checks every importer shares.

An importer reads one format and yields `Item`s; nothing here knows a format. Whatever is wrong with a file is a
DatasetError that names the file, what was found and what to do.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection.errors import DatasetError
from inspection.exchange import GOOD
from inspection.label_book import LabelBook
from inspection.samples import Annotation, Split
from inspection.types import Image

Mask = NDArray[np.uint8]
"""(H, W) uint8: 0 = sound, k = the k-th class from 1."""

GERMAN = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"})
SPLIT_NAMES: dict[str, Split | None] = {
    "": None,
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
    "test_public": "test",
}
GOOD_NAMES = {"good", "ok", "free", "mt_free", "none", "normal", "no_defect", "defect_free"}
"""As class names are written: what tables and folders call a picture without a defect."""
CLASS_NAME, NAME_BEGINS = r"[a-z][a-z0-9_]{0,31}", "begin with a letter, at most 32 of a-z and digits"
COPY = ".rf."
"""Before it stands the name of the picture that Roboflow made a copy of, turned or lighter."""
JPEG_SUFFIXES = (".jpg", ".jpeg")
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True, slots=True)
class Item:
    """One labelled picture. `where` names it in errors: a file, or `file:line`.

    `data` are the encoded bytes with the extension `suffix`. `labels` None means that they follow from the mask and the
    label book. `mask_is_boxes`: the mask is filled boxes, which say where to look and not where the defect ends.
    `doubt`: what is odd about it and was settled by a guess, to be told to whoever imports it. `unmarked`: its format
    lists it and says nothing of it, as of a good picture and of one that nobody has looked at yet.
    """

    where: str
    data: bytes
    suffix: str
    group: str
    mask: Mask | None = None
    mask_is_boxes: bool = False
    labels: tuple[str, ...] | None = None
    annotations: tuple[Annotation, ...] = ()
    px_per_mm: float | None = None
    split: Split | None = None
    label_book: str | None = None
    labelled_by: tuple[str, ...] = ()
    soft_labels: dict[str, float] | None = None
    source: str = ""
    part: str = ""
    model: str = ""
    doubt: str = ""
    unmarked: bool = False


@dataclass(frozen=True, slots=True)
class Names:
    """What a source's names are here: `renamed` by whoever imports it, from a name as a class name is written, else as
    they are called."""

    renamed: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(cls, pairs: list[str]) -> Names:
        """`Good Weld=good`, `1_pore=pore`: what the source calls it, and a class or `good`."""
        renamed = {}
        for pair in pairs:
            said, equals, to = pair.rpartition("=")
            if not equals or not _plain(said):
                raise DatasetError(
                    "--rename", f"is {pair!r}", 'write the source\'s name = the new one: "Good Weld=good"'
                )
            renamed[_plain(said)] = to if to == GOOD else class_name(to, "--rename")
        return cls(renamed)

    def called(self, raw: str, where: object) -> str | None:
        """The class of a source's name; None where it was renamed to `good`."""
        if (to := self.renamed.get(_plain(raw))) is not None:
            return None if to == GOOD else to
        try:
            return class_name(raw, where)
        except DatasetError as e:
            raise DatasetError(where, e.what, f"{e.fix}; or name it anew: --rename {f'{raw}=NAME'!r}") from e

    def classes(self, raw: Iterable[str], where: object) -> tuple[str, ...]:
        """The classes of names, each once, in their order."""
        raw = list(dict.fromkeys(raw))
        if len(odd := [one for one in raw if not self._callable(one)]) > 1:
            fix = " ".join(f"--rename {f'{one}=NAME'!r}" for one in odd)
            what = f"{', '.join(map(repr, odd))} give no class names"
            raise DatasetError(where, what, f"{NAME_BEGINS}; or name them anew: {fix}")
        called = (self.called(one, where) for one in raw)
        return tuple(dict.fromkeys(cls for cls in called if cls is not None))

    def _callable(self, raw: str) -> bool:
        return self.renames(raw) or _plain(raw) == GOOD or re.fullmatch(CLASS_NAME, _plain(raw)) is not None

    def renames(self, raw: str) -> bool:
        return _plain(raw) in self.renamed

    def good(self, raw: str) -> bool:
        """Whether a folder or a cell of a table that is called so holds no defect."""
        name = _plain(raw)
        return self.renamed.get(name, name) in GOOD_NAMES

    def lies_with_good(self, way: Iterable[str]) -> bool:
        """`way`: the folders a picture lies in."""
        return any(self.good(folder) for folder in way)


@dataclass(frozen=True, slots=True)
class Target:
    """What a snapshot is for: importers map their classes to `classes` and masks to 1..C in that order.

    With `merge` there is one class and every defect, whatever its name, counts as it. `unlabelled_good`: pictures that
    no mask or label file is of are good ones; otherwise nobody said so, and they are refused.
    """

    task: str
    book: LabelBook
    px_per_mm: float | None = None
    merge: bool = False
    names: Names = Names()
    unlabelled_good: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        return self.book.classes

    def class_of(self, name: str, where: object) -> str:
        """The snapshot's class for a source's class; DatasetError when it has none."""
        if self.merge:
            return self.classes[0]
        if name not in self.classes:
            raise DatasetError(
                where, f"the class {name!r} is not one of {list(self.classes)}", "name it with --classes, or mend it"
            )
        return name

    def called(self, raw: str, where: object) -> str | None:
        """The snapshot's class for what a source calls `raw`; None where that means good."""
        cls = self.names.called(raw, where)
        return None if cls is None else self.class_of(cls, where)

    def class_id(self, name: str, where: object) -> int:
        return self.classes.index(self.class_of(name, where)) + 1


def good_item(image: Path, group: str, source: str, split: Split | None = None) -> Item:
    return Item(str(image), read_picture(image), image.suffix, group, labels=(), split=split, source=source)


def class_name(raw: str, where: object) -> str:
    """A source's name as a class name here: `Lack of fusion` -> `lack_of_fusion`, `Lötfehler` -> `loetfehler`."""
    name = _plain(raw)
    if not re.fullmatch(CLASS_NAME, name):
        raise DatasetError(where, f"{raw!r} gives no class name", NAME_BEGINS)
    if name == GOOD:
        raise DatasetError(where, f"{raw!r} is no class of defects", "leave good pictures without a label or region")
    return name


def _plain(raw: str) -> str:
    letters = unicodedata.normalize("NFKD", raw.strip().lower().translate(GERMAN))
    letters = "".join(c for c in letters if not unicodedata.combining(c))
    return re.sub(r"[\W_]+", "_", letters).strip("_")


def read_bytes(path: Path, named_by: object = None) -> bytes:
    """The file's bytes; `named_by` is the file that pointed to it."""
    try:
        return path.read_bytes()
    except OSError as e:
        by = f", which {named_by} names" if named_by else ""
        raise DatasetError(path, f"cannot be read{by}: {e.strerror or e}", "restore the file or drop its line") from e


def read_picture(path: Path) -> bytes:
    """The bytes of a picture that nothing but its place says to be one; DatasetError where it is a mask."""
    data = read_bytes(path)
    if path.suffix.lower() not in JPEG_SUFFIXES and _is_mask(decode(data, path)):
        raise DatasetError(
            path,
            "holds two values and no other, as a mask does",
            "call the masks x_mask.png, or their folder masks; of such pictures write a CSV with image,label",
        )
    return data


def _is_mask(image: Image) -> bool:
    """Whether it holds 0 and one more value, in grey."""
    low, high = image.min(), image.max()
    return bool(low == 0 < high and ((image == low) | (image == high)).all() and (np.ptp(image, axis=2) == 0).all())


def read_text(path: Path, named_by: object = None) -> str:
    """A text file as UTF-8, with or without the mark that Excel puts in front; DatasetError names the line else."""
    data = read_bytes(path, named_by)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise DatasetError(f"{path}:{line}", f"is not UTF-8 ({e.reason})", "save it as CSV UTF-8, or as UTF-8") from e


def read_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file; DatasetError names the line where it is none."""
    try:
        return ElementTree.fromstring(read_bytes(path))
    except ElementTree.ParseError as e:
        raise DatasetError(f"{path}:{e.position[0]}", f"is no XML: {e}", "export it again") from e
    except (LookupError, ValueError) as e:
        raise DatasetError(path, f"is in an encoding that is not known: {e}", "save it as UTF-8") from e


def xml_root(path: Path) -> str:
    """What the root of an XML file is called; "" where it is none."""
    try:
        with path.open("rb") as file:
            _, root = next(ElementTree.iterparse(file, ("start",)))
    except (OSError, ElementTree.ParseError, StopIteration, LookupError, ValueError):
        return ""
    return str(root.tag)


def decode(data: bytes, where: object) -> Image:
    """Encoded bytes -> (H, W, 3) uint8 BGR."""
    # The depth is asked for so that it can be refused: without it OpenCV keeps the upper 8 of 16 bits, and what a
    # camera of 12 bits put into them is black.
    image = _imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if image is None:
        raise DatasetError(where, "is not a readable image", "export it again as PNG or JPEG")
    if image.dtype != np.uint8:
        raise DatasetError(
            where,
            f"holds {image.dtype.itemsize * 8} bits a value, {image.min():g} to {image.max():g}, and 8 are read",
            "convert it to 8 bits with the camera's own scaling, all pictures alike",
        )
    return image


def decode_mask(data: bytes, where: object) -> Mask:
    """Encoded bytes -> (H, W) uint8 as stored; a colour mask is refused, for nobody can say what its colours mean."""
    mask = _imdecode(data, cv2.IMREAD_UNCHANGED)
    if mask is None:
        raise DatasetError(where, "is not a readable mask", "export it again as an 8-bit PNG of one channel")
    if mask.ndim == 3 and mask.shape[2] == 4 and _one_value(mask[..., :3]) and not _one_value(mask[..., 3]):
        raise DatasetError(where, "has its marks in the transparency alone", "save it as an 8-bit PNG of one channel")
    if mask.ndim == 3 and all(np.array_equal(mask[..., 0], mask[..., c]) for c in range(1, min(3, mask.shape[2]))):
        mask = mask[..., 0]
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise DatasetError(where, f"is a mask of {mask.shape} {mask.dtype}", "save it as an 8-bit PNG of one channel")
    return np.ascontiguousarray(mask)


def _one_value(pixels: Image) -> bool:
    return bool((pixels == pixels.flat[0]).all())


def check_mask(mask: Mask, image: Image, classes: int, where: object) -> None:
    """Refuse a mask of another size than its picture, or with a value that is no class."""
    if mask.shape != image.shape[:2]:
        (mh, mw), (h, w) = mask.shape, image.shape[:2]
        raise DatasetError(where, f"the mask is {mw}x{mh} px, the picture {w}x{h}", "export picture and mask together")
    if mask.max(initial=0) > classes:
        raise DatasetError(
            where,
            f"the mask holds the value {int(mask.max())}, but there are {classes} classes",
            "masks hold 0 for sound and k for the k-th class, or 0 and 255 for a single one: name the classes in that "
            "order, --classes a,b,c, or one for all of them, --classes defect",
        )


def binary_to_class(mask: Mask, class_id: int) -> Mask:
    """A mask of 0 and 255 (as JPEG may blur it) -> 0 and `class_id`; a mask of class numbers stays as it is."""
    if mask.max(initial=0) < 128:
        return mask
    return np.where(mask >= 128, np.uint8(class_id), np.uint8(0))


def group_of(picture: Path, part: str = "") -> str:
    """Each picture is its own, with its copies. `part`: of the split, where another may have a picture of that name."""
    of = picture.stem.partition(COPY)[0]
    return f"{part}-{of}" if part else of


def pictures(folder: Path) -> list[Path]:
    """The image files of a folder, by name; hidden ones are other programs'."""
    if not folder.is_dir():
        raise DatasetError(folder, "is not a folder", "check the path")
    found = sorted(p for p in folder.glob("[!.]*") if p.suffix.lower() in SUFFIXES)
    for path in found:
        try:
            path.name.encode()
        except UnicodeEncodeError as e:  # an archive of Windows, unpacked here
            what = f"holds a picture whose name is no UTF-8: {os.fsencode(path.name)!r}"
            raise DatasetError(folder, what, "rename it, as `convmv -f cp1252 -t utf8` does with a whole folder") from e
    return found


def pictures_by_stem(folder: Path) -> dict[str, Path]:
    """The same by their names without the ending, for formats that put a label or mask of that name beside each."""
    _check_flat(folder)
    found: dict[str, Path] = {}
    for path in pictures(folder):
        if (other := found.setdefault(path.stem, path)) is not path:
            raise DatasetError(path, f"and {other.name} would share one label", "give each picture a name of its own")
    return found


def _check_flat(folder: Path) -> None:
    """Refuse folders with pictures inside this one: their labels lie in folders too, and nothing would be read of
    either. Hidden ones hold what other programs keep for themselves."""
    for inner in sorted(p for p in folder.glob("[!.]*") if p.is_dir()):
        if lost := next((p for p in inner.rglob("*") if p.suffix.lower() in SUFFIXES), None):
            raise DatasetError(
                folder,
                f"holds pictures in a folder inside it, where none are read: {lost.relative_to(folder)}",
                f"move what is in {inner.name}/ up, labels or masks too, or lay it out beside as a source of its own",
            )


def _imdecode(data: bytes, flags: int) -> Image | None:
    if not data:
        return None
    try:
        found = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    return None if found is None else np.asarray(found)
