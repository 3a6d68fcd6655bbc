"""From the spool to the hub: files over HTTP, then the record over MQTT, again until the hub acknowledges.

Two threads, so that neither road waits for the other: while the broker is away pictures go up already, and when it
is back only the small records are left. Nothing here is remembered over a restart but what the spool knows.
"""

from __future__ import annotations

import threading
import time
from collections import ChainMap
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum

import httpx
import structlog

from edge.line.outbox import Outbox
from edge.spool import NICE, Pending, Spool
from edge.tuning import yield_to_others
from inspection.bundle import sha256
from inspection.errors import StorageError

log = structlog.get_logger()

IDLE_S = 0.1
AWAY_S = 2.0
WINDOW = 100
"""Records on their way: more would only wait in somebody's memory, the broker's, which drops them at its limit."""
UPLOADS = 4
AGAIN_S, AGAIN_MAX_S = 10.0, 300.0
"""So long a record waits for its acknowledgement; from the second time on it rests, twice as long each time."""
PARK_S, PARK_MAX_S = 10.0, 600.0
HERE = "/api/edge/frames/" + "0" * 64
"""Any answer to this address, "not found" as well, is a hub that is there."""


class _Outcome(Enum):
    DONE = "done"
    AWAY = "away"
    PARKED = "parked"


class FileRoad:
    """Uploads the files of items that have not been up yet, a few at a time over kept connections."""

    def __init__(self, spool: Spool, http: httpx.Client, closing: threading.Event) -> None:
        self._spool, self._http, self._closing = spool, http, closing
        self._pool = ThreadPoolExecutor(UPLOADS, "upload", yield_to_others, (NICE,))
        self._parked: dict[str, tuple[float, int]] = {}
        """uid -> when it may be tried again, and how often it was: one that cannot go must not hold up the others."""
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
        outcomes = list(self._pool.map(self._upload, items))
        done = [item.uid for item, outcome in zip(items, outcomes, strict=True) if outcome is _Outcome.DONE]
        self._spool.set_uploaded(done)
        self._doubted.difference_update(done)
        for uid in done:
            self._parked.pop(uid, None)
        if _Outcome.AWAY in outcomes:
            return -1
        if items:
            self._say_away("")
        return len(done)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _upload(self, item: Pending) -> _Outcome:
        if self._closing.is_set():
            return _Outcome.AWAY
        try:
            if not item.files:
                return self._read(self._http.head(HERE), item)
            for sha, path in item.files:
                if sha in self._up:
                    continue
                if item.uid in self._doubted and self._http.head(f"/api/edge/frames/{sha}").is_success:
                    continue
                data = path.read_bytes()
                if sha256(data) != sha:
                    return self._park(item, f"{path} is damaged: its bytes are not those that were written")
                answer = self._http.put(f"/api/edge/frames/{sha}", content=data, headers={"content-type": "image/png"})
                if (outcome := self._read(answer, item)) is not _Outcome.DONE:
                    return outcome
                self._remember(sha)
        except OSError as e:
            # Gone is what was acknowledged between the batch and now; it will not be seen again.
            return self._park(item, f"{e.filename}: {e.strerror}")
        except httpx.HTTPError as e:
            self._say_away(str(e) or type(e).__name__)
            return _Outcome.AWAY
        return _Outcome.DONE

    def _read(self, answer: httpx.Response, item: Pending) -> _Outcome:
        if answer.is_success or (not item.files and answer.status_code == 404):
            return _Outcome.DONE
        if answer.status_code in (400, 413, 415, 422):  # this file, now and for ever; anything else may pass
            return self._park(item, f"the hub refuses its file: {answer.status_code} {answer.text[:200]}")
        self._say_away(f"{answer.request.url.path}: {answer.status_code}")
        return _Outcome.AWAY

    def _remember(self, sha: str) -> None:
        up = self._up
        up[sha] = None
        if len(up) > 4096:
            up.pop(next(iter(up)), None)

    def _park(self, item: Pending, why: str) -> _Outcome:
        times = self._parked.get(item.uid, (0.0, 0))[1] + 1
        self._parked[item.uid] = (time.monotonic() + min(PARK_S * 2**times, PARK_MAX_S), times)
        if times == 2:  # the first time it may just have been acknowledged
            self._spool.count_damaged()
            log.error("evidence cannot be uploaded, it stays and is tried again", uid=item.uid, why=why)
        return _Outcome.PARKED

    def _say_away(self, why: str) -> None:
        if bool(why) != bool(self.away):
            log.info("hub is away, evidence waits" if why else "hub is back", why=why or self.away)
        self.away = why


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
        self._resting: dict[str, float] = {}
        """uid -> until when. A hub that never takes this one must not be kept from the others by it, and what a broker
        holds for a hub that is away must not fill with repetitions."""

    def acknowledged(self, uids: Sequence[str]) -> None:
        """On the thread of the MQTT connection."""
        now_s = time.monotonic()
        self._spool.acknowledge(uids)
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
            return -1
        late = self._late(now_s)
        if late:
            self._files.doubt(late)
        room = WINDOW - len(self._in_flight)
        if room < WINDOW // 4:  # fewer, larger batches
            return 0
        sent = 0
        for item in self._spool.to_send(room, ChainMap(self._in_flight, self._acked, self._resting)):
            with self._moved:
                self._in_flight[item.uid] = now_s  # before the publish: its acknowledgement may be faster than we are
            if not self._outbox.connection.publish(item.topic, item.payload, qos=1):
                with self._moved:
                    self._in_flight.pop(item.uid, None)
                return -1
            sent += 1
        return sent

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

    def close(self) -> None:
        self._closing.set()
        self._records.wake()
        for thread in self._threads:
            thread.join(timeout=5)
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
