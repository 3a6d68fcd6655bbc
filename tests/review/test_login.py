"""Names, secrets, roles: who gets in, who is locked out, and every route for every role (fault 24)."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from httpx import Response
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from pydantic import SecretStr
from sqlalchemy import select
from typer.testing import CliRunner

from inspection.errors import InputError
from review import audit, people, secret_hash, sign_in
from review.app import create_app
from review.cli import app as cli
from review.clock import wall_ms
from review.hub import Hub
from review.settings import Settings
from review.store import Halt, Person, SignIn, Station

PIN, PASSWORD = "402817", "correct horse"
WHO = {"Olga": "operator", "Ian": "inspector", "Eve": "engineer", "Ada": "admin"}


class World:
    """A hub without a broker, one person per role, all with secrets, and a halt on one station."""

    def __init__(self, folder: Path) -> None:
        self.app = create_app(Settings(data_dir=folder, edge_token=SecretStr("edge")))
        self.hub: Hub = self.app.state.hub
        for name, role in WHO.items():
            people.add_person(self.hub.store, name, role)
            people.set_secret(self.hub.store, name, secret_of(name))
        with self.hub.store.writing() as session:
            session.add(Station(id=1, site="p", line="l", station="s"))
            session.flush()
            session.add(
                Halt(
                    id=1, station_id=1, halt=170_001, uid="a" * 32, code=1, reason="porosity", cls="porosity",
                    records=[], stages_ms={}, at_ms=wall_ms(), received_ms=wall_ms(), state="ACTIVE_UNACKED",
                )
            )  # fmt: skip

    def client(self, name: str = "") -> TestClient:
        client = TestClient(self.app, base_url="http://hub", follow_redirects=False)
        if name:
            assert enter(client, name, secret_of(name)).status_code == 303
        return client

    def copied(self, cookies: dict[str, str]) -> TestClient:
        """A browser with the cookies of another."""
        return TestClient(self.app, base_url="http://hub", cookies=cookies, follow_redirects=False)

    def sign_ins(self) -> list[SignIn]:
        with self.hub.store.reading() as session:
            return list(session.scalars(select(SignIn)))


def secret_of(name: str) -> str:
    return PIN if WHO[name] == "operator" else PASSWORD


def enter(client: TestClient, name: str, secret: str) -> Response:
    return client.post("/who", data={"name": name, "secret": secret, "next": "/alarms"})


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


# ── every route x role ──────────────────────────────────────────────────────────────────────────────────────────────

ANYONE = ("", "operator", "inspector", "engineer", "admin")
SIGNED_IN = ANYONE[1:]
ENGINEERS = ("engineer", "admin")
NOBODY = ()
"""Edges show a bearer token; no sign-in stands in for it."""

MAY: dict[str, tuple[str, ...]] = {
    "GET /": ANYONE,
    "GET /line/stations": ANYONE,
    "GET /live/{key}.jpg": ANYONE,
    "GET /alarms": ANYONE,
    "POST /alarms/ack": SIGNED_IN,
    "GET /alarms/shelve": SIGNED_IN,
    "POST /alarms/shelve": SIGNED_IN,
    "POST /alarms/shelves/{shelf_id}/end": SIGNED_IN,
    "GET /andon": ANYONE,
    "GET /andon/board": ANYONE,
    "GET /performance": ANYONE,
    "GET /handover": ANYONE,
    "POST /handover/note": SIGNED_IN,
    "POST /handover/sign": SIGNED_IN,
    "POST /handover/{handover_id}/take": SIGNED_IN,
    "GET /halts/{halt_id}": ANYONE,
    "GET /halts/{halt_id}/panel": ANYONE,
    "POST /halts/{halt_id}/ack": SIGNED_IN,
    "POST /halts/{halt_id}/verdict": SIGNED_IN,
    "POST /halts/{halt_id}/reset": SIGNED_IN,
    "GET /records/{uid}/crop.jpg": ANYONE,
    "GET /records/{uid}/heat.png": ANYONE,
    "GET /label": SIGNED_IN,
    "GET /label/next": SIGNED_IN,
    "GET /label/{uid}": SIGNED_IN,
    "GET /label/{uid}/frame": SIGNED_IN,
    "GET /label/{uid}/heat": SIGNED_IN,
    "GET /label/{uid}/mine": SIGNED_IN,
    "POST /label/{uid}": SIGNED_IN,
    "GET /labels/export.zip": ENGINEERS,
    "GET /models": SIGNED_IN,
    "GET /models/stations/{key}": ANYONE,
    "POST /models/upload": ENGINEERS,
    "POST /models/rollout": ENGINEERS,
    "GET /audit": ENGINEERS,
    "GET /audit/export.jsonl": ENGINEERS,
    "GET /who": ANYONE,
    "POST /who": ANYONE,
    "POST /who/leave": ANYONE,
    "GET /healthz": ANYONE,
    "GET /metrics": ANYONE,
    "GET /api/halts": ANYONE,
    "HEAD /api/edge/frames/{sha}": NOBODY,
    "PUT /api/edge/frames/{sha}": NOBODY,
    "GET /api/edge/bundles/{bundle}/{path}": NOBODY,
}
STREAMS = {"GET /events"}
"""Never ends, so it is not asked here; it carries what the Line page shows to everybody."""


def routes(world: World) -> list[str]:
    paths = world.app.openapi()["paths"]
    return sorted(f"{method.upper()} {path}" for path, methods in paths.items() for method in methods)


def ask(client: TestClient, route: str) -> Response:
    method, path = route.split(" ")
    values = {"halt_id": "1", "key": "p~l~s", "sha": "0" * 64, "uid": "b" * 32, "bundle": "b", "path": "m"}
    return client.request(method, re.sub(r"\{(.+?)\}", lambda m: values.get(m[1], "1"), path))


def refused(answer: Response) -> bool:
    return answer.status_code in (401, 403) or answer.headers.get("location", "").startswith("/who?next=")


@pytest.mark.parametrize("role", ANYONE)
def test_every_route_lets_in_whom_the_table_says(still: World, role: str) -> None:
    name = next((n for n, r in WHO.items() if r == role), "")
    cookies, wrong = dict(still.client(name).cookies), []
    for route, may in MAY.items():
        answer = ask(still.copied(cookies), route)
        broken = answer.status_code >= 500 and route != "GET /healthz"  # there is no broker here
        if broken or (role in may) == refused(answer):
            wrong.append((route, role or "nobody", answer.status_code))
    assert wrong == []


def test_no_route_is_new_and_open_to_write(still: World) -> None:
    """A route that the table does not name yet must at least refuse strangers; a gone one must leave the table."""
    known = set(routes(still))
    assert set(MAY) - known == set()
    writes = [r for r in known - set(MAY) if not r.startswith("GET")]
    assert [r for r in writes if not refused(ask(still.client(), r))] == []


def test_numbers_too_long_for_a_database_are_no_error_of_the_hub(still: World) -> None:
    chen = still.client("Eve")
    for path in ("/halts/{}", "/alarms?before={}", "/audit?before={}", "/api/halts?before={}", "/alarms?from_ms={}"):
        assert chen.get(path.format("9" * 30)).status_code == 422, path
    assert chen.post("/alarms/ack", data={"ids": "9" * 30}).status_code == 422


ODD = ("", "0", "-1", "9" * 30, "x" * 3000, "\x00", "../../etc/passwd", "1e999", "NaN", "'; DROP TABLE", "é´€𝄞", "[]")


def odd_requests(world: World) -> Iterator[tuple[str, str, dict[str, str], dict[str, str]]]:
    """(method, path, query, form) of every route with every odd value in every place the route reads from."""
    for path, methods in world.app.openapi()["paths"].items():
        for method, described in methods.items():
            if f"{method.upper()} {path}" in STREAMS or path.startswith("/api/edge"):
                continue
            queries = {p["name"] for p in described.get("parameters", []) if p["in"] == "query"}
            for odd in ODD:
                at = re.sub(r"\{.+?\}", quote(odd, safe="") or "1", path)
                fields = ("name", "secret", "next", "verdict", "saw", "halt", "why", "minutes", "ids", "text", "seen")
                yield method, at, dict.fromkeys(queries, odd), dict.fromkeys((*fields, "station", "bundle"), odd)


def test_no_odd_input_is_an_error_of_the_hub(still: World) -> None:
    client = TestClient(still.app, base_url="http://hub", follow_redirects=False, raise_server_exceptions=False)
    assert enter(client, "Ada", PASSWORD).status_code == 303
    wrong, asked = [], 0
    for method, path, query, form in odd_requests(still):
        body = {"data": form} if method == "post" else {}
        answer = client.request(method, path, params=query, **body)  # type: ignore[arg-type]
        asked += 1
        if answer.status_code >= 500 and path not in ("/healthz",):
            wrong.append((method, path[:60], str(query)[:60], answer.status_code))
        if path == "/who/leave" or (method == "post" and path == "/who"):
            enter(client, "Ada", PASSWORD)
    assert wrong == []
    assert asked > 300


def test_a_refusal_says_who_may(still: World) -> None:
    answer = still.client("Ian").post("/models/rollout")
    assert answer.status_code == 403
    assert "Ian is inspector: this is for engineers and admins" in answer.text


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


def test_all_of_it_is_in_the_log_without_the_secret(world: World) -> None:
    client = world.client("Olga")
    enter(client, "Ian", "wrong password")
    client.post("/who/leave")
    rows = list(audit.links(world.hub.store))
    assert [(r.who, r.what) for r in rows[-3:]] == [("Olga", "login"), ("Ian", "login_refused"), ("Olga", "logout")]
    assert not any(PIN in r.detail or "password" in r.detail.replace('"kind":"password"', "") for r in rows)


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
