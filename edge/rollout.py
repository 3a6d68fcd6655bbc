"""A new bundle for a running edge: fetched, verified, loaded and self-tested beside the serving one, then swapped in.

The frame path sees one thing only, a `Serve` in its inbox between two frames; the permit never pauses. Whatever is
wrong with the new bundle, the old one goes on serving and the hub is told why.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import httpx
import structlog

from edge.bundle_store import HubAway, VerifiedBundle, fetch_bundle, read_bundle
from edge.line.outbox import Outbox
from edge.model_base import BundleModel
from edge.ports import Serve
from inspection.bundle import Manifest
from inspection.errors import BundleError, ModelError
from inspection.messages import ModelDesired, ModelReported
from inspection.policy import Policy
from inspection.types import Frame

log = structlog.get_logger()

AGAIN_S = 5.0
"""A hub that is away is asked again for what it ordered: it orders once, and what it withdrew serves until then."""

Load = Callable[[VerifiedBundle], BundleModel]


class Rollout:
    """One thread; the order asked for last wins. `asked_ms`: when the one was that a life before accepted. `serve`
    hands the loaded model to the frame path; `keep` remembers an order that was accepted, over a restart. `newest`:
    what each camera showed last, as it is judged."""

    def __init__(
        self,
        serving: BundleModel,
        load: Load,
        policy_of: Callable[[Manifest], Policy],
        serve: Callable[[Serve], None],
        outbox: Outbox,
        http: httpx.Client | None,
        store: Path,
        trusted_keys: tuple[Path, ...],
        *,
        keep: Callable[[ModelDesired], None] = lambda _order: None,
        asked_ms: int = 0,
        newest: Callable[[], Iterable[Frame]] = tuple,
    ) -> None:
        self.serving, self._keep, self._asked_ms = serving, keep, asked_ms
        self._load, self._policy_of, self._serve = load, policy_of, serve
        self._outbox, self._http, self._store, self._keys = outbox, http, store, trusted_keys
        self._newest_frames = newest
        self._orders: queue.Queue[ModelDesired | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="rollout", daemon=True)
        outbox.on_model_desired(self._orders.put)

    def start(self) -> None:
        self._report("serving")
        self._thread.start()

    def close(self) -> None:
        self._orders.put(None)
        self._thread.join(timeout=2)

    def _work(self) -> None:
        again: ModelDesired | None = None
        while (order := self._newest(again)) is not None:
            said_before, again = order == again, None
            if 0 < order.ts_ms < self._asked_ms:
                self._refuse_old(order)
                continue
            self._asked_ms = max(self._asked_ms, order.ts_ms)
            if order.sha256 == self.serving.sha256:
                self._keep(order)
                self._report("serving", order.bundle)
                continue
            try:
                self._change(order, quietly=said_before)
            except HubAway as e:
                again = order
                if not said_before:
                    log.warning("the hub is away, the bundle waits for it", bundle=order.bundle, why=e.what)
                    self._report("fetching", order.bundle, f"{e.what}; it is tried again"[:400])
            except BundleError as e:
                log.warning("bundle refused", bundle=order.bundle, where=e.where, why=e.what)
                self._report("refused", order.bundle, f"{e.what}. {e.fix}"[:400])
            except Exception as e:
                log.exception("rollout failed", bundle=order.bundle)
                self._report("refused", order.bundle, f"internal: {e}"[:400])

    def _newest(self, again: ModelDesired | None) -> ModelDesired | None:
        """The newest order, as soon as there is one; after a while `again`, if there is none."""
        try:
            order = self._orders.get(timeout=AGAIN_S if again else None)
        except queue.Empty:
            return again
        while order is not None and not self._orders.empty():
            order = self._orders.get()
        if order and again and 0 < order.ts_ms < again.ts_ms:
            self._refuse_old(order)
            return again
        return order

    def _refuse_old(self, order: ModelDesired) -> None:
        why = (
            "it was asked for before what this station was asked for last, so a broker remembered it. Ask for it anew."
        )
        log.warning("an old order is not carried out", bundle=order.bundle)
        self._report("refused", order.bundle, why)

    def _change(self, order: ModelDesired, *, quietly: bool) -> None:
        if not quietly:
            self._report("fetching", order.bundle)
        bundle = self._get(order)
        check_order(order, bundle, self.serving.manifest, datetime.now(UTC))
        model = self._load(bundle)
        policy = self._policy_of(bundle.manifest)
        try_out(model, self._newest_frames())
        self._serve(Serve(model, policy))
        self.serving = model
        self._keep(order)
        log.info("now serving", bundle=model.bundle_id, golden_error=model.golden_error)
        self._report("serving", order.bundle)

    def _get(self, order: ModelDesired) -> VerifiedBundle:
        kept = self._store / order.bundle
        if kept.is_dir():
            try:
                bundle = read_bundle(kept, self._keys)
            except BundleError as e:
                log.warning("kept bundle is broken, fetching it again", where=e.where, what=e.what)
            else:
                if bundle.sha256 == order.sha256:
                    return bundle
        if self._http is None:
            raise BundleError("edge.yaml", "no hub is configured to fetch from", "set hub.url")
        return fetch_bundle(self._http, order.url, order.sha256, self._store, self._keys)

    def _report(self, state: Literal["serving", "fetching", "refused"], wanted: str = "", why: str = "") -> None:
        m = self.serving
        self._outbox.report_model(
            ModelReported(
                bundle=m.bundle_id,
                sha256=m.sha256,
                state=state,
                wanted=wanted,
                why=why,
                provider=m.provider,
                ts_ms=time.time_ns() // 1_000_000,
            )
        )


def try_out(model: BundleModel, frames: Iterable[Frame]) -> None:
    """Refuse a model that cannot judge what this station's cameras show: its golden frames say nothing of their scale,
    and once it serves the line stands. Where no picture has come yet nobody knows, and it is served."""
    for frame in frames:
        try:
            model.infer(frame)
        except ModelError as e:
            fix = "roll out one made for this camera's scale and size"
            raise BundleError(model.bundle_id, f"cannot judge {frame.camera}: {e}", fix) from e
    model.forget()  # what it remembers of these frames is no past of those to come


def check_order(order: ModelDesired, bundle: VerifiedBundle, serving: Manifest, now: datetime) -> None:
    """Refuse what is not what was ordered, another task's model, an expired one, and an older one unless it is a
    rollback."""
    new = bundle.manifest
    if new.id != order.bundle or bundle.sha256 != order.sha256:
        raise BundleError(order.bundle, f"the hub sent {new.id}", "order the rollout again")
    if new.task != serving.task:
        raise BundleError(new.id, f"is for {new.task}, this station inspects {serving.task}", "roll out the right one")
    if new.expires_utc and now >= new.expires_utc:
        raise BundleError(new.id, f"expired on {new.expires_utc.isoformat(timespec='minutes')}", "export it again")
    if new.version_key() < serving.version_key() and not order.rollback:
        raise BundleError(new.id, f"is older than {serving.id}", "order it as a rollback")
