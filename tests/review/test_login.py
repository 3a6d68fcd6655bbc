"""Names and secrets: who gets in, who is locked out, what ends it, and how people are kept (fault 24)."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import select
from typer.testing import CliRunner

from inspection.errors import InputError
from review import audit, people, secret_hash, sign_in
from review.app import create_app
from review.cli import app as cli
from review.clock import wall_ms
from review.settings import Settings
from review.store import Person
from tests.review.doors import PASSWORD, PIN, World, enter


@pytest.fixture(scope="module", autouse=True)
def cheap_hashes() -> Iterator[None]:
    """The same argon2id with less work: these tests sign in hundreds of times."""
    with pytest.MonkeyPatch.context() as patch:
        cheap = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=64, parallelism=1),))
        patch.setattr(secret_hash, "_HASHER", cheap)
        yield


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.hub.store.close()


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> World:
    """For tests that change nothing another one looks at."""
    return World(tmp_path_factory.mktemp("roles"))


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The hub's clock, in ms; a test moves it."""
    clock = [wall_ms()]
    for module in ("review.deps", "review.routes.session"):
        monkeypatch.setattr(f"{module}.wall_ms", lambda: clock[0])
    return clock


# ── getting in ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_tile_then_a_secret(world: World) -> None:
    client = world.client()
    tile = client.post("/who", data={"name": "Olga", "next": "/alarms"})
    assert tile.headers["location"] == "/who?name=Olga&next=/alarms"
    assert 'inputmode="numeric"' in client.get(tile.headers["location"]).text
    assert enter(client, "Olga", "999123").status_code == 401
    assert ">Olga<" not in client.get("/").text.replace(" ", "")
    assert enter(client, "Olga", PIN).headers["location"] == "/alarms"
    assert "Olga" in client.get("/").text


def test_no_secret_means_no_entry_except_in_a_demonstration(world: World, tmp_path: Path) -> None:
    people.add_person(world.hub.store, "New", "engineer")
    answer = enter(world.client(), "New", "")
    assert answer.status_code == 403
    assert "review user pin" in answer.text
    demo = create_app(Settings(data_dir=tmp_path / "demo", demo_people=True))
    people.add_demo_people(demo.state.hub.store)
    client = TestClient(demo, base_url="http://hub", follow_redirects=False)
    assert enter(client, "Ana (operator)", "").status_code == 303
    # A secret once set counts there as well.
    people.set_secret(demo.state.hub.store, "Ben (inspector)", PASSWORD)
    assert enter(client, "Ben (inspector)", "").headers["location"].startswith("/who?name=")
    assert enter(client, "Ben (inspector)", "wrong one!").status_code == 401


def test_wrong_pins_wait_longer_each_time_and_the_right_one_waits_too(world: World, now: list[int]) -> None:
    client = world.client()
    codes = [enter(client, "Olga", "111222").status_code for _ in range(5)]
    assert codes == [401, 401, 401, 401, 429]
    locked = enter(client, "Olga", PIN)
    assert (locked.status_code, locked.headers["Retry-After"]) == (429, "5")
    now[0] += 5_000
    assert enter(client, "Olga", "111222").status_code == 401
    now[0] += 9_999
    assert enter(client, "Olga", PIN).status_code == 429
    now[0] += 1
    assert enter(client, "Olga", PIN).status_code == 303
    assert enter(client, "Olga", "111222").status_code == 401, "a right one forgives those before"
    assert enter(world.client(), "Ian", PASSWORD).status_code == 303, "nobody else waits"


def test_guessing_a_pin_takes_months() -> None:
    assert [sign_in.wait_ms(n) // 1000 for n in (3, 4, 5, 6, 20)] == [0, 5, 10, 20, 900]
    days = sum(sign_in.wait_ms(n) for n in range(10_000)) / 86_400_000
    assert days > 100


def test_guesses_that_come_together_share_no_count(world: World) -> None:
    codes: list[int] = []
    threads = [
        threading.Thread(target=lambda: codes.append(enter(world.client(), "Olga", "111222").status_code))
        for _ in range(12)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(codes) == [401] * 4 + [429] * 8


def test_a_wait_begun_while_the_hubs_clock_was_ahead_ends_with_that(world: World, now: list[int]) -> None:
    """It was told as 86,400 s, and only whoever may set a new PIN on the hub's machine could end it."""
    client = world.client()
    now[0] += 86_400_000
    while enter(client, "Olga", "111222").status_code != 429:
        pass
    now[0] -= 86_400_000  # somebody has set it
    assert enter(client, "Olga", PIN).status_code == 303


def test_locked_out_still_reads_the_line_and_the_halt(world: World) -> None:
    client = world.client()
    while enter(client, "Olga", "111222").status_code != 429:
        pass
    assert client.get("/").status_code == 200
    assert "porosity" in client.get("/halts/1").text


# ── staying in ──────────────────────────────────────────────────────────────────────────────────────────────────────


def signed_in(client: TestClient) -> bool:
    return client.get("/label").status_code == 200


def test_idle_ends_it_and_refetches_of_an_open_page_are_idle(world: World, now: list[int]) -> None:
    client = world.client("Ian")
    for _ in range(4):
        now[0] += 50 * 60_000
        assert signed_in(client)
    for _ in range(6):
        now[0] += 15 * 60_000
        client.get("/models/stations/p~l~s", headers={"HX-Request": "true"})
    assert not signed_in(client)


def test_after_a_shift_it_ends_however_busy(world: World, now: list[int]) -> None:
    client = world.client("Ian")
    for _ in range(12 * 4):
        now[0] += 15 * 60_000
        assert signed_in(client)
    now[0] += 60_000
    assert not signed_in(client)


@pytest.mark.parametrize("how", ["leave", "pin", "role", "remove", "sign-out"])
def test_whatever_ends_it_ends_it_at_every_browser(world: World, how: str) -> None:
    first, second = world.client("Ian"), world.client("Ian")
    store = world.hub.store
    if how == "leave":
        copied = dict(first.cookies)
        first.post("/who/leave")
        second = world.copied(copied)
    elif how == "pin":
        people.set_secret(store, "Ian", "another password")
    elif how == "role":
        people.set_role(store, "Ian", "operator")
    elif how == "remove":
        people.remove(store, "Ian")
    else:
        assert people.sign_out_everywhere(store, "Ian") == 2
    assert not signed_in(first)
    assert not signed_in(second)


def test_the_database_holds_no_secret_and_no_token(world: World) -> None:
    client = world.client("Olga")
    with world.hub.store.reading() as session:
        kept = session.scalar(select(Person.secret_hash).where(Person.name == "Olga"))
    assert kept
    assert kept.startswith("$argon2id$")
    token = world.sign_ins()[0].token_sha256
    assert token not in str(client.cookies)
    assert not signed_in(world.copied({"haltline": token}))


def test_signing_in_again_ends_what_was_before(world: World) -> None:
    client = world.client("Ian")
    before = dict(client.cookies)
    assert enter(client, "Eve", PASSWORD).status_code == 303
    assert not signed_in(world.copied(before))


def test_another_sites_form_signs_nobody_in(world: World) -> None:
    answer = world.client().post(
        "/who", data={"name": "Olga", "secret": PIN}, headers={"Origin": "https://evil.example"}
    )
    assert answer.status_code == 403
    assert "https://evil.example refused by hub" in answer.text
    assert "hand on the Host header" in answer.text, "or it is ours, asked through a proxy that hides which host it is"


def test_all_of_it_is_in_the_log_without_the_secret(world: World) -> None:
    client = world.client("Olga")
    enter(client, "Ian", "wrong password")
    client.post("/who/leave")
    rows = list(audit.links(world.hub.store))
    assert [(r.who, r.what) for r in rows[-3:]] == [("Olga", "login"), ("Ian", "login_refused"), ("Olga", "logout")]
    assert not any(PIN in r.detail or "password" in re.sub('"(kind|how)":"password"', "", r.detail) for r in rows)


# ── people ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("pin", ["123", "123456789", "12a4", "1111", "1234", "9876", "4321", "٣٤٥٦"])
def test_bad_pins_are_refused(still: World, pin: str) -> None:
    with pytest.raises(InputError):
        people.set_secret(still.hub.store, "Olga", pin)


def test_a_pin_is_no_password(still: World) -> None:
    with pytest.raises(InputError, match="10 to 128"):
        people.set_secret(still.hub.store, "Eve", PIN)


def run(*arguments: str, stdin: str = "") -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["user", *arguments], input=stdin)
    return result.exit_code, result.output


def test_people_by_command(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path / "hub"))
    assert "next: haltline review user pin" in run("add", "Olga", *data)[1]
    assert "NO SECRET YET" in run("list", *data)[1]
    assert run("pin", "Olga", *data, stdin="402817\n402818\n")[0] == 2
    assert run("pin", "Olga", "--stdin", *data, stdin="402817\n") == (0, "Olga can sign in\n")
    assert "has a secret" in run("list", *data)[1]
    assert "user pin" in run("role", "Olga", "inspector", *data)[1]
    assert run("role", "Olga", "boss", *data)[0] == 2
    assert "at 0 browser(s)" in run("sign-out", "Olga", *data)[1]
    assert run("remove", "Olga", *data)[0] == 0
    assert run("list", *data)[1] == ""
    code, said = run("pin", "Olga", "--stdin", *data, stdin="402817\n")
    assert (code, "nobody is called" in said) == (2, True)
