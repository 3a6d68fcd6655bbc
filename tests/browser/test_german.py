"""The pages in German: longer words still fit their keys, and the choice of a language follows its person."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.review.factory import FakeEdge, HubProcess, until

SIZES = ((1280, 800), (390, 844))
WHAT = "button, .key, a.more, .state strong, .state .why, label, .person, .strip small"
CUT_OFF = f"""() => [...document.querySelectorAll("{WHAT}")]
    .filter((e) => e.offsetParent && e.scrollWidth > e.clientWidth + 1).map((e) => e.textContent.trim().slice(0, 60))"""
HIDDEN = """() => { const over = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
    return [...document.querySelectorAll(".rows li")].flatMap((row) => [...row.querySelectorAll("time, .where, .what")]
      .filter((e) => [...row.querySelectorAll(":scope > .more")]
        .some((key) => over(e.getBoundingClientRect(), key.getBoundingClientRect()))).map((e) => e.textContent)); }"""
"""Words of a row of alarms that a key of it lies upon."""


def german(browser: Browser, hub: HubProcess, size: tuple[int, int]) -> Page:
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, locale="de-DE")
    page = context.new_page()
    page.goto(f"{hub.url}/who")
    page.click("text=Chen")
    page.wait_for_url(f"{hub.url}/")
    return page


@pytest.mark.browser
@pytest.mark.broker
@pytest.mark.parametrize("size", SIZES)
def test_german_words_fit(browser: Browser, hub: HubProcess, edge: FakeEdge, size: tuple[int, int]) -> None:
    earlier, halted = edge.halt(), edge.halt()
    page = german(browser, hub, size)
    told = {uid for halt in (earlier, halted) for uid in (halt.uid, halt.records[0])}
    until(lambda: told <= set(edge.acked))  # with frames to label
    ids = {h["uid"]: h["id"] for h in page.request.get(f"{hub.url}/api/halts").json()}
    halt, verdict = ids[halted.uid], {"verdict": "real", "saw": earlier.records[0]}
    assert hub.signed_in().post(f"/halts/{ids[earlier.uid]}/verdict", data=verdict).status_code == 200
    paths = ["/", f"/halts/{halt}", "/alarms", f"/alarms/shelve?halt={halt}", "/handover", "/performance", "/models"]
    wrong = {}
    paths += ["/label", "/label/next", "/label-book", "/consistency", "/adjudicate", "/system", "/audit", "/who"]
    for path in paths:
        answer = page.goto(hub.url + path)
        assert answer
        assert answer.status == 200, path
        expect(page.locator("html")).to_have_attribute("lang", "de")
        cut_off = page.evaluate(CUT_OFF) + page.evaluate(HIDDEN)
        too_wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        if cut_off or too_wide > 0:
            wrong[path] = (too_wide, cut_off)
    page.context.close()
    assert wrong == {}


@pytest.mark.browser
@pytest.mark.broker
def test_the_language_is_chosen_by_one_key_and_follows_the_person(browser: Browser, hub: HubProcess) -> None:
    page = german(browser, hub, (1280, 800))
    page.click("button[lang=en]")
    expect(page.locator("nav a").first).to_have_text("Line")
    page.context.close()
    elsewhere = german(browser, hub, (1280, 800))
    expect(elsewhere.locator("nav a").first).to_have_text("Line")
    elsewhere.click("button[lang=de]")
    expect(elsewhere.locator("nav a").first).to_have_text("Linie")
    elsewhere.context.close()
