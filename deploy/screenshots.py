"""`make screenshots`: fills a hub as a shift would and takes the pictures of every page, in every state, for the docs.

For the repository only: it drives the stations the tests use and a Chromium on this machine (`pip install -e .[dev]`).
On the operator's panel (1280 x 800); what operators use on a phone (390 wide) too. `--language de` takes German
ones. Pictures are WebP, each below `MOST_BYTES`: there are many, and all of them are in the repository.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cv2
import numpy as np
import typer

from deploy.screenshots_plant import ENGINEER, INSPECTOR, OPERATOR, WITH_PIN, Plant, fill, plant
from inspection.errors import ConfigError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PANEL, PHONE = (1280, 800), (390, 844)
MOST_BYTES = 150_000
QUALITIES = (88, 80, 70, 60, 45, 30)
STALE_S = 7


class When(IntEnum):
    """What the plant is like; a later one cannot be made a former one again."""

    EMPTY = 0
    BUSY = 1
    BROKER_AWAY = 2


@dataclass(frozen=True, slots=True)
class Shot:
    """`path` of a page, by whom it is looked at and when; `before` is done on it first. `phone`: on a phone too."""

    name: str
    path: Callable[[Plant], str]
    who: str = OPERATOR
    before: Callable[[Page, Plant], None] | None = None
    phone: bool = False
    dark: bool = False
    when: When = When.BUSY


def pressed(*keys: str) -> Callable[[Page, Plant], None]:
    def press(page: Page, _made: Plant) -> None:
        for key in keys:
            page.keyboard.press(key)
        page.wait_for_timeout(400)

    return press


def frozen(page: Page, made: Plant) -> None:
    """The hub says nothing any more; `_one` lets it go on."""
    made.freeze()
    page.wait_for_selector("#stale:not([hidden])", timeout=2000 * STALE_S)


def judged_while_away(page: Page, made: Plant) -> None:
    """A verdict on a page whose hub does not answer."""
    page.route("**/verdict", lambda route: route.abort())
    page.keyboard.press("1")
    page.wait_for_selector(".say[data-bad]")


def stopped_in_vain(page: Page, _made: Plant) -> None:
    """Both taps, and no broker to carry the request."""
    page.locator("details.stop summary").first.click()
    page.locator("details[open] .sure").click()
    page.wait_for_selector(".stop-said.unconfirmed")


def without_the_temporary_folder(page: Page, _made: Plant) -> None:
    """Where this command keeps its hub is nobody's business."""
    for code in page.locator(".hub code").all():
        code.evaluate("e => { e.textContent = '/mnt/backup/haltline'; }")


def quiet(page: Page, _made: Plant) -> None:
    """Alarms need ten seconds."""
    for _ in range(15):
        if page.locator(".now b").count():
            return
        page.wait_for_timeout(2000)
        page.reload()
    raise RuntimeError("no alarm was suppressed")


def at(path: str) -> Callable[[Plant], str]:
    return lambda _made: path


def halt(made: Plant) -> str:
    return f"/halts/{made.halt}"


EMPTY, AWAY = When.EMPTY, When.BROKER_AWAY
STATION = "plant~line-a~weld-1"
SHOTS = (
    Shot("line-empty", at("/"), when=EMPTY),
    Shot("alarms-empty", at("/alarms"), when=EMPTY),
    Shot("line", at("/"), phone=True),
    Shot("line-dark", at("/"), dark=True),
    Shot("line-stale", at("/"), before=frozen, phone=True),
    Shot("station", at(f"/stations/{STATION}"), phone=True),
    Shot("stop", at(f"/stations/{STATION}"), before=pressed("s"), phone=True),
    Shot("halt", halt, phone=True),
    Shot("halt-heat", halt, before=pressed("h")),
    Shot("halt-film", halt, before=pressed("ArrowLeft", "ArrowLeft", "ArrowLeft")),
    Shot("halt-dark", halt, dark=True),
    Shot("halt-not-sent", halt, before=judged_while_away, phone=True),
    Shot("alarms", at("/alarms"), phone=True),
    Shot("shelve", lambda p: f"/alarms/shelve?halt={p.halt}", phone=True),
    Shot("suppression", at("/alarms/rules"), ENGINEER, quiet, phone=True),
    Shot("handover", at("/handover"), phone=True),
    Shot("andon", at("/andon"), phone=True),
    Shot("andon-stale", at("/andon"), before=frozen),
    Shot("performance", at("/performance?days=1"), phone=True),
    Shot("who", at("/who"), phone=True),
    Shot("who-pin", at(f"/who?name={WITH_PIN}"), phone=True),
    Shot("label-queue", at("/label"), INSPECTOR),
    Shot("label", lambda p: f"/label/{p.uncertain}", INSPECTOR, phone=True),
    Shot("label-book", at("/label-book/weld"), ENGINEER),
    Shot("label-book-version", at("/label-book/weld/1"), ENGINEER),
    Shot("consistency", at("/consistency?book=weld&cls=porosity"), ENGINEER),
    Shot("consistency-frames", at("/consistency/frames?book=weld&version=weld@1&cls=porosity"), ENGINEER),
    Shot("consistency-report", at("/consistency/report?book=weld&cls=porosity"), ENGINEER),
    Shot("people-and-model", at("/consistency/people-and-model?book=weld&cls=porosity"), ENGINEER),
    Shot("outlines", at("/consistency/outlines?book=weld&cls=porosity"), ENGINEER),
    Shot("suspects", at("/suspects"), ENGINEER),
    Shot("adjudicate-list", at("/adjudicate"), ENGINEER),
    Shot("adjudicate", lambda p: f"/adjudicate/{p.disputed}", ENGINEER),
    Shot("escapes", at("/escapes"), ENGINEER),
    Shot("models", at("/models"), ENGINEER),
    Shot("system", at("/system"), ENGINEER, without_the_temporary_folder),
    Shot("audit", at("/audit"), ENGINEER),
    Shot("system-safe-mode", at("/system"), ENGINEER, without_the_temporary_folder, when=AWAY),
    Shot("line-broker-away", at("/"), when=AWAY),
    Shot("stop-not-confirmed", at("/"), before=stopped_in_vain, phone=True, when=AWAY),
)
"""In the order of `when`."""


def main(
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("docs/screenshots"),
    only: Annotated[str, typer.Option(help="Names, with commas; default all.")] = "",
    language: Annotated[str, typer.Option(help="en or de.")] = "en",
) -> None:
    """Take the pictures of every page of a filled hub."""
    wanted = [shot for shot in SHOTS if not only or shot.name in only.split(",")]
    if not wanted:
        raise ConfigError("--only", f"{only!r} names no page", f"of {', '.join(shot.name for shot in SHOTS)}")
    out.mkdir(parents=True, exist_ok=True)
    with plant() as made, chromium() as browser:
        for when in When:
            if when is When.BUSY and any(shot.when >= When.BUSY for shot in wanted):
                fill(made)
            if when is When.BROKER_AWAY and any(shot.when is When.BROKER_AWAY for shot in wanted):
                made.lose_broker()
            for path in take(browser, made, [shot for shot in wanted if shot.when is when], out, language):
                typer.echo(path)


@contextmanager
def chromium() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        raise ConfigError("chromium", "is not installed", "apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def take(browser: Browser, made: Plant, shots: list[Shot], out: Path, language: str) -> Iterator[Path]:
    """Everything somebody looks at on one screen in one context: signing in is what takes long."""
    ending = "" if language == "en" else f"-{language}"
    for size, kind in ((PANEL, ""), (PHONE, "-phone")):
        for who, dark in sorted({(shot.who, shot.dark) for shot in shots}):
            mine = [s for s in shots if (s.who, s.dark) == (who, dark) and (s.phone or size is PANEL)]
            if not mine:
                continue
            context = browser.new_context(
                viewport={"width": size[0], "height": size[1]},
                locale=language,
                reduced_motion="reduce",
                color_scheme="dark" if dark else "light",
            )
            cookie = made.hub.signed_in(who).cookies["haltline"]
            context.add_cookies([{"name": "haltline", "value": cookie, "url": made.hub.url}])
            for shot in mine:
                page = context.new_page()  # its own stream and its own routes
                page.set_default_timeout(90_000)
                yield _one(page, made, shot, out / f"{shot.name}{kind}{ending}.webp")
                page.close()
            context.close()


def _one(page: Page, made: Plant, shot: Shot, path: Path) -> Path:
    answer = page.goto(made.hub.url + shot.path(made))
    if answer is None or answer.status != 200:
        raise RuntimeError(f"{shot.name}: {shot.path(made)} answered {answer.status if answer else 'nothing'}")
    page.wait_for_load_state("load")
    page.wait_for_timeout(2500)  # the stream's first tick, the refetch it brings, pictures
    try:
        if shot.before:
            shot.before(page, made)
        path.write_bytes(_small(page.screenshot()))
    finally:
        made.thaw()
    return path


def _small(png: bytes) -> bytes:
    """The picture as WebP, as good as `MOST_BYTES` allow."""
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    for quality in QUALITIES:
        data = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()
        if len(data) < MOST_BYTES:
            break
    return data


if __name__ == "__main__":
    typer.run(main)
