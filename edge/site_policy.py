"""From the bundle's limits and the site's wishes to the policy the guard holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge.config import CameraConfig, ClassOverride, PolicyConfig
from inspection.bundle import ClassLimits, Manifest
from inspection.errors import ConfigError
from inspection.evidence import Cusum, level_for
from inspection.policy import ClassPolicy, Policy
from inspection.selection import AUDIT, SHARES

FPS = 30.0
"""Assumed where no camera is named, as in a model's evaluation."""


def policy_for(config: PolicyConfig, manifest: Manifest, cameras: Sequence[CameraConfig] = ()) -> Policy:
    """The bundle's limits under the site's overrides. ConfigError when a class is unknown or an order impossible."""
    novel_from = manifest.novelty.threshold if manifest.novelty else None
    return policy_from(config, manifest.id, manifest.limits, cameras, novel_from)


def policy_from(
    config: PolicyConfig,
    bundle: str,
    limits: Sequence[ClassLimits],
    cameras: Sequence[CameraConfig] = (),
    novel_from: float | None = None,
) -> Policy:
    """As `policy_for`; `novel_from` is the bundle's threshold, None where it has no novelty."""
    names = [m.cls for m in limits]
    if stray := set(config.classes) - set(names):
        raise ConfigError("policy.classes", f"{bundle} has no class {sorted(stray)}", f"it knows {', '.join(names)}")
    eyes = [eye for camera in cameras for eye in camera.eyes]
    optional = tuple(eye for camera in cameras if camera.optional for eye in camera.eyes)
    if eyes and len(optional) == len(eyes):
        raise ConfigError("cameras", "every camera is optional", "the line needs at least one that must see")
    if eyes and config.vote > len(eyes):
        raise ConfigError("policy.vote", f"{config.vote} of {len(eyes)} cameras", f"at most {len(eyes)}")
    fps = max((camera.fps for camera in cameras), default=FPS)
    streams = max(1, len(eyes)) * len(names)
    rules = tuple(_rule(config, m, fps, streams) for m in limits)
    own = {"k", "n", "test", "false_halts_per_8h", "cusum", "classes", "sent_per_h", "novel_from"}
    audits_per_h = SHARES[AUDIT] * config.sent_per_h if config.sent_per_h else None
    rest: dict[str, Any] = {"audits_per_h": audits_per_h, **config.model_dump(exclude=own)}
    rest["novel_from"] = novel_from if config.novel_from is None else config.novel_from
    try:
        return Policy(classes=rules, optional=optional, **rest)
    except ValueError as e:
        raise ConfigError("policy", str(e), "see docs/guard.md") from e


def _rule(config: PolicyConfig, m: ClassLimits, fps: float, streams: int) -> ClassPolicy:
    override = config.classes.get(m.cls) or ClassOverride()
    rule: dict[str, Any] = {"cls": m.cls, "lo": m.lo, "hi": m.hi, "limit_mm": m.limit_mm, "k": config.k, "n": config.n}
    rule |= override.model_dump(exclude_none=True, exclude={"test", "cusum"})
    try:
        test = override.test or config.test
        if test != "k_of_n":
            rule["beside"] = test == "both"
            wanted = config.cusum.model_dump(exclude_unset=True)
            wanted |= override.cusum.model_dump(exclude_unset=True) if override.cusum else {}
            rule["cusum"] = Cusum(h=level_for(config.false_halts_per_8h, fps, streams), **wanted)
        return ClassPolicy(**rule)
    except ValueError as e:
        raise ConfigError(f"policy.classes.{m.cls}", str(e), "limits must be 0 <= lo <= hi <= 1, k <= n") from e
