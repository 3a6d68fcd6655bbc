"""Every payload of the line contract: what is said arrives unchanged, what is not of the contract is refused."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from pydantic import ValidationError

from inspection.errors import ConfigError, MessageError
from inspection.live_picture import LIVE_TOPIC, LivePicture
from inspection.messages import (
    MESSAGE_MAX_BYTES,
    MESSAGES,
    PERMIT_SHORT_TOPIC,
    AckEvent,
    Conn,
    FindingMsg,
    HaltEvent,
    Heartbeat,
    Message,
    ModelDesired,
    ModelReported,
    Permit,
    PlcState,
    RecordEvent,
    Resume,
    ResumeAnswer,
    Stop,
    StopAnswer,
    Tally,
    Topics,
    Trigger,
    VerdictEvent,
    halt_uid,
    record_uid,
)

GOLDEN = Permit(boot=17, seq=48213, run=1, code=0, halt=0, echo=991, age_ms=38, ts_ms=1795190000000)
GOLDEN_BYTES = b'{"v":1,"boot":17,"seq":48213,"run":1,"code":0,"halt":0,"echo":991,"age_ms":38,"ts_ms":1795190000000}'
SHA = "ab" * 32
UID = "0123456789abcdef" * 2

# ── any valid message ───────────────────────────────────────────────────────────────────────────────────────────

u32 = st.integers(0, 2**32 - 1)
u53 = st.integers(0, 2**53 - 1)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=400)
name = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)
part = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=64)
number = st.floats(allow_nan=False, allow_infinity=False)
uid = st.text("0123456789abcdef", min_size=32, max_size=32)
sha = st.text("0123456789abcdef", min_size=64, max_size=64)
numbers = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), number, max_size=3)
code = st.integers(0, 7)
call = st.sampled_from(["pass", "uncertain", "defect", "fault"])
finding = st.builds(
    FindingMsg, cls=text, score=number, box_px=st.tuples(*[number] * 4), length_mm=number, area_mm2=number
)

ANY: dict[type[Message], st.SearchStrategy[Message]] = {
    Permit: st.builds(
        Permit,
        boot=u32,
        seq=u32,
        run=st.sampled_from([0, 1]),
        code=code,
        halt=u32,
        echo=u32,
        age_ms=u32,
        ts_ms=u53,
    ),
    Conn: st.builds(Conn, state=st.sampled_from(["ONLINE", "OFFLINE", "BROKEN"]), boot=u32, edge=text),
    Heartbeat: st.builds(Heartbeat, n=u32),
    PlcState: st.builds(PlcState, state=st.sampled_from(["RUNNING", "TRIPPED", "READY"]), why=text, ts_ms=u53),
    Trigger: st.builds(
        Trigger, part=part, inspection=u53, deadline_ms=st.integers(10, 600_000), frames=st.integers(1, 1000)
    ),
    Resume: st.builds(
        Resume,
        halt=u32,
        who=name,
        nonce=st.from_regex(r"\A[0-9a-zA-Z_-]{8,64}\Z"),
        boot=u32,
        seq=u32,
        why=text,
    ),
    Stop: st.builds(
        Stop,
        nonce=st.from_regex(r"\A[0-9a-zA-Z_-]{8,64}\Z"),
        who=st.just("") | name,
        why=st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
        ts_ms=u53,
    ),
    StopAnswer: st.builds(StopAnswer, halt=u32, who=text, nonce=text, why=text, ts_ms=u53),
    ResumeAnswer: st.builds(ResumeAnswer, halt=u32, who=text, nonce=text, accepted=st.booleans(), why=text, ts_ms=u53),
    HaltEvent: st.builds(
        HaltEvent,
        halt=u32,
        uid=uid,
        code=code,
        reason=text,
        cls=text,
        score=number,
        limit=number,
        length_mm=number,
        limit_mm=number,
        frame_id=st.integers(-1, 2**53),
        part=text,
        model=text,
        policy=text,
        records=st.lists(uid, max_size=3).map(tuple),
        stages_ms=numbers,
        ts_ms=u53,
    ),
    Tally: st.builds(
        Tally,
        uid=st.just(UID),
        from_ms=u53,
        to_ms=u53,
        frames_passed=u53,
        parts_passed=u53,
        parts_uncertain=u53,
        parts_defect=u53,
        parts_fault=u53,
        audited=st.lists(text, max_size=5).map(tuple),
    ),
    VerdictEvent: st.builds(
        VerdictEvent,
        part=text,
        inspection=u53,
        verdict=call,
        cls=text,
        score=number,
        length_mm=number,
        frames=u32,
        why=text,
        ts_ms=u53,
    ),
    RecordEvent: st.builds(
        RecordEvent,
        uid=uid,
        why=st.lists(text, max_size=3).map(tuple),
        camera=text,
        frame_id=st.integers(-1, 2**53),
        ts_ms=u53,
        call=call,
        scores=numbers,
        findings=st.lists(finding, max_size=2).map(tuple),
        image=st.none() | sha,
        heat=st.none() | sha,
        heat_cls=text,
        heat_to_frame=st.lists(number, max_size=6).map(tuple),
        px_per_mm=number,
        width_px=u32,
        height_px=u32,
        halt=u32,
        part=text,
        model=text,
        policy=text,
        label_book=text,
        stages_ms=numbers,
    ),
    AckEvent: st.builds(AckEvent, uids=st.lists(uid, min_size=1, max_size=5).map(tuple)),
    ModelDesired: st.builds(
        ModelDesired,
        bundle=st.from_regex(r"\A[a-z][a-z0-9_-]{0,39}-[0-9]{1,5}\.[0-9]{1,5}\.[0-9]{1,5}\Z"),
        sha256=sha,
        url=st.from_regex(r"\A(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}){1,5}\Z"),
        rollback=st.booleans(),
    ),
    ModelReported: st.builds(
        ModelReported,
        bundle=text,
        sha256=text,
        state=st.sampled_from(["serving", "fetching", "refused"]),
        wanted=text,
        why=text,
        provider=text,
        ts_ms=u53,
    ),
}
EXAMPLES: tuple[Message, ...] = (
    GOLDEN,
    Conn(state="ONLINE", boot=17, edge="edge-3"),
    Heartbeat(n=991),
    PlcState(state="RUNNING", why="started", ts_ms=1),
    Trigger(part="p-17", inspection=4, deadline_ms=500, frames=3),
    Resume(halt=170001, who="ann", nonce="n0nce-12345", boot=17, seq=48213, why="cleaned"),
    Stop(nonce="8d1f22c0aa", who="kim", why="smoke", ts_ms=1),
    StopAnswer(halt=170_001, who="kim", nonce="8d1f22c0aa", why="", ts_ms=1),
    ResumeAnswer(halt=170001, who="ann", nonce="n0nce-12345", accepted=True, why="", ts_ms=1),
    HaltEvent(halt=170001, uid=UID, code=1, reason="scratch 5.0 mm", score=0.9, stages_ms={"total": 12.5}, ts_ms=1),
    VerdictEvent(part="p-17", inspection=4, verdict="pass", ts_ms=1),
    Tally(uid=UID, from_ms=1, to_ms=2, frames_passed=30, parts_passed=1, audited=("p-17",)),
    RecordEvent(
        uid=UID,
        why=("halt",),
        camera="cam",
        frame_id=4,
        ts_ms=1,
        call="defect",
        scores={"scratch": 0.9},
        findings=(FindingMsg(cls="scratch", score=0.9, box_px=(1, 2, 3, 4), length_mm=5, area_mm2=1),),
        image=SHA,
        px_per_mm=20,
        width_px=640,
        height_px=512,
    ),
    AckEvent(uids=(UID,)),
    ModelDesired(bundle="weld-1.2.3", sha256=SHA, url="/bundles/weld-1.2.3.tar"),
    ModelReported(bundle="weld-1.2.3", sha256=SHA, state="serving", ts_ms=1),
)


def test_every_message_is_tested() -> None:
    assert set(ANY) == set(MESSAGES) == {type(m) for m in EXAMPLES}
    assert len({m.TOPIC for m in MESSAGES}) == len(MESSAGES)


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_what_is_said_arrives_unchanged(kind: type[Message]) -> None:
    @settings(max_examples=40, deadline=None, derandomize=True, database=None)
    @given(ANY[kind])
    def round_trip(message: Message) -> None:
        assert kind.decode(message.encode()) == message

    round_trip()


def test_a_refusal_does_not_repeat_a_long_key() -> None:
    """The reason goes into a log: whoever can publish must not be able to fill it."""
    with pytest.raises(MessageError) as refused:
        Permit.decode(json.dumps(json.loads(GOLDEN_BYTES) | {"k" * 100_000: 1}).encode())
    assert len(str(refused.value)) < 300


# ── the permit's bytes ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_permits_bytes_are_those_of_the_contract() -> None:
    assert GOLDEN.encode() == GOLDEN_BYTES
    assert Permit.decode(GOLDEN_BYTES) == GOLDEN
    assert GOLDEN.short() == b"1;00048213;00991"


def test_the_largest_permit_fits() -> None:
    most = 2**32 - 1
    permit = Permit(boot=most, seq=most, run=1, code=6, halt=most, echo=most, age_ms=most, ts_ms=2**53 - 1)
    assert len(permit.encode()) <= 200
    assert permit.short() == b"1;94967295;67295"


@given(ANY[Permit])
@settings(max_examples=50, deadline=None, derandomize=True, database=None)
def test_the_short_permit_is_always_16_ascii_characters(permit: Permit) -> None:
    run, seq, echo = permit.short().decode("ascii").split(";")
    assert (len(permit.short()), int(run)) == (16, permit.run)
    assert (int(seq), int(echo)) == (permit.seq % 10**8, permit.echo % 10**5)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(
            (key, bad)
            for key in json.loads(GOLDEN_BYTES)
            for bad in (True, 1.0, "1", None, -1, [1], {}, 2**64, 10**400)
        ),
        ("v", 0),
        ("v", 2),
        ("run", 2),
        ("code", 256),
        ("seq", 2**32),
        ("ts_ms", 2**53),
        ("extra", 1),
    ],
    ids=lambda v: str(v)[:12],
)
def test_a_permit_with_a_wrong_value_is_refused(key: str, value: object) -> None:
    with pytest.raises(MessageError) as refused:
        Permit.decode(json.dumps(json.loads(GOLDEN_BYTES) | {key: value}).encode())
    assert refused.value.where == "state/permit"
    assert key in refused.value.what


@pytest.mark.parametrize("key", [k for k in json.loads(GOLDEN_BYTES) if k != "v"])
def test_a_permit_that_lacks_a_value_is_refused(key: str) -> None:
    fields = json.loads(GOLDEN_BYTES)
    del fields[key]
    with pytest.raises(MessageError, match=key):
        Permit.decode(json.dumps(fields).encode())


# ── what is not of the contract ─────────────────────────────────────────────────────────────────────────────────

Decode = Callable[[bytes], object]
DECODERS: list[tuple[Decode, bytes]] = [(type(m).decode, m.encode()) for m in EXAMPLES]
PICTURE = LivePicture("cam", 4, 1795190000000, "pass", b"\xff\xd8jpeg\xff\xd9")
DECODERS.append((LivePicture.decode, PICTURE.encode()))

HOSTILE = [
    b"",
    b"null",
    b"[]",
    b"1",
    b'"a"',
    b"\x00" * 9,
    b"\xff\xfe\xfa",
    b"\xef\xbb\xbf" + GOLDEN_BYTES,
    b"[" * 100_000,
    b'{"v":' * 50_000,
    b'{"v":1,"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
    b"1" * 10_000,
    b'{"v":1e999}',
    b'{"v":NaN}',
    b'{"v":-Infinity}',
    b'{"v":1,"who":"\\ud800"}',
    b'{"v":1,"who":"\\udfff\\ud800"}',
    b'{"v":1,"who":"\xed\xa0\x80"}',
    b'{"v":1,"' + b"k" * 100_000 + b'":1}',
    b" " * (MESSAGE_MAX_BYTES + 1),
    b'{"v":1' + b',"a":1' * 1000 + b"}",
]


@pytest.mark.parametrize(("decode", "_valid"), DECODERS, ids=lambda v: getattr(v, "__qualname__", ""))
@pytest.mark.parametrize("payload", HOSTILE, ids=lambda p: repr(p[:20]))
def test_a_hostile_payload_is_refused_with_a_short_reason(decode: Decode, _valid: bytes, payload: bytes) -> None:
    for wrapped in (payload, payload + b"\n\xff\xd8"):
        with pytest.raises(MessageError) as refused:
            decode(wrapped)
        assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    "header",
    [
        b'{"v":1,"camera":"a","frame_id":1e999,"ts_ms":1,"call":"x"}',
        b'{"v":1,"camera":"a","frame_id":NaN,"ts_ms":1,"call":"x"}',
        b'{"v":1,"camera":"a","frame_id":true,"ts_ms":1,"call":"x"}',
        b'{"v":1,"camera":["a"],"frame_id":1,"ts_ms":1,"call":"x"}',
        b'{"v":2,"camera":"a","frame_id":1,"ts_ms":1,"call":"x"}',
        b'{"v":1,"camera":"a","frame_id":1,"ts_ms":1}',
    ],
)
def test_a_live_picture_with_a_wrong_header_is_refused(header: bytes) -> None:
    with pytest.raises(MessageError, match="header does not read"):
        LivePicture.decode(header + b"\n\xff\xd8")


def test_a_live_picture_arrives_unchanged_and_only_as_a_small_jpeg() -> None:
    assert LivePicture.decode(PICTURE.encode()) == PICTURE
    head = PICTURE.encode().partition(b"\n")[0]
    for body in (b"", b"GIF89a", b"\xff\xd8" + b"x" * MESSAGE_MAX_BYTES):
        with pytest.raises(MessageError, match="no JPEG"):
            LivePicture.decode(head + b"\n" + body)


def mutants(payload: bytes, count: int, seed: int) -> Iterator[bytes]:
    """The payload with bytes flipped, cut, doubled, or one value replaced by a strange one."""
    rng = random.Random(seed)
    strange: list[Any] = [True, None, -1, 0.5, 2**53, 10**30, "", "\x00", "é" * 500, [], [[]], {}, {"a": {}}, "a/b"]
    for _ in range(count):
        kind = rng.randrange(4)
        if kind == 0:
            data = bytearray(payload)
            for _ in range(rng.randint(1, 5)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            yield bytes(data)
        elif kind == 1:
            yield payload[: rng.randrange(len(payload))]
        elif kind == 2:
            at = rng.randrange(len(payload))
            yield payload[:at] + payload[rng.randrange(len(payload)) :]
        else:
            head, newline, body = payload.partition(b"\n")
            fields = json.loads(head)
            fields[rng.choice([*fields, "x"])] = rng.choice(strange)
            yield json.dumps(fields).encode() + newline + body


def test_a_mangled_payload_is_refused_or_reads_as_a_whole_message() -> None:
    """Some mutants are valid (a digit for a digit); those must say the same thing again when encoded."""
    refused = 0
    for seed, (decode, payload) in enumerate(DECODERS):
        for mutant in mutants(payload, 300, seed):
            try:
                message = decode(mutant)
            except MessageError:
                refused += 1
            else:
                assert decode(message.encode()) == message  # type: ignore[attr-defined]
    assert refused >= 1000


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda s: s.encode("utf-8", "surrogatepass")))
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_noise_is_refused(payload: bytes) -> None:
    for decode, _ in DECODERS:
        with pytest.raises(MessageError):
            decode(payload)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_cannot_say_is_never_sent(number: float) -> None:
    """It would leave as null, and the halt event would be refused by the hub: nobody would see it."""
    with pytest.raises(ValidationError, match="finite"):
        HaltEvent(halt=1, uid=UID, code=1, reason="", score=number, ts_ms=1)
    with pytest.raises(ValidationError, match="finite"):
        FindingMsg(cls="scratch", score=number, box_px=(1, 2, 3, 4), length_mm=5, area_mm2=1)


def test_what_a_controller_pads_its_strings_with_is_no_text() -> None:
    trigger = {"v": 1, "inspection": 1, "deadline_ms": 500}
    assert Trigger.decode(json.dumps(trigger | {"part": "A12\0\0"}).encode()).part == "A12"
    for part in ("\0\0", "A\x0012"):
        with pytest.raises(MessageError, match="part"):
            Trigger.decode(json.dumps(trigger | {"part": part}).encode())
    stop = Stop.decode(json.dumps({"v": 1, "nonce": "8d1f22c0aa", "who": "kim\0", "why": "\0", "ts_ms": 1}).encode())
    assert (stop.who, stop.why) == ("kim", "")
    assert HaltEvent(halt=1, uid=UID, code=1, reason="a\0b", part="A12\0\0", ts_ms=1).part == "A12"
    assert HaltEvent(halt=1, uid=UID, code=1, reason="a\0b\0", ts_ms=1).reason == "a\ufffdb"


@pytest.mark.parametrize(
    "url", ["//evil.example/x", "/a//b", "/../x", "/a/../b", "/.hidden", "http://x", "/a?b", "/", ""]
)
def test_a_bundle_comes_from_the_hub_alone(url: str) -> None:
    with pytest.raises(ValidationError, match="url"):
        ModelDesired(bundle="weld-1.2.3", sha256=SHA, url=url)


@pytest.mark.parametrize(
    "bundle", ["weld-١.2.3", "weld-1.2.3\n", "../weld-1.2.3", "weld-1.2", "Weld-1.2.3", "weld-1.2.3.4"]
)
def test_a_bundle_has_a_plain_name(bundle: str) -> None:
    with pytest.raises(ValidationError, match="bundle"):
        ModelDesired(bundle=bundle, sha256=SHA, url="/b")


# ── topics ──────────────────────────────────────────────────────────────────────────────────────────────────────

TOPICS = Topics("plant-1", "line.2", "st_3")
KINDS = [*(m.TOPIC for m in MESSAGES), LIVE_TOPIC, PERMIT_SHORT_TOPIC]


@pytest.mark.parametrize("kind", KINDS)
def test_a_topic_reads_as_it_was_written(kind: str) -> None:
    topic = TOPICS.of(kind)
    assert topic == f"haltline/v1/plant-1/line.2/st_3/{kind}"
    assert Topics.parse(topic) == (TOPICS, kind)
    assert len(Topics("s" * 32, "l" * 32, "t" * 32).of(kind)) <= 128


def test_a_message_names_its_own_topic() -> None:
    assert TOPICS.of(Permit) == "haltline/v1/plant-1/line.2/st_3/state/permit"


@pytest.mark.parametrize(
    "level", ["", "+", "#", "a/b", "a+", "a#", "$SYS", ".", "..", ".a", "-a", "a b", "a\n", "a\0", "é", "٣", "a" * 33]
)
def test_a_level_that_could_reach_another_station_is_refused(level: str) -> None:
    for levels in ((level, "a", "a"), ("a", level, "a"), ("a", "a", level)):
        with pytest.raises(ConfigError):
            Topics(*levels)
        with pytest.raises(MessageError):
            Topics.parse("haltline/v1/" + "/".join(levels) + "/state/permit")


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "haltline/v1/a/b/c",
        "haltline/v1/a/b/c/state",
        "haltline/v1/a/b/c/state/permit/x",
        "haltline/v2/a/b/c/state/permit",
        "other/v1/a/b/c/state/permit",
        "/haltline/v1/a/b/c/state/permit",
        "haltline/v1/a/b/c/#/+",
        "haltline/v1/a/b/c//",
        "haltline/v1/a/b/c/state/" + "p" * 200,
    ],
)
def test_a_foreign_topic_is_refused(topic: str) -> None:
    with pytest.raises(MessageError):
        Topics.parse(topic)


# ── uids ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_fact_has_the_same_uid_and_another_fact_another() -> None:
    facts = [
        record_uid("b", 1, "cam", 2),
        record_uid("b", 1, "cam", 3),
        record_uid("b", 1, "cam2", 3),
        record_uid("b", 2, "cam", 2),
        record_uid("c", 1, "cam", 2),
        halt_uid("b", 1),
        halt_uid("b", 2),
        halt_uid("c", 1),
    ]
    assert len(set(facts)) == len(facts)
    assert facts[0] == record_uid("b", 1, "cam", 2)
    AckEvent(uids=tuple(facts))
