"""The 16-character form: what the block makes of real `Permit.short()` payloads, without boot and age."""

from __future__ import annotations

from pathlib import Path

import pytest
import st

from inspection.messages import Permit

TEXT = Path(__file__).resolve().parents[2] / "deploy" / "plc" / "haltline_watchdog.st"


class Short:
    """A controller that reads `run;seq;echo` and scans every 10 ms."""

    def __init__(self, hb: int = 1000, *, wide: bool = True) -> None:
        self.block = st.load(TEXT, "FB_HaltlineWatchdogShort", wide=wide)
        self.hb, self.now_ms = hb, 2**32 - 700  # the clock wraps early in each story
        self.scan()

    def scan(self, *, start: bool = False) -> None:
        self.block(xArrived=False, xStart=start, udiHb=self.hb % 2**32, udiNowMs=self.now_ms % 2**32)

    def hears(self, seq: int, run: int = 1, echo: int | None = None, retained: bool = False) -> None:
        echo = self.hb if echo is None else echo
        permit = Permit(boot=1, seq=seq % 2**32, run=run, code=0, halt=0, echo=echo % 2**32, age_ms=0, ts_ms=0)
        payload = permit.short().decode("ascii")
        assert len(payload) == 16
        assert payload[1] == payload[10] == ";"
        self.block(
            xArrived=True,
            xRetained=retained,
            udiRun=int(payload[0]),
            udiSeq=int(payload[2:10]),
            udiEcho=int(payload[11:16]),
            udiHb=self.hb % 2**32,
            udiNowMs=self.now_ms % 2**32,
        )

    def start(self) -> None:
        self.scan(start=True)
        self.scan()

    def waits(self, ms: int) -> None:
        for _ in range(ms // 10):
            self.now_ms += 10
            if self.now_ms % 250 < 10:
                self.hb += 1
            self.scan()


@pytest.fixture(params=[False, True], ids=["32 bits", "64 bits"])
def plc(request: pytest.FixtureRequest) -> Short:
    short = Short(wide=request.param)
    short.hears(10)
    short.start()
    assert short.block.xRun
    return short


def test_each_permit_renews_the_watchdog_and_silence_trips(plc: Short) -> None:
    for seq in range(11, 31):
        plc.waits(250)
        plc.hears(seq)
    assert plc.block.xRun
    plc.waits(1000)
    assert plc.block.xRun
    plc.waits(10)
    assert not plc.block.xRun
    plc.hears(31)
    assert plc.block.xReady
    assert not plc.block.xRun, "a trip latches"
    plc.start()
    assert plc.block.xRun


def test_a_halt_trips_at_once_and_a_late_run_from_before_it_starts_nothing(plc: Short) -> None:
    plc.hears(12, run=0)
    assert (plc.block.xRun, plc.block.uiWhy) == (False, 2)
    plc.hears(11)
    assert not plc.block.xReady
    plc.start()
    assert not plc.block.xRun


def test_duplicates_and_old_ones_renew_nothing(plc: Short) -> None:
    for _ in range(5):
        plc.waits(250)
        plc.hears(10)
        plc.hears(9)
    assert not plc.block.xRun


def test_an_old_echo_renews_nothing_also_after_the_line_has_stopped(plc: Short) -> None:
    echo = plc.hb
    plc.waits(1500)
    plc.hears(11, echo=echo)
    assert not plc.block.xReady
    plc.hears(12, echo=plc.hb + 1)
    assert not plc.block.xReady, "an echo of a count not yet sent"
    plc.hears(13, echo=plc.hb - 4)
    assert plc.block.xReady


def test_a_retained_run_is_nothing_and_a_retained_halt_stops(plc: Short) -> None:
    plc.waits(800)
    plc.hears(11, retained=True)
    plc.waits(300)
    assert not plc.block.xRun
    plc.hears(12)
    plc.start()
    assert plc.block.xRun
    plc.hears(13, run=0, retained=True)
    assert (plc.block.xRun, plc.block.uiWhy) == (False, 3)


def test_an_edge_that_began_again_counts_after_the_silence_has_tripped_the_line(plc: Short) -> None:
    plc.waits(500)
    plc.hears(1)
    plc.waits(500)
    assert plc.block.xRun
    plc.hears(2)
    plc.waits(100)
    assert not plc.block.xRun, "a new life within the watchdog time does not carry the old one's run on"
    plc.hears(3)
    assert plc.block.xReady


def test_seq_and_echo_wrap_at_their_digits() -> None:
    plc = Short(hb=99_998)
    plc.hears(10**8 - 2)
    plc.start()
    for seq in range(10**8 - 1, 10**8 + 9):
        plc.waits(250)
        plc.hears(seq, echo=plc.hb - 2)
    assert plc.block.xRun
    plc = Short()
    plc.hears(2**32 - 1)
    plc.hears(0)  # 94967295 -> 0
    plc.start()
    assert plc.block.xRun
    plc.waits(500)
    plc.hears(1)
    plc.waits(600)
    assert plc.block.xRun
