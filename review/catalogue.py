"""Keeps `locale/` in step with the words in code, templates and scripts: `python -m review.catalogue`.

Writes every msgid found into each language's .po, keeps its translation, drops what nobody says any more, and names
what has none yet. Exit code 1 when something is missing.
"""

from __future__ import annotations

import sys
from pathlib import Path

from babel import Locale
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

from review.language import LANGUAGES, po_path

ROOT = Path(__file__).parent
METHODS = [
    ("**.py", "python"),
    ("templates/**.html", "jinja2"),
    ("static/vendor/**", "ignore"),
    ("static/**.js", "javascript"),
]
KEYWORDS: dict[str, tuple[int, ...] | None] = {
    "_": None, "N_": None, "t": None, "gettext": None, "ngettext": (1, 2), "raw_many": (1, 2)
}  # fmt: skip
OPTIONS = {"templates/**.html": {"trimmed": "true", "newstyle_gettext": "true", "silent": "false"}}


def found() -> Catalog:
    """Every msgid of the sources, with the files it is said in."""
    catalogue = Catalog(charset="utf-8")
    for file, _line, message, comments, _context in extract_from_dir(
        str(ROOT),
        METHODS,
        OPTIONS,
        keywords=KEYWORDS,
        comment_tags=("Translators:",),
    ):
        if message:
            catalogue.add(message, None, [(file, 0)], auto_comments=comments)
    return catalogue


def load(language: str) -> Catalog:
    with po_path(language).open("rb") as po:
        return read_po(po, Locale.parse(language))


def missing(language: str) -> list[str]:
    """Msgids said somewhere that this language cannot say, each once."""
    have = load(language)
    return sorted(str(m.id) for m in found() if m.id and not _translated(have, m.id))


def _translated(catalogue: Catalog, key: str | tuple[str, ...] | list[str]) -> bool:
    message = catalogue.get(key)
    if message is None or message.fuzzy:
        return False
    said = message.string if isinstance(message.string, tuple | list) else [message.string]
    return all(said)


def update(language: str) -> None:
    path = po_path(language)
    catalogue = load(language) if path.exists() else Catalog(Locale.parse(language), charset="utf-8")
    catalogue.update(found(), no_fuzzy_matching=True)
    catalogue.obsolete.clear()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as po:
        # A header of our own, without the dates that would change with every run.
        plural = f"nplurals={catalogue.num_plurals}; plural={catalogue.plural_expr};"
        head = ("Content-Type: text/plain; charset=UTF-8", f"Language: {language}", f"Plural-Forms: {plural}")
        lines = "".join(f'"{line}\\n"\n' for line in head)
        po.write(f'msgid ""\nmsgstr ""\n{lines}\n'.encode())
        write_po(po, catalogue, width=120, sort_output=True, omit_header=True, include_lineno=False)


def main() -> int:
    silent = 0
    for language in LANGUAGES:
        if language == "en":
            continue
        update(language)
        for message in missing(language):
            silent += 1
            sys.stdout.write(f"{po_path(language)}: no translation of {message!r}\n")
    return 1 if silent else 0


if __name__ == "__main__":
    sys.exit(main())
