"""`haltline edge replay RECORDING`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from edge.replay import Departure, Judge
    from inspection.policy import Policy
    from inspection.recording import Recording

SHOWN = 10


def replay(
    recording: Annotated[Path, typer.Argument(help="Made by `haltline edge run --record FILE`.")],
    policy: Annotated[Path | None, typer.Option(help="An edge.yaml: what would its policy have done?")] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="A bundle: what would this model have done? Needs --frames.")
    ] = None,
    frames: Annotated[Path | None, typer.Option(help="The pictures, from `edge run --record-frames`.")] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Print `prior` and `thin` for a sequential test.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Play a recording again. With no other policy or bundle it must come out as recorded: exit 1 if it does not."""
    from edge import replay as r
    from inspection.errors import ConfigError
    from inspection.events import Judged

    if frames and not (bundle and frames.is_dir()):
        what, fix = "is no folder", "name the one that was given to `edge run --record-frames`"
        if not bundle:
            what, fix = "is of no use without a model", "name one with --bundle, or leave the pictures out"
        raise ConfigError("--frames", f"{frames} {what}", fix)
    tape = r.read(recording)
    if tape.lost and not as_json:
        typer.echo(f"{tape.lost} events are missing from this recording")
    if estimate:
        found = r.estimate(tape)
        if not found:
            fix = "record a stretch that is good, or at least longer than 5 s before or after its halts"
            raise ConfigError(recording, "holds no frame to estimate from: those near a halt do not count", fix)
        _tell(
            as_json,
            [asdict(e) for e in found],
            [f"{e.camera} {e.cls}: prior {e.prior}, thin {e.thin} ({e.frames} frames; {e.note})" for e in found],
        )
    elif policy is None and bundle is None:
        departures = r.departures(tape)
        _tell(
            as_json,
            {"events": len(tape.steps), "departures": [asdict(d) for d in departures]},
            _exact(len(tape.steps), departures),
        )
        if departures:
            raise typer.Exit(1)
    else:
        wanted, judge = _other(tape, policy, bundle, frames)
        played = r.replay(tape, wanted, judge)
        frames_told = sum(isinstance(step.event, Judged) for step in tape.steps)
        if judge and played.without_picture >= frames_told > 0:  # "2 halts would not have happened", by no model
            fix = "name the pictures that were recorded with it"
            raise ConfigError("--frames", f"{frames} holds no picture of {recording}", fix)
        found_difference = r.difference(r.recorded(tape), played)
        _tell(as_json, found_difference.as_json(), found_difference.lines())


def _other(
    tape: Recording, policy: Path | None, bundle: Path | None, frames: Path | None
) -> tuple[Policy, Judge | None]:
    """The policy and the model that are asked about; what is not named stays as recorded."""
    from edge.bundle_store import read_bundle
    from edge.config import BundleConfig, PolicyConfig
    from edge.config_file import load
    from edge.models import open_model
    from edge.replay import judge_again
    from edge.site_policy import policy_from
    from inspection.errors import ConfigError

    site = load(policy) if policy else None
    limits, name, judge = tape.head.limits, tape.head.bundle, None
    novel_from = tape.head.policy.novel_from
    if bundle:
        if frames is None:
            raise ConfigError("--bundle", "needs the pictures", "name their folder with --frames")
        verified = read_bundle(bundle, site.bundle.trusted_keys if site else ())
        limits, name, novelty = verified.manifest.limits, verified.manifest.id, verified.manifest.novelty
        novel_from = novelty.threshold if novelty else None
        judge = judge_again(open_model(verified, site.bundle if site else BundleConfig(path=bundle)), frames)
    if site:
        return policy_from(site.policy, name, limits, site.cameras, novel_from), judge
    return _with_limits(tape.head.policy, policy_from(PolicyConfig(), name, limits, (), novel_from)), judge


def _with_limits(recorded: Policy, of_bundle: Policy) -> Policy:
    """The recorded policy with another bundle's limits: rules of evidence stay with the classes of the same name."""
    from dataclasses import replace

    known = {rule.cls: rule for rule in recorded.classes}
    classes = tuple(
        replace(known[new.cls], lo=new.lo, hi=new.hi, limit_mm=new.limit_mm, release=None) if new.cls in known else new
        for new in of_bundle.classes
    )
    return replace(recorded, classes=classes, novel_from=of_bundle.novel_from)


def _exact(events: int, departures: list[Departure]) -> list[str]:
    if not departures:
        return [f"{events} events, all answered as recorded"]
    told = [f"{len(departures)} of {events} events are answered otherwise than recorded"]
    for d in departures[:SHOWN]:
        told += [
            f"line {d.line}: {type(d.event).__name__}",
            f"  was: {json.dumps(d.was)}",
            f"  now: {json.dumps(d.now)}",
        ]
    return told


def _tell(as_json: bool, data: Any, lines: list[str]) -> None:
    typer.echo(json.dumps(data, indent=1) if as_json else "\n".join(lines))
