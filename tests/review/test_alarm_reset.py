"""The reset: asked for by a named person, decided by the edge, shown with its reason. The page starts no line."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from tests.review.factory import FakeEdge, HubProcess, until

pytestmark = pytest.mark.broker


def halt_row(hub: HubProcess, edge: FakeEdge) -> dict[str, Any]:
    found = httpx.get(f"{hub.url}/api/halts", params={"limit": 500}).json()
    return next((h for h in found if h["station"].endswith(f"~{edge.topics.station}")), {})


def halted(hub: HubProcess, edge: FakeEdge) -> int:
    """A halt with its evidence in the hub; returns its id there."""
    event = edge.halt()
    until(lambda: set(edge.acked) == {event.uid, *event.records})
    edge.shown = event.records[0]
    return int(until(lambda: halt_row(hub, edge))["id"])


def test_judge_and_reset_is_two_taps(hub: HubProcess, edge: FakeEdge) -> None:
    ana, halt_id = hub.signed_in(), halted(hub, edge)
    judged = ana.post(f"/halts/{halt_id}/verdict", data={"verdict": "real", "saw": edge.shown})
    assert judged.status_code == 200
    assert "Halted, acknowledged" in judged.text
    assert ana.post(f"/halts/{halt_id}/reset").status_code == 200
    until(lambda: halt_row(hub, edge)["state"] == "CLOSED")
    [resume] = edge.resumes
    assert (resume.halt, resume.who, resume.boot) == (edge.boot * 10_000 + 1, "Ana (operator)", edge.boot)
    assert 0 <= edge.seq - resume.seq <= 12, "the request names the newest permit the hub has seen"
    page = ana.get(f"/halts/{halt_id}").text
    for fact in ("acknowledged", "said: Real defect", "asked for a reset", "reset accepted by the edge: fresh frames"):
        assert f"Ana (operator) {fact}" in page


def test_a_wrong_key_is_taken_back_until_the_next_act_and_a_closed_halt_can_be_judged_anew(
    hub: HubProcess, edge: FakeEdge
) -> None:
    ana, halt_id = hub.signed_in(), halted(hub, edge)
    wrong = ana.post(f"/halts/{halt_id}/verdict", data={"verdict": "false_call", "saw": edge.shown})
    assert 'data-key="z"' in wrong.text
    back = ana.post(f"/halts/{halt_id}/undo")
    assert back.status_code == 200
    assert "Ana (operator) took back: False call" in back.text
    assert (halt_row(hub, edge)["verdict"], halt_row(hub, edge)["state"]) == (None, "ACTIVE_ACKED")
    assert ana.post(f"/halts/{halt_id}/reset").status_code == 409, "not judged any more"
    assert ana.post(f"/halts/{halt_id}/undo").status_code == 409, "once only"
    ana.post(f"/halts/{halt_id}/verdict", data={"verdict": "real", "saw": edge.shown})
    ana.post(f"/halts/{halt_id}/reset")
    until(lambda: halt_row(hub, edge)["state"] == "CLOSED")
    assert ana.post(f"/halts/{halt_id}/undo").status_code == 409
    later = ana.post(f"/halts/{halt_id}/verdict", data={"verdict": "unsure", "saw": edge.shown})
    assert "(was: Real defect)" in later.text
    assert (halt_row(hub, edge)["verdict"], halt_row(hub, edge)["state"]) == ("unsure", "CLOSED")
    ana.post(f"/halts/{halt_id}/undo")
    assert (halt_row(hub, edge)["verdict"], halt_row(hub, edge)["state"]) == ("real", "CLOSED")


def test_a_refused_reset_says_why_and_can_be_tried_again(hub: HubProcess, edge: FakeEdge) -> None:
    ana, halt_id = hub.signed_in(), halted(hub, edge)
    edge.on_resume = lambda _: (False, "no fresh frames: the camera is covered")
    ana.post(f"/halts/{halt_id}/verdict", data={"verdict": "false_call", "saw": edge.shown})
    ana.post(f"/halts/{halt_id}/reset")
    until(lambda: halt_row(hub, edge)["state"] == "ACTIVE_ACKED")
    assert "reset refused by the edge: no fresh frames: the camera is covered" in ana.get(f"/halts/{halt_id}").text
    edge.on_resume = lambda _: (True, "")
    ana.post(f"/halts/{halt_id}/reset")
    until(lambda: halt_row(hub, edge)["state"] == "CLOSED")
    assert edge.resumes[0].nonce != edge.resumes[1].nonce


def test_a_reset_nobody_answers_is_said_to_be_not_done(hub: HubProcess, edge: FakeEdge) -> None:
    ana, halt_id = hub.signed_in(), halted(hub, edge)
    edge.on_resume = lambda _: None
    ana.post(f"/halts/{halt_id}/verdict", data={"verdict": "unsure", "saw": edge.shown})
    ana.post(f"/halts/{halt_id}/reset")
    assert halt_row(hub, edge)["state"] == "RESET_REQUESTED"
    again = ana.post(f"/halts/{halt_id}/reset")
    assert again.status_code == 409
    assert "a reset has been asked for" in again.text
    until(lambda: halt_row(hub, edge)["state"] == "ACTIVE_ACKED", 12)
    assert "the edge did not answer in time" in ana.get(f"/halts/{halt_id}").text


def test_no_reset_towards_a_silent_edge(hub: HubProcess, edge: FakeEdge) -> None:
    ana, halt_id = hub.signed_in(), halted(hub, edge)
    ana.post(f"/halts/{halt_id}/verdict", data={"verdict": "real", "saw": edge.shown})
    edge.permits.clear()
    time.sleep(2)
    answer = ana.post(f"/halts/{halt_id}/reset")
    assert answer.status_code == 409
    assert "the edge is silent" in answer.text
    assert edge.resumes == []


def test_no_reset_before_a_verdict_and_no_verdict_before_the_picture(hub: HubProcess, edge: FakeEdge) -> None:
    ana, halt_id = hub.signed_in(), halted(hub, edge)
    assert ana.post(f"/halts/{halt_id}/ack").status_code == 200
    assert ana.post(f"/halts/{halt_id}/ack").status_code == 409
    early = ana.post(f"/halts/{halt_id}/reset")
    assert early.status_code == 409
    assert "say first what it was" in early.text
    unseen = ana.post(f"/halts/{halt_id}/verdict", data={"verdict": "real"})
    assert unseen.status_code == 409
    assert "look at it first" in unseen.text
    assert edge.resumes == []
    assert halt_row(hub, edge)["verdict"] is None


def test_a_reset_at_the_machine_leaves_the_alarm_to_be_judged(hub: HubProcess, edge: FakeEdge) -> None:
    ana, halt_id = hub.signed_in(), halted(hub, edge)
    edge.run, edge.code, edge.halt_id = 1, 0, 0
    until(lambda: halt_row(hub, edge)["state"] == "CLEARED_UNACKED")
    assert "Reset at the machine" in ana.get(f"/halts/{halt_id}").text
    ana.post(f"/halts/{halt_id}/verdict", data={"verdict": "false_call", "saw": edge.shown})
    assert halt_row(hub, edge)["state"] == "CLOSED"
    assert ana.post(f"/halts/{halt_id}/undo").status_code == 409, "it would open again"


def test_a_verdict_can_be_taken_back_while_the_halt_is_open(hub: HubProcess, edge: FakeEdge) -> None:
    ana, halt_id = hub.signed_in(), halted(hub, edge)
    for verdict in ("real", "false_call"):
        ana.post(f"/halts/{halt_id}/verdict", data={"verdict": verdict, "saw": edge.shown})
    assert halt_row(hub, edge)["verdict"] == "false_call"
    assert "said: False call (was: Real defect)" in ana.get(f"/halts/{halt_id}").text


@pytest.mark.parametrize("what", ["ack", "verdict", "reset"])
def test_nobody_acts_without_a_name_or_from_another_site(hub: HubProcess, edge: FakeEdge, what: str) -> None:
    halt_id, address = halted(hub, edge), f"{hub.url}/halts/1/{what}"
    nameless = httpx.post(
        address.replace("/1/", f"/{halt_id}/"), data={"verdict": "real"}, headers={"HX-Request": "true"}
    )
    assert nameless.status_code == 401
    assert nameless.headers["HX-Redirect"].startswith("/who")
    ana = hub.signed_in()
    foreign = ana.post(f"/halts/{halt_id}/{what}", data={"verdict": "real"}, headers={"Origin": "http://evil.example"})
    assert foreign.status_code == 403
    assert halt_row(hub, edge)["state"] == "ACTIVE_UNACKED"


def test_what_is_not_there_is_404(hub: HubProcess) -> None:
    ana = hub.signed_in()
    for address in ("/halts/999999", "/records/00/crop.jpg?x=0&y=0&w=1&h=1", "/live/a~b~c.jpg"):
        assert ana.get(address).status_code == 404
    assert ana.post("/halts/999999/ack").status_code == 404
