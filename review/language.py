"""Words in the reader's language: English msgids in code, templates and scripts; translations in `locale/*.po`.

The language of a request is what its person or screen chose, else the browser's Accept-Language, else English. It is
held in a context variable, so a route, its template and the words it asks other modules for all speak the same one.
"""

from __future__ import annotations

import gettext as catalogues
import io
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from babel import Locale, negotiate_locale
from babel.dates import format_date, format_datetime, format_time
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal
from starlette.types import ASGIApp, Receive, Scope, Send

from inspection.policy import shown

LOCALES = Path(__file__).parent / "locale"
LANGUAGES = {"en": "English", "de": "Deutsch"}
"""Each named as its own readers name it."""
_language: ContextVar[str] = ContextVar("language", default="en")


def _(message: str, **values: object) -> str:
    """`message` in the request's language, with `%(name)s` filled from `values`; a per cent sign is written %%."""
    return raw(message) % values


def ngettext(one: str, many: str, n: int, **values: object) -> str:
    """The form of `n` things; `%(num)s` is the number."""
    return raw_many(one, many, n) % {"num": n, **values}


def raw(message: str) -> str:
    """The translation as it stands in the catalogue; what has none comes back as it is."""
    return _catalogue(_language.get()).gettext(message) if message else ""


def raw_many(one: str, many: str, n: int) -> str:
    return _catalogue(_language.get()).ngettext(one, many, n)


def N_(message: str) -> str:
    """Marks a msgid that is looked up later, where it is shown."""
    return message


def class_words(cls: str) -> str:
    """A defect class as people say it: `burn_through` is burn through, or Durchbrand."""
    return raw(cls.replace("_", " "))


CALLS = (N_("pass"), N_("uncertain"), N_("defect"), N_("fault"))
GRADES = (
    N_("accept"),
    N_("marginal"),
    N_("not acceptable"),
    N_("unknown"),
    N_("good"),
    N_("fair"),
    N_("poor"),
    N_("undefined"),
)
"""Of an attribute study, from the language's own modules, which speak English only."""
ROLE_WORDS = (N_("operator"), N_("inspector"), N_("engineer"), N_("admin"), N_("password"))
ROLLOUT_STATES = (N_("wanted"), N_("fetching"), N_("serving"), N_("refused"), N_("asked"))
CLASSES = (N_("porosity"), N_("undercut"), N_("burn through"), N_("spatter"), N_("crack"), N_("scratch"))
"""Classes of the shipped models; those of a plant's own models are shown as they are named."""


def current() -> str:
    return _language.get()


@contextmanager
def speaking(language: str) -> Iterator[None]:
    token = _language.set(language if language in LANGUAGES else "en")
    try:
        yield
    finally:
        _language.reset(token)


def asked_for(accept_language: str) -> str:
    """The best language we have for an Accept-Language header; English when it names none of ours."""
    wanted = []
    for part in accept_language.split(",")[:20]:
        tag, _sep, weight = part.strip().partition(";q=")
        try:
            wanted.append((-float(weight or 1), tag))
        except ValueError:
            continue
    tags = [tag for _weight, tag in sorted(wanted, key=lambda w: w[0])]
    return negotiate_locale([t[:2].lower() for t in tags], list(LANGUAGES)) or "en"


# ── numbers and times ───────────────────────────────────────────────────────────────────────────────────────────────


def number(value: float, digits: int = 1) -> str:
    """1234.56 -> 1,234.6 or 1.234,6; a dash where nothing is defined."""
    if math.isnan(value):
        return "–"
    return format_decimal(value, "#,##0" + ("." + "0" * digits if digits else ""), locale=_language.get())


def score_words(value: float) -> str:
    """A model's score, or a limit of it, never surer than it is: 0.995 -> 0.99."""
    return number(shown(value), 2)


def chance(value: float) -> str:
    """A probability with two digits, surer of neither answer than it is: 0.995 -> 0.99, 0.005 -> 0.01."""
    return number(shown(value) if value >= 0.5 else 1 - shown(1 - value), 2)


def plain(value: float) -> str:
    """As many digits as it has: 0.5, 20, or 0,5."""
    return format_decimal(value, "#,##0.####", locale=_language.get())


def clock(at_ms: int) -> str:
    """Unix ms on the factory's wall clock: 06:12:31, with the date when that was not today."""
    at, today = datetime.fromtimestamp(at_ms / 1000).astimezone(), datetime.now().astimezone()
    if at.date() == today.date():
        return format_time(at, "HH:mm:ss", tzinfo=at.tzinfo, locale=_language.get())
    year = "" if at.year == today.year else " y"
    pattern = f"d. MMM{year} HH:mm" if _language.get() == "de" else f"dd MMM{year} HH:mm"
    return format_datetime(at, pattern, tzinfo=at.tzinfo, locale=_language.get())


def day(at_ms: int) -> str:
    """Unix ms as a local date: 20 Nov 2026."""
    at = datetime.fromtimestamp(at_ms / 1000).astimezone()
    return format_date(at, "medium" if _language.get() == "de" else "dd MMM y", locale=_language.get())


# ── catalogues ──────────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def _catalogue(language: str) -> catalogues.NullTranslations:
    """Read from the .po at first use: no compiled file can be older than its source."""
    if language == "en":
        return catalogues.NullTranslations()
    compiled = io.BytesIO()
    with po_path(language).open("rb") as po:
        write_mo(compiled, read_po(po, Locale.parse(language)))
    compiled.seek(0)
    return catalogues.GNUTranslations(compiled)


def po_path(language: str) -> Path:
    return LOCALES / language / "LC_MESSAGES" / "messages.po"


@cache
def script_words(language: str) -> str:
    """The words pages' scripts need, as a script that comes before them: `t("…{n}…", { n })` and `num(1.5, 1)`."""
    words: dict[str, Any] = {}
    if language != "en":
        with po_path(language).open("rb") as po:
            for message in read_po(po, Locale.parse(language)):
                in_script = any(file.endswith(".js") for file, _line in message.locations)
                if message.id and message.string and in_script:
                    words[str(message.id)] = message.string
    return (
        '"use strict";\n'
        f"const HALTLINE_WORDS = {json.dumps(words, ensure_ascii=False, sort_keys=True)};\n"
        "const t = (message, values = {}) => (HALTLINE_WORDS[message] || message)"
        ".replace(/\\{(\\w+)\\}/g, (all, name) => (name in values ? values[name] : all));\n"
        "const num = (value, digits = 0) => Number(value).toLocaleString(document.documentElement.lang, "
        "{ minimumFractionDigits: digits, maximumFractionDigits: digits });\n"
    )


def script_words_url() -> str:
    """Changes with its content, so that browsers may keep it."""
    return f"/words/{current()}.js?{sha256(script_words(current()).encode()).hexdigest()[:12]}"


class LanguageOfRequest:
    """Sets the language for each request; inside the session's middleware, whose cookie holds what was chosen."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        chosen = scope["session"].get("language")
        header = next((v.decode("latin-1") for k, v in scope["headers"] if k == b"accept-language"), "")
        with speaking(chosen if chosen in LANGUAGES else asked_for(header)):
            await self._app(scope, receive, send)
