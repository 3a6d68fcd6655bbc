"""`python -m deploy.screenshots`: fills a hub as a shift would and takes the pictures of every page for the docs.

For the repository only: it drives the stations the tests use and a Chromium on this machine (`pip install -e .[dev]`).
Each page twice, on the operator's panel (1280 x 800) and on a phone (390 wide); `--language de` takes the German ones.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import httpx
import typer

from deploy.broker import free_port, start_mosquitto
from inspection.errors import ConfigError

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.review.factory import FakeEdge, HubProcess

PANEL, PHONE = (1280, 800), (390, 844)
OPERATOR, ENGINEER = "Ana (operator)", "Chen (engineer)"


@dataclass(slots=True)
class Plant:
    """A running hub and its stations; `seen` holds what pages must be asked for by number."""

    hub: HubProcess
    stations: dict[str, FakeEdge] = field(default_factory=dict)
    halt: int = 0
    uncertain: str = ""


@dataclass(frozen=True, slots=True)
class Shot:
    """`path` of a page, by whom it is looked at; `before` is done on it first."""

    name: str
    path: Callable[[Plant], str]
    who: str = OPERATOR
    before: Callable[[Page], None] | None = None


def scrubbed(page: Page) -> None:
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(300)


def heated(page: Page) -> None:
    page.keyboard.press("h")
    page.wait_for_timeout(200)


def without_the_temporary_folder(page: Page) -> None:
    """Where this command keeps its hub is nobody's business."""
    page.locator(".hub code").evaluate("e => { e.textContent = '/mnt/backup/haltline'; }")


SHOTS = (
    Shot("line", lambda p: "/"),
    Shot("station", lambda p: "/stations/plant~line-a~weld-1"),
    Shot("halt", lambda p: f"/halts/{p.halt}"),
    Shot("halt-heat", lambda p: f"/halts/{p.halt}", before=heated),
    Shot("halt-film", lambda p: f"/halts/{p.halt}", before=scrubbed),
    Shot("alarms", lambda p: "/alarms"),
    Shot("shelve", lambda p: f"/alarms/shelve?halt={p.halt}"),
    Shot("handover", lambda p: "/handover"),
    Shot("andon", lambda p: "/andon"),
    Shot("performance", lambda p: "/performance?days=1"),
    Shot("system", lambda p: "/system", ENGINEER, without_the_temporary_folder),
    Shot("who", lambda p: "/who"),
    Shot("label", lambda p: f"/label/{p.uncertain}", "Ben (inspector)"),
    Shot("label-book", lambda p: "/label-book", ENGINEER),
    Shot("consistency", lambda p: "/consistency", ENGINEER),
    Shot("adjudicate", lambda p: "/adjudicate", ENGINEER),
    Shot("models", lambda p: "/models", ENGINEER),
    Shot("audit", lambda p: "/audit", ENGINEER),
)


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
    with plant() as filled:
        for path in take(filled, wanted, out, language):
            typer.echo(path)


@contextmanager
def plant() -> Iterator[Plant]:
    """Four stations in four states, a week's worth of alarms, frames to label, a handover, a backup."""
    from tests.review.factory import FakeEdge, HubProcess

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        port = free_port()
        broker = start_mosquitto(port, folder)
        stack.callback(broker.wait)
        stack.callback(broker.terminate)
        made = Plant(HubProcess(folder / "data", free_port(), port).start())
        stack.callback(made.hub.stop)
        for name in ("weld-1", "weld-2", "weld-3", "scratch-1"):
            made.stations[name] = FakeEdge(port, made.hub.url, name)
            stack.callback(made.stations[name].close)
        fill(made)
        yield made


def fill(made: Plant) -> None:
    from inspection.render import DefectSpec, render

    ana = made.hub.signed_in(OPERATOR)
    for name, edge in made.stations.items():
        edge.online(plc="READY" if name == "weld-3" else "RUNNING")
        edge.good(11)
    weld = made.stations["weld-1"]
    weld.about()
    for k, (verdict, cls, mm) in enumerate(
        (
            ("real", "porosity", 1.5),
            ("false_call", "porosity", 1.4),
            ("real", "undercut", 2.2),
            ("real", "porosity", 2.0),
        )
    ):
        event = weld.halt(seed=5 + k, cls=cls, length_mm=mm)
        weld.film(event, seed=5 + k)
        halt = _stored(made, event.halt)
        _judged(ana, halt, verdict, event.records[0])
        ana.post(f"/halts/{halt}/reset")
        _until(lambda: weld.halt_id == 0)
    other = made.stations["scratch-1"].halt(seed=8, cls="scratch", length_mm=3.1, task="scratch")
    _judged(ana, _stored(made, other.halt, "scratch-1"), "real", other.records[0])
    for n in range(3):
        made.uncertain = _uncertain(weld, n)
    event = weld.halt(seed=5)
    weld.film(event)
    made.halt = _stored(made, event.halt)
    ana.post("/handover/note", data={"text": "Nozzle of weld-2 was cleaned at 14:20, watch the first parts."})
    made.hub.signed_in(ENGINEER).post("/system/backup")
    made.hub.signed_in(ENGINEER).post("/system/cameras/test", data={"station": "plant~line-a~weld-1", "camera": "cam"})
    made.stations["weld-2"].permits.clear()
    bad = render("weld", 5, defects=[DefectSpec("porosity", 2.0)]).image
    for n, edge in enumerate(made.stations.values()):
        edge.picture(bad if edge is weld else render("weld", n, defects=[]).image, 4812, "pass")
    weld.picture(bad, 4812, "defect", hot=True)
    weld.picture(render("weld", 9, defects=[]).image, 4812, camera="top")
    time.sleep(2.5)  # weld-2 falls silent


def _uncertain(edge: FakeEdge, n: int) -> str:
    from inspection.render import DefectSpec, render
    from tests.review.factory import png

    picture = render("weld", 40 + n, defects=[DefectSpec("porosity", 0.6)])
    return edge.record(frame_id=500 + n, image=edge.upload(png(picture.image)), scores={"porosity": 0.45}).uid


def _judged(who: httpx.Client, halt: int, verdict: str, saw: str) -> None:
    _until(lambda: who.post(f"/halts/{halt}/verdict", data={"verdict": verdict, "saw": saw}).is_success)


def _stored(made: Plant, number: int, station: str = "weld-1") -> int:
    """The hub's own number of an edge's halt."""
    found: list[int] = []

    def find() -> bool:
        halts = httpx.get(f"{made.hub.url}/api/halts").json()
        found.extend(int(h["id"]) for h in halts if h["halt"] == number and h["station"].endswith(f"~{station}"))
        return bool(found)

    _until(find)
    return found[0]


def _until(condition: Callable[[], bool]) -> None:
    from tests.review.factory import until

    until(condition, 60)


def take(made: Plant, shots: list[Shot], out: Path, language: str) -> Iterator[Path]:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise ConfigError("chromium", "is not installed", "apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for size, kind in ((PANEL, ""), (PHONE, "-phone")):
            for who in sorted({shot.who for shot in shots}):
                context = browser.new_context(
                    viewport={"width": size[0], "height": size[1]}, locale=language, reduced_motion="reduce"
                )
                page = context.new_page()
                page.goto(f"{made.hub.url}/who")
                page.get_by_role("button", name=who).click()
                page.wait_for_url(f"{made.hub.url}/")
                for shot in (s for s in shots if s.who == who):
                    yield _one(
                        page, made, shot, out / f"{shot.name}{kind}{'' if language == 'en' else '-' + language}.png"
                    )
                context.close()
        browser.close()


def _one(page: Page, made: Plant, shot: Shot, path: Path) -> Path:
    answer = page.goto(made.hub.url + shot.path(made))
    if answer is None or answer.status != 200:
        raise RuntimeError(f"{shot.name}: {shot.path(made)} answered {answer.status if answer else 'nothing'}")
    page.wait_for_load_state("load")
    page.wait_for_timeout(700)
    if shot.before:
        shot.before(page)
    page.screenshot(path=path)
    return path


if __name__ == "__main__":
    typer.run(main)
