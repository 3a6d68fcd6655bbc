"""Forms whose buttons are the choice: Enter in one of their text fields must not make it."""

from __future__ import annotations

import re

from review.deps import ROOT

FORM = re.compile(r"<form\b.*?</form>", re.DOTALL)
SENDS = re.compile(r'<button(?![^>]*type="button")[^>]*name="[^>]*>')
TYPED = re.compile(r'<textarea|<input(?![^>]*type="(?:hidden|checkbox|radio|file)")')


def test_enter_makes_no_choice_where_the_buttons_are_the_choice() -> None:
    found = []
    for path in sorted((ROOT / "templates").glob("*.html")):
        for form in FORM.findall(path.read_text()):
            if SENDS.search(form) and TYPED.search(form):
                first = re.search(r'<button|{% include "no_default.html" %}', form)
                found.append((path.name, bool(first and first[0] != "<button")))
    assert found == [(name, True) for name in ("adjudicate.html", "shelve.html", "suppression.html", "suspects.html")]
