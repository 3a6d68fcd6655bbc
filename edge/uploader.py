"""From the spool to the hub: files over HTTP, then the record over MQTT, again until the hub acknowledges.

Two threads, so that neither road waits for the other: while the broker is away pictures go up already, and when it
is back only the small records are left. Nothing here is remembered over a restart but what the spool knows.
"""

from __future__ import annotations

import threading
import time
from collections import ChainMap, Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import httpx
import structlog

from edge.hub_files import Answer, File, HubFiles, Outcome, groups
from edge.line.outbox import Outbox
from edge.spool import NICE, Pending, Spool
from edge.tuning import yield_to_others
from inspection.errors import StorageError

log = structlog.get_logger()

IDLE_S = 0.1
AWAY_S = 2.0
WINDOW = 100
"""Records on their way: more would only wait in somebody's memory, the broker's, which drops them at its limit."""
UPLOADS = 4
"""Requests at a time."""
AGAIN_S, AGAIN_MAX_S = 10.0, 300.0
UNHEARD_TIMES = 6
"""So long a record waits for its acknowledgement; from the second time on it rests, twice as long each time."""
PARK_S, PARK_MAX_S = 10.0, 600.0
STRIKES, STRUCK_MAX_S = 3, 60.0
"""So many answers that are neither yes nor no, and a file waits behind the others; most likely it is the file. Not so
long as one that is refused: it may be the hub after all, and then they all wait."""
DOUBLED = 10
"""So often a waiting time is doubled: of a power without end no float can be made."""


class FileRoad:
    """Uploads the files of items that have not been up yet, a few groups at a time over kept connections."""

    def __init__(self, spool: Spool, http: httpx.Client, closing: threading.Event) -> None:
        self._spool, self._hub, self._closing = spool, HubFiles(http), closing
        self._pool = ThreadPoolExecutor(UPLOADS, "upload", yield_to_others, (NICE,))
        self._parked: dict[str, tuple[float, int]] = {}
        """uid -> when it may be tried again, and how often it was: one that cannot go must not hold up the others."""
        self._strikes = Counter[str]()
        """uid -> answers that were neither yes nor no."""
        self._doubted: set[str] = set()
        self._up: dict[str, None] = {}
        """The newest files known to be up: a camera that stands still gives the same bytes again and again."""
        self.away = ""

    def doubt(self, uids: Sequence[str]) -> None:
        """No acknowledgement came: ask the hub what it has, which also shows whether it is there at all."""
        self._doubted.update(uids)
        self._up = {}
        self._spool.set_uploaded(uids, False)

    def round(self) -> int:
        """Upload for one batch of items; how many are done, -1 when the hub is away."""
        now_s = time.monotonic()
        waiting = {uid for uid, (until_s, _) in self._parked.items() if until_s > now_s}
        items = self._spool.to_upload(8 * UPLOADS, waiting)
        if not items:
            return 0
        found: dict[str, Answer] = {}
        try:
            self._bring(items, found)
        except httpx.HTTPError as e:
            found[""] = Answer(Outcome.AWAY, str(e) or type(e).__name__)
        done = [item.uid for item in items if self._is_done(item, found)]
        self._spool.set_uploaded(done)
        self._doubted.difference_update(done)
        for uid in done:
            self._parked.pop(uid, None)
            del self._strikes[uid]
        stuck = {sha for item in items if item.uid in self._parked for sha, _ in item.files}
        away = next((answer.why for sha, answer in found.items() if _is_away(answer, stuck=sha in stuck)), "")
        self._say_away(away)
        return -1 if away else len(done)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _bring(self, items: Sequence[Pending], found: dict[str, Answer]) -> None:
        """`found` gets what became of each file, and, as "", whether the hub is there where an item only asks that."""
        for sha in {sha for item in items for sha, _ in item.files if sha in self._up}:
            found[sha] = Answer(Outcome.DONE)
        # A file that made room because the hub had it may be doubted by a life that is over: the hub still knows.
        asked = list(
            dict.fromkeys(
                sha
                for item in items
                for sha, path in item.files
                if item.uid in self._doubted or (sha not in found and not path.exists())
            )
        )
        there = Answer(Outcome.DONE)
        if asked or not all(item.files for item in items):
            there = found[""] = self._hub.is_there()
        if there.outcome is Outcome.DONE:
            for sha, has in zip(asked, self._pool.map(self._hub.has, asked), strict=True):
                if has:
                    found[sha] = Answer(Outcome.DONE)
        missing = {sha: path for item in items for sha, path in item.files if sha not in found}
        if there.outcome is not Outcome.DONE:  # what is no longer here is not lost: nobody knows yet if it is there
            gone = [sha for sha, path in missing.items() if not path.exists()]
            found.update(dict.fromkeys(gone, there))
            missing = {sha: path for sha, path in missing.items() if sha not in found}
        # One that may be what the hub stumbles over goes by itself, so that no group falls with it.
        struck = {sha for item in items if self._strikes[item.uid] >= STRIKES for sha, _ in item.files}
        alone = ([file] for file in missing.items() if file[0] in struck)
        together = groups(file for file in missing.items() if file[0] not in struck)
        for answers in self._pool.map(self._put, chain(together, alone)):
            found.update(answers)
            for sha, answer in answers.items():
                if answer.outcome is Outcome.DONE:
                    self._remember(sha)

    def _put(self, files: Sequence[File]) -> dict[str, Answer]:
        """HTTPError stays here: what the other groups brought is not to be brought again."""
        try:
            return self._hub.put(files) if not self._closing.is_set() else {}
        except httpx.HTTPError as e:
            return {sha: Answer(Outcome.AWAY, str(e) or type(e).__name__) for sha, _ in files}

    def _is_done(self, item: Pending, found: Mapping[str, Answer]) -> bool:
        answers = [found.get(sha) for sha in [sha for sha, _ in item.files] or [""]]
        stuck = next((answer for answer in answers if answer and answer.outcome is Outcome.PARKED), None)
        not_now = next((answer for answer in answers if answer and answer.outcome is Outcome.NOT_NOW), None)
        if stuck:
            self._park(item, stuck.why)
        elif not_now:
            self._strike(item, not_now.why)
        return all(answer and answer.outcome is Outcome.DONE for answer in answers)

    def _remember(self, sha: str) -> None:
        up = self._up
        up[sha] = None
        if len(up) > 4096:
            up.pop(next(iter(up)), None)

    def _park(self, item: Pending, why: str) -> None:
        times = self._parked.get(item.uid, (0.0, 0))[1] + 1
        self._parked[item.uid] = (time.monotonic() + min(PARK_S * 2 ** min(times, DOUBLED), PARK_MAX_S), times)
        if times == 2:  # the first time it may just have been acknowledged
            self._spool.count_damaged()
            log.error("evidence cannot be uploaded, it stays and is tried again", uid=item.uid, why=why)

    def _strike(self, item: Pending, why: str) -> None:
        """Not counted as damaged: a hub whose disk is full answers every file so."""
        self._strikes[item.uid] += 1
        over = self._strikes[item.uid] - STRIKES
        if over < 0:
            return
        until_s = time.monotonic() + min(PARK_S * 2 ** min(over, DOUBLED), STRUCK_MAX_S)
        self._parked[item.uid] = (until_s, self._parked.get(item.uid, (0.0, 0))[1])
        if over == 0:
            log.warning("the hub does not take a file, it waits behind the others", uid=item.uid, why=why)

    def _say_away(self, why: str) -> None:
        if bool(why) != bool(self.away):
            log.info("hub is away, evidence waits" if why else "hub is back", why=why or self.away)
        self.away = why


def _is_away(answer: Answer, *, stuck: bool) -> bool:
    """Whether nothing should be asked of the hub for a while. What it says of a file it never takes is no sign."""
    return answer.outcome is Outcome.AWAY or (answer.outcome is Outcome.NOT_NOW and not stuck)


class RecordRoad:
    """Publishes records whose files are up, at most WINDOW unacknowledged."""

    def __init__(self, spool: Spool, outbox: Outbox, files: FileRoad, again_s: float) -> None:
        self._spool, self._outbox, self._files = spool, outbox, files
        self._again_s = again_s
        self._moved = threading.Condition()
        self._in_flight: dict[str, float] = {}
        self._acked: dict[str, float] = {}
        """Acknowledged lately: should the spool fail to forget one, it is not sent again at once."""
        self._late_times: dict[str, int] = {}
        self.unheard = ""
        """Why evidence waits though the hub is there; empty once anything is acknowledged."""
        self._since_s: float | None = None
        """Since when records are sent and none is acknowledged."""
        self._resting: dict[str, float] = {}
        """uid -> until when. A hub that never takes this one must not be kept from the others by it, and what a broker
        holds for a hub that is away must not fill with repetitions."""

    def acknowledged(self, uids: Sequence[str]) -> None:
        """On the thread of the MQTT connection."""
        now_s = time.monotonic()
        self._spool.acknowledge(uids)
        self._hear()
        with self._moved:
            for uid in uids:
                self._in_flight.pop(uid, None)
                self._late_times.pop(uid, None)
                self._acked[uid] = now_s
            self._moved.notify()

    def round(self) -> int:
        """Send what fits into the window; how many were sent, -1 when there is no way to."""
        now_s = time.monotonic()
        if not self._outbox.connection.connected:
            with self._moved:
                self._in_flight.clear()  # a broker that died may have lost any of them: all go again
            self._since_s = None
            return -1
        self._look_for_acknowledgements(now_s)
        late = self._late(now_s)
        if late:
            self._files.doubt(late)
        room = WINDOW - len(self._in_flight)
        if room < WINDOW // 4:  # fewer, larger batches
            return 0
        sent = 0
        for item in self._spool.to_send(room, ChainMap(self._in_flight, self._acked, self._resting)):
            if not self._outbox.connection.fits(item.topic, item.payload):
                with self._moved:  # a broker's limit may be raised; until then it holds up no other
                    self._resting[item.uid] = now_s + AGAIN_MAX_S
                continue
            with self._moved:
                self._in_flight[item.uid] = now_s  # before the publish: its acknowledgement may be faster than we are
                self._since_s = self._since_s or now_s
            if not self._outbox.connection.publish(item.topic, item.payload, qos=1):
                with self._moved:
                    self._in_flight.pop(item.uid, None)
                return -1
            sent += 1
        return sent

    def _look_for_acknowledgements(self, now_s: float) -> None:
        """A hub that answers and acknowledges nothing: the spool fills, and at its quota evidence goes."""
        if self._files.away:
            self._since_s = None
        elif not self.unheard and self._since_s and now_s - self._since_s > UNHEARD_TIMES * self._again_s:
            self.unheard = "the hub answers and acknowledges nothing: either it does not hear this station, or the "
            self.unheard += "broker does not deliver evt/ack to it"
            log.error("evidence is not acknowledged, it stays and is sent again", why=self.unheard)

    def _hear(self) -> None:
        if self.unheard:
            log.info("evidence is acknowledged again")
        self._since_s, self.unheard = None, ""

    def wait(self, timeout_s: float) -> None:
        with self._moved:
            self._moved.wait(timeout_s)

    def wake(self) -> None:
        with self._moved:
            self._moved.notify()

    def _late(self, now_s: float) -> list[str]:
        with self._moved:
            for uid in [uid for uid, at_s in self._acked.items() if now_s - at_s > self._again_s]:
                del self._acked[uid]
            for uid in [uid for uid, until_s in self._resting.items() if until_s < now_s]:
                del self._resting[uid]
            late = [uid for uid, at_s in self._in_flight.items() if now_s - at_s > self._again_s]
            for uid in late:
                del self._in_flight[uid]
                times = self._late_times[uid] = self._late_times.get(uid, 0) + 1
                if times > 1:
                    self._resting[uid] = now_s + min(self._again_s * 2 ** min(times, 10), AGAIN_MAX_S)
        return late


class Uploader:
    """A hub or broker that is away costs nothing but waiting: the spool keeps everything."""

    def __init__(self, spool: Spool, outbox: Outbox, http: httpx.Client, again_s: float = AGAIN_S) -> None:
        self._spool = spool
        self._closing = threading.Event()
        self._files = FileRoad(spool, http, self._closing)
        self._records = RecordRoad(spool, outbox, self._files, again_s)
        self._threads = (
            threading.Thread(target=self._drive, args=(self._upload,), name="upload-files", daemon=True),
            threading.Thread(target=self._drive, args=(self._send,), name="upload-records", daemon=True),
        )
        outbox.on_ack(self._records.acknowledged)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def unheard(self) -> str:
        """Why nothing is acknowledged though the hub is there; else empty."""
        return self._records.unheard

    def close(self) -> None:
        self._closing.set()
        self._records.wake()
        for thread in self._threads:
            thread.join(timeout=2)
        self._files.close()

    def _upload(self) -> None:
        done = self._files.round() if self._spool.counters.pending else 0
        if done > 0:
            self._records.wake()
        else:
            self._closing.wait(AWAY_S if done < 0 else IDLE_S)

    def _send(self) -> None:
        sent = self._records.round() if self._spool.counters.pending else 0
        if sent <= 0:
            self._records.wait(IDLE_S)

    def _drive(self, step: Callable[[], None]) -> None:
        yield_to_others(NICE)
        while not self._closing.is_set():
            try:
                step()
            except StorageError as e:
                if self._spool.closed:
                    return
                log.warning("the spool does not answer, evidence waits", why=str(e))
                self._closing.wait(AWAY_S)
            except Exception:
                log.exception("upload failed, evidence waits")
                self._closing.wait(AWAY_S)
