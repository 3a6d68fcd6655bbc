"""Every word of every page in German too, and nothing said that the catalogue cannot translate."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import Environment, nodes

from review import catalogue, language
from review.language import LANGUAGES, asked_for, clock, number, script_words, speaking

TEMPLATES = sorted((Path(language.__file__).parent / "templates").glob("*.html"))
SCRIPTS = sorted((Path(language.__file__).parent / "static").glob("*.js"))
FOREIGN = [code for code in LANGUAGES if code != "en"]
SPOKEN = {"aria-label", "title", "alt", "placeholder"}
NO_WORDS = {"mm", "ms", "px", "KiB", "MiB", "GiB", "TiB", "Haltline", "Python", "sha", "MQTT", "onnxruntime"}
"""Units and names that are the same everywhere."""
HOLE = re.compile(r"%\(\w+\)[sd]|%%|\{\w+\}|</?\w+|&\w+;")


@pytest.mark.parametrize("code", FOREIGN)
def test_every_word_has_a_translation(code: str) -> None:
    assert catalogue.missing(code) == [], "python -m review.catalogue writes them into the .po; say them there"


@pytest.mark.parametrize("code", FOREIGN)
def test_a_translation_keeps_every_value_and_tag_of_its_msgid(code: str) -> None:
    wrong = []
    for message in catalogue.load(code):
        if not message.id:
            continue
        said = message.string if isinstance(message.string, tuple | list) else (message.string,)
        msgids = message.id if isinstance(message.id, tuple | list) else (message.id,)
        for n, words in enumerate(said):
            wanted = sorted(HOLE.findall(msgids[min(n, len(msgids) - 1)]))
            if sorted(HOLE.findall(words)) != wanted:
                wrong.append((msgids[0], words))
    # A singular may leave its number out: "the last frame".
    assert [w for w in wrong if "%(num)s" not in w[0]] == []


def test_nothing_in_the_catalogue_is_said_no_more() -> None:
    said = {m.id if isinstance(m.id, str) else m.id[0] for m in catalogue.found() if m.id}
    kept = {m.id if isinstance(m.id, str) else m.id[0] for m in catalogue.load("de") if m.id}
    assert kept - said == set()


class Spoken(HTMLParser):
    """Text and spoken attributes of a template whose expressions were replaced by NULs."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._mute = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._mute += tag in ("script", "style", "code", "kbd")
        self.found += [value for name, value in attrs if name in SPOKEN and value]

    def handle_endtag(self, tag: str) -> None:
        self._mute -= tag in ("script", "style", "code", "kbd")

    def handle_data(self, data: str) -> None:
        if not self._mute:
            self.found.append(data)


def untranslated(source: str) -> list[str]:
    """Words a reader sees that pass by the catalogue: text between tags, spoken attributes, literals in expressions."""
    tree = Environment(extensions=["jinja2.ext.i18n"], autoescape=True).parse(source)
    for block in tree.find_all(nodes.Block):
        if block.name == "body_class":
            block.body = []
    text, literals = "", []
    for output in tree.find_all(nodes.Output):
        for part in output.nodes:
            if isinstance(part, nodes.TemplateData):
                text += part.data
            else:
                text += "\0"
                literals += list(shown_literals(part))
    page = Spoken()
    page.feed(text)
    return [w for said in (*page.found, *literals) for w in re.findall(r"[A-Za-z]{2,}", said) if w not in NO_WORDS]


def shown_literals(part: nodes.Node) -> list[str]:
    """Literals an expression may print: not those it compares, calls or filters with."""
    match part:
        case nodes.Const(value=str(value)):
            return [value] if re.search(r"[A-Z]?[a-z]+ [a-z]+|^[A-Z][a-z]+$", value) else []
        case nodes.CondExpr():
            return shown_literals(part.expr1) + (shown_literals(part.expr2) if part.expr2 else [])
        case nodes.Or() | nodes.And():
            return shown_literals(part.left) + shown_literals(part.right)
        case nodes.Concat():
            return [v for n in part.nodes for v in shown_literals(n)]
        case nodes.Add():
            return shown_literals(part.left) + shown_literals(part.right)
    return []


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda p: p.stem)
def test_no_template_holds_words_that_are_not_translated(template: Path) -> None:
    assert untranslated(template.read_text()) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("<p>Halted</p>", ["Halted"]),
        ('<p title="Look here">{{ x }}</p>', ["Look", "here"]),
        ('{{ "Not yet" if x else _("Done") }}', ["Not", "yet"]),
        ('{{ x or "None" }}', ["None"]),
        ('<p>{{ _("Halted") }}</p><code>haltline edge</code>{% if x == "Halted" %}{% endif %}', []),
        ("{% trans %}Start <code>it</code>{% endtrans %}", []),
    ],
)
def test_the_check_itself_sees_words(source: str, found: list[str]) -> None:
    assert untranslated(source) == found


def test_scripts_say_what_a_person_reads_through_the_catalogue() -> None:
    """Sentences in scripts are in `t(…)`."""
    bare = []
    for script in SCRIPTS:
        code = re.sub(r"//[^\n]*|/\*.*?\*/", "", script.read_text(), flags=re.DOTALL)
        code = re.sub(r"""\bt\(\s*("(?:[^"\\]|\\.)*")""", "", code)
        bare += [(script.name, said) for said in re.findall(r'["`]([A-Z][a-z]+ [a-z][^"`]*)["`]', code)]
    assert bare == []


def test_scripts_get_the_words_they_say() -> None:
    assert '"Test sound": "Ton testen"' in script_words("de")
    assert "Quittieren" not in script_words("de")
    assert "Ton" not in script_words("en")


# ── whose language ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("fr-FR, fr;q=0.9", "en"),
        ("en-GB,de;q=0.5", "en"),
        ("fr, en;q=0.1, de;q=0.4", "de"),
        ("*", "en"),
        (";q=x,,;;=" * 50, "en"),
    ],
)
def test_the_browsers_wish_is_met_where_it_can_be(header: str, language: str) -> None:
    assert asked_for(header) == language


def test_numbers_and_times_are_written_as_its_readers_write_them() -> None:
    long_ago = 1_700_000_000_000  # 14 Nov 2023
    assert number(1234.56) == "1,234.6"
    assert number(float("nan")) == "–"
    assert "Nov 2023" in clock(long_ago)
    with speaking("de"):
        assert number(1234.56) == "1.234,6"
        assert number(0.5, 2) == "0,50"
        assert re.fullmatch(r"1[45]\. Nov\. 2023 \d\d:\d\d", clock(long_ago))
    with speaking("xx"):
        assert number(0.5) == "0.5"
