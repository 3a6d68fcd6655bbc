"""/docs where there is no internet: every file from the hub, nothing the hub's policy forbids."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Route, expect

from tests.browser.where import wait_for_path
from tests.review.factory import HubProcess

METHODS = {"get", "post", "put", "delete", "patch", "head", "options"}


@pytest.mark.browser
@pytest.mark.broker
def test_every_operation_is_listed_without_internet(browser: Browser, hub: HubProcess) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    said: list[str] = []
    elsewhere: list[str] = []

    def only_here(route: Route) -> None:
        if urlsplit(route.request.url).hostname == "127.0.0.1":
            route.continue_()
        else:
            elsewhere.append(route.request.url)
            route.abort()

    page.goto(f"{hub.url}/docs")
    assert "/who?next=/docs" in page.url, "nobody reads it without a sign-in"
    page.click("text=Chen")
    wait_for_path(page, "/docs")
    context.route("**/*", only_here)
    page.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: said.append(str(e)))
    page.goto(f"{hub.url}/docs")
    paths = page.request.get(f"{hub.url}/openapi.json").json()["paths"]
    operations = sum(method in METHODS for methods in paths.values() for method in methods)
    assert operations > 80
    expect(page.locator(".opblock")).to_have_count(operations)
    ack = page.locator(".opblock", has_text="/halts/{halt_id}/ack").first
    ack.locator(".opblock-summary-control").click()
    expect(ack.locator(".opblock-body")).to_contain_text("halt_id")
    assert ack.locator(".try-out").count() == 0, "acting is for pages that show what they act on"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert (said, elsewhere) == ([], [])
    context.close()


@pytest.mark.browser
@pytest.mark.broker
def test_operators_are_told_whom_it_is_for(browser: Browser, hub: HubProcess) -> None:
    page = browser.new_context().new_page()
    page.goto(f"{hub.url}/who?next=/docs")
    page.click("text=Ana")
    wait_for_path(page, "/docs")
    expect(page.locator("main")).to_contain_text("engineer, admin")
    assert page.request.get(f"{hub.url}/openapi.json").status == 403
    page.context.close()
