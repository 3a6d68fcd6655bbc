"""Badges: what is kept of them, whose they are, and how little guessing gets (fault 24)."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from httpx import Response
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import select
from typer.testing import CliRunner

from inspection.errors import ConfigError, InputError
from review import audit, backup, badges, people, secret_hash, sign_in
from review.cli import app as cli
from review.clock import wall_ms
from review.settings import Settings
from review.store import BadgeTries, Person
from tests.review.doors import BADGE, PASSWORD, PIN, World, enter

OTHER = "0009999999"
FULL_N = badges.SCRYPT_N


@pytest.fixture(scope="module", autouse=True)
def cheap_hashes() -> Iterator[None]:
    """The same functions with less work."""
    with pytest.MonkeyPatch.context() as patch:
        cheap = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=64, parallelism=1),))
        patch.setattr(secret_hash, "_HASHER", cheap)
        patch.setattr(badges, "SCRYPT_N", 2)
        yield


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    badges.enrol(world.hub.store, key(world), "Olga", BADGE)
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


def key(world: World) -> bytes:
    return world.hub.settings.badge_key()


def read(client: TestClient, number: str) -> Response:
    return client.post("/who/badge", data={"read": number, "next": "/alarms"})


def test_a_badge_alone_signs_in_and_the_log_says_how(world: World) -> None:
    client = world.client()
    assert read(client, BADGE).headers["location"] == "/alarms"
    assert "Olga" in client.get("/").text
    assert client.get("/label").status_code == 200
    enter(client, "Olga", PIN)
    enter(client, "Ian", PASSWORD)
    read(client, OTHER)
    rows = list(audit.links(world.hub.store))
    said = [(r.who, r.what, r.detail) for r in rows if r.what.startswith("login")]
    assert said == [
        ("Olga", "login", '{"how":"badge"}'),
        ("Olga", "login", '{"how":"PIN"}'),
        ("Ian", "login", '{"how":"password"}'),
        ("badge reader", "login_refused", '{"how":"badge"}'),
    ]
    assert not any(number in r.detail + r.subject for r in rows for number in (BADGE, OTHER))


@pytest.mark.parametrize("typed", [BADGE, f";{BADGE}?", f" {BADGE}\r\n", BADGE.replace("-", "").upper()])
def test_readers_put_different_things_around_a_number(typed: str) -> None:
    assert badges.cleaned(typed) == badges.cleaned(BADGE)


NONE = ("12345", "1" * 65, "\N{ARABIC-INDIC DIGIT ONE}" * 8, "????????", "0000000000", "40281734")


@pytest.mark.parametrize("typed", NONE)
def test_what_is_no_number_is_nobodys(still: World, typed: str) -> None:
    with pytest.raises(InputError):
        badges.enrol(still.hub.store, key(still), "Olga", typed)
    with pytest.raises(sign_in.WrongSecret):
        badges.enter(still.hub.store, key(still), typed, f"screen of {NONE.index(typed)}", wall_ms())


def test_the_database_alone_says_nothing_about_a_number(world: World) -> None:
    kept = badges.digest(badges.cleaned(BADGE), key(world))
    database = (world.hub.settings.data_dir / "hub.db").read_bytes()
    database += (world.hub.settings.data_dir / "hub.db-wal").read_bytes()
    assert kept.encode() in database
    assert BADGE.encode() not in database
    assert badges.cleaned(BADGE).encode() not in database
    assert key(world) not in database
    assert badges.digest(badges.cleaned(BADGE), b"another key") != kept
    assert (world.hub.settings.data_dir / "badge_key").stat().st_mode & 0o777 == 0o600
    assert FULL_N == 2**15, "what a thief of database and key pays for each number"


def test_what_root_makes_belongs_to_the_hub(tmp_path: Path) -> None:
    """`review user badge` before the hub's first start: its key was root's, and every badge was a 500."""
    data, out, again = tmp_path / "hub", tmp_path / "out", tmp_path / "again"
    hub = 65534 if os.geteuid() == 0 else os.geteuid()
    for folder in (data, again):
        folder.mkdir()
        os.chown(folder, hub, -1)
    asked = ["user", "add", "Olga", "--data", str(data)], ["user", "badge", "Olga", "--stdin", "--data", str(data)]
    for command in asked:
        said = CliRunner().invoke(cli, command, input=f"{BADGE}\n")
        assert said.exit_code == 0, said.output
    made = backup.make(Settings(data_dir=data), out, wall_ms())
    backup.restore(made.path, again)
    for folder in (data, again):
        owners = {path.name: path.stat().st_uid for path in folder.rglob("*")}
        assert {"hub.db", "badge_key", "audit.anchor"} <= owners.keys()
        assert set(owners.values()) == {hub}, owners


def test_the_key_is_there_from_the_start(tmp_path: Path) -> None:
    world = World(tmp_path / "hub")
    assert (tmp_path / "hub" / "badge_key").is_file()
    world.hub.store.close()


def held(folder: Path, content: bytes | None) -> Path:
    """What is there under the key's name; None is what root's file is to the hub: nothing to read."""
    path = folder / "badge_key"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    return path


BAD_KEYS = {
    None: "cannot be read: Is a directory",
    b"\xff\xfe\x00": "cannot be read: it is no text",
    b"": "is no key: it holds 0 characters",
    b"3f" * 31: "is no key: it holds 62 characters",
}


@pytest.mark.parametrize(("content", "says"), BAD_KEYS.items())
def test_a_key_that_cannot_be_used_is_said_and_the_hub_starts(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = held(tmp_path, content)
    world = World(tmp_path)
    client = world.client()
    answer = client.post("/who/badge", data={"read": BADGE}, headers={"Accept-Language": "de"})
    assert answer.status_code == 503
    assert "kann seinen badge_key nicht verwenden" in answer.text
    health = client.get("/healthz")
    assert health.status_code == 503
    assert health.json()["badges"].startswith(f"{path}: {says}\n  fix: ")
    page = client.get("/system", headers={"Accept-Language": "de"}).text
    assert "<b>Ausweise</b>" in page
    assert f"{path}: {says}" in page
    assert "kein Ausweis meldet jemanden an" in page
    asked = ["user", "badge", "Olga", "--stdin", "--data", str(tmp_path)]
    said = CliRunner().invoke(cli, asked, input=f"{BADGE}\n")
    assert (said.exit_code, f"{path}: {says}" in said.output) == (2, True)
    assert enter(client, "Olga", PIN).status_code == 303
    world.hub.store.close()


def test_a_key_that_is_gone_is_said_and_not_made_by_the_look(world: World) -> None:
    client = world.client()
    assert "badges" not in client.get("/healthz").json()
    path = world.hub.settings.data_dir / "badge_key"
    kept = path.read_bytes()
    path.unlink()
    assert client.get("/healthz").json()["badges"].startswith(f"{path}: is missing")
    assert not path.exists()
    path.write_bytes(kept + b"\n")  # typed back by hand
    assert "badges" not in client.get("/healthz").json()
    assert read(client, BADGE).status_code == 303


def test_one_person_one_badge_one_badge_one_person(world: World) -> None:
    store = world.hub.store
    people.add_person(store, "Oskar", "operator")
    with pytest.raises(InputError, match="is Olga's"):
        badges.enrol(store, key(world), "Oskar", BADGE)
    badges.enrol(store, key(world), "Olga", OTHER)
    assert read(world.client(), BADGE).status_code == 401, "a new badge replaces the old one"
    badges.enrol(store, key(world), "Oskar", BADGE)
    client = world.client()
    read(client, BADGE)
    assert "Oskar" in client.get("/").text


@pytest.mark.parametrize("name", ["Ian", "Eve", "Ada"])
def test_others_need_a_password(still: World, name: str) -> None:
    with pytest.raises(InputError, match="whom a password lets in"):
        badges.enrol(still.hub.store, key(still), name, OTHER)


@pytest.mark.parametrize("how", ["revoke", "role", "remove", "new badge"])
def test_what_ends_a_badge_signs_out_too(world: World, how: str) -> None:
    client, store = world.client(), world.hub.store
    read(client, BADGE)
    if how == "revoke":
        assert badges.revoke(store, "Olga")
        assert not badges.revoke(store, "Olga")
    elif how == "role":
        people.set_role(store, "Olga", "inspector")
        people.set_role(store, "Olga", "operator")
    elif how == "remove":
        people.remove(store, "Olga")
    else:
        badges.enrol(store, key(world), "Olga", OTHER)
    assert client.get("/label").status_code != 200
    assert read(client, BADGE).status_code == 401
    with store.reading() as session:
        assert session.scalar(select(Person.badge).where(Person.name == "Olga")) is None or how == "new badge"


def test_wrong_badges_wait_longer_each_time_and_a_right_one_between_forgives_none(world: World, now: list[int]) -> None:
    client = world.client()
    codes = [read(client, OTHER).status_code for _ in range(3)]
    assert read(client, BADGE).status_code == 303
    codes += [read(client, OTHER).status_code for _ in range(2)]
    assert codes == [401, 401, 401, 401, 429]
    locked = read(client, BADGE)
    assert (locked.status_code, locked.headers["Retry-After"]) == (429, "5")
    assert enter(client, "Olga", PIN).status_code == 303, "a PIN does not wait for badges"
    assert client.get("/halts/1").status_code == 200
    now[0] += 5_000
    assert read(client, BADGE).status_code == 303
    assert read(client, OTHER).status_code == 401
    now[0] += 9_999
    assert read(client, BADGE).status_code == 429
    now[0] += badges.HOUR_MS
    assert [read(client, OTHER).status_code for _ in range(4)] == [401] * 4, "an hour later they are forgotten"
    now[0] -= 2 * badges.HOUR_MS  # somebody has set the hub's clock
    assert [read(client, OTHER).status_code for _ in range(4)] == [401] * 4


def test_other_screens_do_not_wait_until_the_whole_hub_had_too_many(world: World) -> None:
    store, at = world.hub.store, wall_ms()

    def wrong(screen: str) -> str:
        try:
            badges.enter(store, key(world), OTHER, screen, at)
        except sign_in.WrongSecret as e:
            return type(e).__name__
        except sign_in.LockedOut as e:
            return f"locked {e.wait_s}"
        raise AssertionError

    assert [wrong("10.0.0.1") for _ in range(5)] == ["UnknownBadge"] * 4 + ["locked 5"]
    rest = [wrong(f"10.0.1.{n}") for n in range(badges.FREE_OF_HUB)]
    assert rest.count("UnknownBadge") == badges.FREE_OF_HUB - 3
    assert rest[-1] == "locked 5"
    with pytest.raises(sign_in.LockedOut):
        badges.enter(store, key(world), BADGE, "10.0.2.1", at)
    later = at + badges.HOUR_MS + 1
    assert badges.enter(store, key(world), BADGE, "10.0.2.1", later)[0].name == "Olga"
    with store.reading() as session:
        assert set(session.scalars(select(BadgeTries.origin))) == {"hub", "screen 10.0.2.1"}


def test_badges_that_come_together_share_no_count(world: World) -> None:
    codes: list[int] = []
    threads = [
        threading.Thread(target=lambda: codes.append(read(world.client(), OTHER).status_code)) for _ in range(12)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(codes) == [401] * 4 + [429] * 8


def test_a_badge_does_not_forgive_wrong_pins(world: World) -> None:
    client = world.client()
    for _ in range(4):
        enter(client, "Olga", "111222")
    assert read(client, BADGE).status_code == 303
    assert enter(client, "Olga", PIN).status_code == 429


def run(*arguments: str, stdin: str = "") -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["user", *arguments], input=stdin)
    return result.exit_code, result.output


def test_badges_by_command(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path / "hub"))
    run("add", "Olga", *data)
    run("add", "Ian", "--role", "inspector", *data)
    assert run("badge", "Olga", *data, stdin="0012345678\n0012345679\n")[0] == 2
    code, said = run("badge", "Olga", *data, stdin="0012345678\n0012345678\n")
    assert (code, "Olga can sign in with this badge" in said) == (0, True)
    assert "0012345678" not in said
    assert run("list", *data)[1] == "Ian\tinspector\tNO SECRET YET\nOlga\toperator\thas a badge\n"
    code, said = run("badge", "Ian", "--stdin", *data, stdin="0012345679\n")
    assert (code, "whom a password lets in" in said) == (2, True)
    assert run("badge", "Olga", "--revoke", *data) == (0, "Olga's badge is revoked\n")
    assert run("badge", "Olga", "--revoke", *data) == (0, "Olga has no badge, nothing changed\n")
    with pytest.raises(ConfigError):
        badges.revoke(World(tmp_path / "other").hub.store, "Nobody")
