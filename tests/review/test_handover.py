"""Handover: nothing unseen is handed over, what was signed stays as it was, somebody else checks each item."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from inspection.messages import Permit, Topics
from review import audit
from review.alarms import State
from review.handover import MOST
from review.store import AuditHead, Bundle, Handover, Rollout
from tests.review.floor import MIN, World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def sign(client: TestClient) -> int:
    """As from the page: with what the form holds."""
    shown = re.findall(r'name="instead_of" value="(\d+)"', client.get("/handover").text)
    return int(client.post("/handover/sign", data={"instead_of": shown} if shown else {}).status_code)


def keys(page: str) -> list[str]:
    return re.findall(r'name="seen" value="([^"]+)"', page)


def take(client: TestClient, seen: list[str], number: int = 1) -> tuple[int, str]:
    answer = client.post(f"/handover/{number}/take", data={"seen": seen})
    return answer.status_code, html.unescape(answer.text)


def test_it_is_blocked_until_every_halt_is_acknowledged(world: World) -> None:
    halt = world.halt()
    world.shelve(halt)  # quiet is not seen
    page = world.ana.get("/handover").text
    assert "1 halt is not acknowledged" in page
    assert re.search(r"<button[^>]*disabled[^>]*>Sign", page)
    assert sign(world.ana) == 409
    world.ana.post(f"/halts/{halt}/ack")
    assert sign(world.ana) == 303


def test_the_draft_holds_what_is_not_settled(world: World) -> None:
    halt = world.halt(state=State.ACTIVE_ACKED)
    world.shelve(world.halt("undercut", state=State.CLOSED), 480)
    world.shelve(world.halt("spatter", station=2, state=State.CLOSED), 0, "lens is scratched", by="chen")
    world.hub.live.permit(
        Topics("p", "l", "s2"), Permit(boot=1, seq=1, run=1, code=2, halt=0, echo=0, age_ms=1, ts_ms=1), 10**18
    )
    world.ana.post("/handover/note", data={"text": "  nozzle   cleaned <b>twice</b> "})
    page = world.ana.get("/handover").text
    for told in (
        f'href="/halts/{halt}">l · s1: Porosity. Halted, acknowledged',
        "Undercut shelved by Ana (operator): nozzle is changed",
        "Spatter out of service by Chen (engineer): lens is scratched",
        "l · s2: not inspecting, the site lets the line run",
        "Ana (operator): nozzle cleaned &lt;b&gt;twice&lt;/b&gt;",
        "None",
    ):
        assert told in page, told
    empty = world.ana.post("/handover/note", data={"text": "  "}, headers={"accept-language": "de"})
    assert (empty.status_code, "eine leere Notiz sagt nichts" in empty.text) == (409, True)


def test_of_many_open_halts_the_one_that_holds_the_line_is_handed_over_and_the_rest_are_counted(world: World) -> None:
    for n in range(MOST + 10):
        world.now += MIN
        if n == 5:
            held = world.halt("undercut", state=State.ACTIVE_ACKED)
        world.halt(state=State.CLEARED_ACKED)
    page = world.ana.get("/handover").text
    shown = re.findall(r'href="/halts/(\d+)"', page)
    assert (len(shown), shown[0], shown[1]) == (MOST, str(held), str(MOST + 11)), "then the newest"
    assert '<a href="/alarms">and 11 more</a>' in page
    assert sign(world.ana) == 303
    ben = world.client("Ben (inspector)")
    assert keys(ben.get("/handover").text)[MOST] == "more-halts", "who takes over checks that there are more"


def test_outgoing_signs_incoming_checks_each(world: World) -> None:
    world.halt(state=State.ACTIVE_ACKED)
    world.ana.post("/handover/note", data={"text": "watch the nozzle"})
    assert sign(world.ana) == 303
    ben = world.client("Ben (inspector)")
    page = ben.get("/handover").text
    assert keys(page) == ["halt-1", "note-1"]
    assert take(world.ana, keys(page))[1].count("somebody else must take over") == 1
    code, said = take(ben, ["halt-1"])
    assert (code, "1 of 2 not checked yet" in said) == (409, True)
    assert re.search(r'value="halt-1"[^>]*checked', said), "what was checked stays checked"
    assert take(ben, keys(page))[0] == 303
    assert "Chen" not in ben.get("/handover").text
    assert take(world.chen, keys(page))[1].count("Ben (inspector) has taken over already") == 1
    assert take(ben, [], 99)[0] == 404
    acts = [(row.who, row.what) for row in audit.links(world.hub.store)][-2:]
    assert acts[-1] == ("Ben (inspector)", "handover_taken")
    assert ("Ana (operator)", "handover_signed") in [(r.who, r.what) for r in audit.links(world.hub.store)]


def test_what_was_signed_stays_and_the_next_begins_there(world: World) -> None:
    world.halt(state=State.ACTIVE_ACKED)
    sign(world.ana)
    signed_at = world.now
    world.now += 5 * MIN
    world.halt("undercut", state=State.ACTIVE_ACKED)
    assert keys(world.chen.get("/handover").text) == ["halt-1"]
    take(world.chen, ["halt-1"])
    with world.hub.store.reading() as session:
        assert session.get_one(Handover, 1).to_ms == signed_at
    world.ana.post("/handover/note", data={"text": "for the next one"})
    sign(world.chen)
    with world.hub.store.reading() as session:
        second = session.get_one(Handover, 2)
    assert second.from_ms == signed_at
    assert [i["key"] for i in second.draft["Notes"]] == ["note-1"]


def test_what_nobody_took_over_stays_in_the_next_one(world: World) -> None:
    world.ana.post("/handover/note", data={"text": "nozzle 2 leaks"})
    assert sign(world.ana) == 303
    world.now += MIN
    assert world.ana.post("/handover/sign").status_code == 409, "a second tap: that page showed none"
    world.ana.post("/handover/note", data={"text": "the spare is in locker 4"})
    world.now += MIN
    page = world.ana.get("/handover").text
    assert "Nobody has taken over what Ana (operator) signed at" in page
    assert sign(world.ana) == 303
    ben = world.client("Ben (inspector)")
    page = ben.get("/handover").text
    assert (keys(page), "/handover/2/take" in page) == (["note-1", "note-2"], True)
    assert take(ben, ["note-1", "note-2"], 2)[0] == 303
    page = ben.get("/handover").text
    assert "Nobody has taken over" not in page
    earlier = page[page.index("Earlier") :]
    assert earlier.count("nozzle 2 leaks") == 2, "what was signed can be read"
    with world.hub.store.reading() as session:
        handovers = [session.get_one(Handover, n) for n in (1, 2)]
    assert [h.from_ms for h in handovers] == [handovers[0].from_ms] * 2
    world.ana.post("/handover/note", data={"text": "all is well"})
    assert sign(world.ana) == 303
    assert keys(ben.get("/handover").text) == ["note-3"], "what was taken is not told again"


def test_what_follows_a_signature_is_told_though_the_clock_was_set_back(world: World) -> None:
    world.now += 30 * 24 * 60 * MIN  # a hub whose clock is ahead
    world.ana.post("/handover/note", data={"text": "nozzle 2 leaks"})
    assert sign(world.ana) == 303
    world.now -= 30 * 24 * 60 * MIN
    ben = world.client("Ben (inspector)")
    assert take(ben, ["note-1"])[0] == 303
    world.ana.post("/handover/note", data={"text": "nozzle 3 leaks"})
    with world.hub.store.writing() as session:
        bundle = Bundle(bundle="weld-1.0.0", manifest_sha256="0" * 64, path="", uploaded_ms=world.now)
        asked = {"wanted_by": "Chen (engineer)", "wanted_ms": world.now, "state": "asked", "state_ms": world.now}
        session.add(Rollout(station_id=1, bundle=bundle, **asked))
    assert sign(world.ana) == 303
    assert keys(ben.get("/handover").text) == ["model-1", "note-2"]


def test_a_handover_anchors_the_audit_log(world: World) -> None:
    """Even with table, head and anchor file cut back together."""
    sign(world.ana)
    with world.hub.store.reading() as session:
        handover, head = session.get_one(Handover, 1), session.get_one(AuditHead, 1)
    assert handover.audit_seq == head.seq - 1
    assert f"{handover.audit_seq}:{handover.audit_hash}" in world.ana.get("/handover").text
    cut = list(audit.links(world.hub.store))[: handover.audit_seq - 1]
    last = audit.Anchor(cut[-1].seq, cut[-1].hash, "all that is left")
    on_paper = audit.parse_anchor(f"{handover.audit_seq}:{handover.audit_hash}")
    assert audit.problems(cut, [last])[1] == []
    assert "the end is missing" in audit.problems(cut, [last, on_paper])[1][0]
