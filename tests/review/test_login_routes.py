"""Every route for every role, and odd input to each (fault 24)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from httpx import Response
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from review import secret_hash
from tests.review.doors import PASSWORD, WHO, World, enter


@pytest.fixture(scope="module", autouse=True)
def cheap_hashes() -> Iterator[None]:
    """The same argon2id with less work: these tests sign in hundreds of times."""
    with pytest.MonkeyPatch.context() as patch:
        cheap = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=64, parallelism=1),))
        patch.setattr(secret_hash, "_HASHER", cheap)
        yield


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> World:
    """For tests that change nothing another one looks at."""
    return World(tmp_path_factory.mktemp("roles"))


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
    "GET /live/{key}/heat.png": ANYONE,
    "GET /stations/{key}": ANYONE,
    "GET /stations/{key}/cameras": ANYONE,
    "POST /stations/{key}/stop": ANYONE,
    "GET /system": ANYONE,
    "GET /system/panel": ANYONE,
    "POST /system/backup": ENGINEERS,
    "POST /system/cameras/test": SIGNED_IN,
    "POST /system/stations/retire": ENGINEERS,
    "GET /alarms": ANYONE,
    "POST /alarms/ack": SIGNED_IN,
    "GET /alarms/shelve": SIGNED_IN,
    "POST /alarms/shelve": SIGNED_IN,
    "POST /alarms/shelves/{shelf_id}/end": SIGNED_IN,
    "GET /alarms/rules": ANYONE,
    "POST /alarms/rules": ENGINEERS,
    "POST /alarms/rules/{rule}/end": ENGINEERS,
    "POST /alarms/maintenance": SIGNED_IN,
    "POST /alarms/maintenance/{row_id}/end": SIGNED_IN,
    "POST /alarms/faults/{fault_id}/ack": SIGNED_IN,
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
    "POST /halts/{halt_id}/undo": SIGNED_IN,
    "POST /halts/{halt_id}/reset": SIGNED_IN,
    "GET /halts/{halt_id}/film.jpg": ANYONE,
    "GET /records/{uid}/crop.jpg": ANYONE,
    "GET /records/{uid}/heat.png": ANYONE,
    "GET /label": SIGNED_IN,
    "GET /label/next": SIGNED_IN,
    "GET /label/{uid}": SIGNED_IN,
    "GET /label/{uid}/frame": SIGNED_IN,
    "GET /label/{uid}/heat": SIGNED_IN,
    "GET /label/{uid}/mine": SIGNED_IN,
    "POST /label/{uid}": SIGNED_IN,
    "GET /label-book/frames/{frame_id}.jpg": SIGNED_IN,
    "GET /labels/export.zip": ENGINEERS,
    "GET /escapes": ENGINEERS,
    "GET /consistency/outlines": ENGINEERS,
    "GET /adjudicate": ENGINEERS,
    "GET /adjudicate/next": ENGINEERS,
    "GET /adjudicate/{uid}": ENGINEERS,
    "GET /adjudicate/{uid}/mask/{label_id}": ENGINEERS,
    "POST /adjudicate/{uid}": ENGINEERS,
    "POST /adjudicate/{uid}/borderline": ENGINEERS,
    "POST /adjudicate/{uid}/gold": ENGINEERS,
    "GET /suspects": ENGINEERS,
    "GET /consistency/people-and-model": ENGINEERS,
    "GET /consistency": ENGINEERS,
    "GET /consistency/frames": ENGINEERS,
    "GET /consistency/report": ENGINEERS,
    "GET /consistency/before-after": ENGINEERS,
    "POST /consistency/propose": ENGINEERS,
    "GET /label-book": SIGNED_IN,
    "GET /label-book/{name}": SIGNED_IN,
    "GET /label-book/{name}/{version}": SIGNED_IN,
    "POST /label-book/{name}/draft": ENGINEERS,
    "POST /label-book/{name}/reason": ENGINEERS,
    "POST /label-book/{name}/rule": ENGINEERS,
    "POST /label-book/{name}/frame": ENGINEERS,
    "POST /label-book/{name}/frame/{frame_id}/remove": ENGINEERS,
    "POST /label-book/{name}/publish": ENGINEERS,
    "GET /words/{of}.js": ANYONE,
    "POST /suspects/{suspect_id}": ENGINEERS,
    "POST /suspects/{suspect_id}/borderline": ENGINEERS,
    "GET /models": SIGNED_IN,
    "GET /models/stations/{key}": ANYONE,
    "POST /models/upload": ENGINEERS,
    "POST /models/rollout": ENGINEERS,
    "GET /audit": ENGINEERS,
    "GET /audit/export.jsonl": ENGINEERS,
    "GET /docs": ENGINEERS,
    "GET /openapi.json": ENGINEERS,
    "GET /who": ANYONE,
    "POST /who": ANYONE,
    "POST /who/badge": ANYONE,
    "POST /who/leave": ANYONE,
    "POST /language": ANYONE,
    "GET /healthz": ANYONE,
    "GET /metrics": ANYONE,
    "GET /api/halts": ANYONE,
    "HEAD /api/edge/frames/{sha}": NOBODY,
    "PUT /api/edge/frames/{sha}": NOBODY,
    "POST /api/edge/frames": NOBODY,
    "GET /api/edge/bundles/{bundle}/{path}": NOBODY,
}
OF_CLASS = {"book": "weld", "version": "weld@1", "cls": "porosity"}
FIELDS = {
    "GET /consistency/frames": OF_CLASS,
    "POST /consistency/propose": OF_CLASS,
    "POST /label-book/{name}/rule": {"cls": "porosity", "limit_mm": "1", "rule": "as before"},
    "POST /label-book/{name}/frame": {"cls": "porosity", "kind": "example", "uid": "b" * 32},
}
"""What these must be told before they look at who asks."""
STREAMS = {"GET /events"}
"""Never ends, so it is not asked here; it carries what the Line page shows to everybody."""


def routes(world: World) -> list[str]:
    paths = world.app.openapi()["paths"]
    return sorted(f"{method.upper()} {path}" for path, methods in paths.items() for method in methods)


def ask(client: TestClient, route: str) -> Response:
    method, path = route.split(" ")
    values = {"halt_id": "1", "key": "p~l~s", "sha": "0" * 64, "uid": "b" * 32, "bundle": "b", "path": "m"}
    values |= {"name": "weld", "of": "de"}
    at, fields = re.sub(r"\{(.+?)\}", lambda m: values.get(m[1], "1"), path), FIELDS.get(route, {})
    return client.request(method, at, params=fields) if method == "GET" else client.request(method, at, data=fields)


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


def test_the_table_names_every_route_and_no_other(still: World) -> None:
    """Whoever adds a route says here who may use it."""
    assert set(routes(still)) == set(MAY) | STREAMS


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
                fields = ["name", "secret", "next", "verdict", "saw", "halt", "why", "minutes", "ids", "text", "seen"]
                fields += ["station", "bundle", "read"]
                yield method, at, dict.fromkeys(queries, odd), dict.fromkeys(fields, odd)


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
    assert "Ian is inspector: this is for the roles engineer, admin" in answer.text
