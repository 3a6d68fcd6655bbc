"""What the hub refuses leads back to where somebody was, or to a page that says why; never to raw JSON."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from urllib.parse import unquote

import pytest
from fastapi.testclient import TestClient
from httpx import Response
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import text

from review import audit, secret_hash
from tests.review.doors import World, secret_of
from tests.review.test_registry import bundle_files, zipped

PAGE = {"accept": "text/html,application/xhtml+xml"}
GERMAN = PAGE | {"accept-language": "de"}


@pytest.fixture(scope="module", autouse=True)
def cheap_hashes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        cheap = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=64, parallelism=1),))
        patch.setattr(secret_hash, "_HASHER", cheap)
        yield


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("refusals"))


FORMS = [
    ("/handover/note", {"text": "nozzle 2 drips"}, "/handover"),
    ("/handover/sign", {}, "/handover"),
    ("/handover/1/take", {}, "/handover"),
    ("/alarms/ack", {"ids": "1"}, "/alarms"),
    ("/alarms/faults/1/ack", {}, "/alarms"),
    ("/alarms/shelve", {"halt": "1", "why": "nozzle changed", "minutes": "15"}, "/alarms/shelve?halt=1"),
    ("/alarms/maintenance", {"station": "1", "minutes": "15", "why": "lens"}, "/alarms/rules"),
]


def sent_without_a_name(world: World, path: str, data: dict[str, str], **headers: str) -> str:
    """Where the form of somebody whose sign-in has ended leads: the page after signing in."""
    answer = world.client().post(path, data=data, headers=PAGE | headers)
    assert answer.status_code == 303
    return unquote(answer.headers["location"].removeprefix("/who?next="))


@pytest.mark.parametrize(("path", "data", "page"), FORMS, ids=[f[0] for f in FORMS])
def test_after_signing_in_a_form_is_back_on_its_page(still: World, path: str, data: dict[str, str], page: str) -> None:
    onward = sent_without_a_name(still, path, data, referer=f"http://hub{page}")
    assert onward == page
    client = still.client()
    entered = client.post("/who", data={"name": "Olga", "secret": secret_of("Olga"), "next": onward})
    assert client.get(entered.headers["location"], headers=PAGE).status_code == 200


@pytest.mark.parametrize("referer", ["http://evil/handover", "", "http://hub/handover/note", "http://[not an address"])
def test_without_a_page_of_ours_it_is_the_nearest_one_that_a_browser_may_ask_for(still: World, referer: str) -> None:
    """Also where the form was on the answer to another form, whose address takes no other."""
    assert sent_without_a_name(still, "/handover/note", {"text": "x"}, referer=referer) == "/handover"


def test_a_page_with_a_question_in_its_address_is_come_back_to_as_it_was(still: World) -> None:
    answer = still.client().get("/alarms/shelve?halt=1", headers=PAGE)
    assert unquote(answer.headers["location"]) == "/who?next=/alarms/shelve?halt=1"


def asked(world: World, name: str, path: str, **headers: str) -> Response:
    return world.client(name).get(path, headers=PAGE | headers)


REFUSED = [
    ("/consistency", 403, "Olga is operator: this is for the roles engineer, admin"),
    ("/adjudicate", 403, "Olga is operator: this is for the roles engineer, admin"),
    ("/labels/export.zip", 403, "Olga is operator: this is for the roles engineer, admin"),
    ("/label/abc", 404, "There is nothing at this address, or not any more."),
    ("/nowhere", 404, "There is nothing at this address, or not any more."),
    ("/halts/99", 404, "there is no halt 99"),
    ("/handover/note", 405, "it is no page of its own"),
    ("/who?name=Nobody", 422, "nobody is called “Nobody”"),
    ("/performance?days=3", 422, "3 days is no choice: one of 1, 7, 30"),
    ("/performance?days=x", 422, "days: Input should be a valid integer"),
    ("/alarms/shelve", 422, "A value in the address or in the form is none the hub can take."),
]


@pytest.mark.parametrize(("path", "status", "says"), REFUSED, ids=[r[0] for r in REFUSED])
def test_a_browser_that_is_refused_gets_a_page_that_says_why(still: World, path: str, status: int, says: str) -> None:
    answer = asked(still, "Olga", path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert says in answer.text
    assert ">Olga</a>" in answer.text
    assert 'href="/alarms"' in answer.text, "the way on"


def test_it_says_so_in_the_readers_language_and_takes_no_word_of_an_address_for_a_tag(still: World) -> None:
    german = {"accept-language": "de"}
    assert "Unter dieser Adresse gibt es nichts" in asked(still, "Olga", "/nowhere", **german).text
    assert "3 Tage stehen nicht zur Wahl" in asked(still, "Olga", "/performance?days=3", **german).text
    assert "<b>x" not in asked(still, "Olga", "/who?name=<b>x").text


def test_scripts_and_machines_are_told_as_before(still: World) -> None:
    client = still.client("Olga")
    assert client.get("/performance?days=3").json() == {"detail": "3 days is no choice: one of 1, 7, 30"}
    assert client.get("/performance?days=x").json()["detail"][0]["loc"] == ["query", "days"]
    assert client.get("/nowhere").json() == {"detail": "Not Found"}
    assert client.get("/halts/99", headers=PAGE | {"hx-request": "true"}).text == "there is no halt 99\n"
    edge = client.post("/api/edge/frames", headers=PAGE)
    assert (edge.status_code, edge.headers["www-authenticate"]) == (401, "Bearer")


def test_a_refusal_opens_without_the_database_and_names_nobody(tmp_path_factory: pytest.TempPathFactory) -> None:
    world = World(tmp_path_factory.mktemp("broken"))
    client = world.client("Olga")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("review.sign_in.who_is", _no_database)
        answer = TestClient(world.app, base_url="http://hub", cookies=dict(client.cookies)).get(
            "/nowhere", headers=PAGE
        )
    assert (answer.status_code, "Who are you?" in answer.text) == (404, True)


def _no_database(*_: object) -> None:
    raise OSError("disk I/O error")


@pytest.mark.parametrize(("path", "data", "page"), FORMS, ids=[f[0] for f in FORMS])
def test_a_form_of_one_persons_page_does_nothing_once_another_signed_in(
    still: World, path: str, data: dict[str, str], page: str
) -> None:
    ian, before = still.client("Ian"), list(audit.links(still.hub.store))
    headers = PAGE | {"referer": f"http://hub{page}", "accept-language": "de,en;q=0.5"}
    answer = ian.post(path, data=data | {"page_person": "Olga"}, headers=headers)
    assert answer.status_code == 409
    assert "auf dieser Seite ist Olga angemeldet, inzwischen aber Ian" in answer.text
    assert f'href="{escape(page)}"' in answer.text, "the way back"
    assert "data-refused" in answer.text, "what was typed is kept"
    assert list(audit.links(still.hub.store)) == before
    told = ian.post(path, data=data | {"page_person": "Olga"}).text
    assert told == "this page is Olga's, and Ian has signed in since: reload it, or sign in again\n"


def test_a_form_of_ones_own_page_and_one_that_names_nobody_are_taken(still: World) -> None:
    ian = still.client("Ian")
    for more in ({"page_person": "Ian"}, {"page_person": ""}, {}):
        assert ian.post("/handover/note", data={"text": "nozzle 2 drips"} | more, headers=PAGE).status_code == 303


def test_an_upload_from_another_persons_page_is_refused(still: World) -> None:
    ada, files = still.client("Ada"), {"bundle": ("weld.zip", b"PK", "application/zip")}
    answer = ada.post("/models/upload", data={"page_person": "Eve"}, files=files, headers=PAGE)
    assert (answer.status_code, "this page is Eve" in answer.text) == (409, True)
    answer = ada.post("/models/upload", data={"page_person": "Ada"}, files=files, headers=PAGE)
    assert answer.status_code == 422, "looked at, and no bundle"


def test_a_full_disk_is_said_in_words_and_what_was_typed_is_kept(tmp_path_factory: pytest.TempPathFactory) -> None:
    """It was "Internal Server Error", without a way on, also for whoever only wanted to sign in."""
    world = World(tmp_path_factory.mktemp("full"))
    ana = world.client("Olga")
    with world.hub.store.writing() as session:
        session.execute(text("PRAGMA max_page_count = 1"))  # SQLite keeps what it has and takes no page more

    def until_full(headers: dict[str, str]) -> Response:
        for _ in range(200):
            answer = ana.post("/handover/note", data={"text": "nozzle 2 drips " * 30}, headers=headers)
            if answer.status_code != 303:
                return answer
        raise AssertionError("the disk never was full")

    answer = until_full(GERMAN)
    assert answer.status_code == 503
    assert "Platte oder Datenbank des Hubs" in answer.text
    assert "database or disk is full" in answer.text
    assert "data-refused" in answer.text, "so that the page's script keeps what was typed"
    told = until_full({"HX-Request": "true"})
    assert (told.status_code, told.text) == (503, "database or disk is full\n")
    world.hub.store.close()


def test_whoever_has_no_turn_to_write_is_told_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    """While another program held the database, all but the first who wanted to write got a bare "Internal Server
    Error"."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("review.store.db.BUSY_MS", 200)
        world = World(tmp_path_factory.mktemp("busy"))
    ana = world.client("Olga")
    with world.hub.store.writing():
        answer = ana.post("/handover/note", data={"text": "nozzle 2 drips"}, headers=GERMAN)
        told = ana.post("/handover/note", data={"text": "nozzle 2 drips"}, headers={"HX-Request": "true"})
    assert answer.status_code == 503
    assert "Platte oder Datenbank des Hubs" in answer.text
    assert (told.status_code, told.text.partition(":")[0]) == (503, "the database is busy")
    world.hub.store.close()


def test_a_bundle_that_the_disk_does_not_take_is_said_in_words(tmp_path_factory: pytest.TempPathFactory) -> None:
    world = World(tmp_path_factory.mktemp("no-room"))
    world.hub.settings.bundles_dir.write_text("a file where the folder should be")
    answer = world.client("Eve").post("/models/upload", files={"bundle": zipped(bundle_files())}, headers=PAGE)
    assert answer.status_code == 503
    assert "scratch-1.0.0 cannot be written below" in answer.text
    world.hub.store.close()
