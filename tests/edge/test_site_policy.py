"""What a site writes in `policy` and what its guard then holds."""

from __future__ import annotations

import math
from typing import Any

import pytest

from edge.config import CameraConfig, PolicyConfig
from edge.site_policy import policy_from
from inspection.bundle import ClassLimits
from inspection.errors import ConfigError
from inspection.policy import Policy

LIMITS = (ClassLimits(cls="scratch", lo=0.2, hi=0.8, limit_mm=1.5), ClassLimits(cls="pore", lo=0.3, hi=0.7))


def cameras(*optional: bool, fps: float = 30, regions: int = 0) -> list[CameraConfig]:
    parts = [{"name": f"r{k}", "x": 0, "y": 0, "w": 64, "h": 64} for k in range(regions)]
    return [
        CameraConfig.model_validate(
            {"name": f"cam{k}", "type": "folder", "source": "x", "fps": fps, "optional": o, "regions": parts}
        )
        for k, o in enumerate(optional)
    ]


def made(config: dict[str, Any], *eyes: CameraConfig) -> Policy:
    return policy_from(PolicyConfig.model_validate(config), "weld-1.0.0", LIMITS, eyes)


def test_the_stated_rate_is_shared_by_all_classes_and_cameras() -> None:
    wanted = {"test": "cusum", "false_halts_per_8h": 2}
    one = made(wanted, *cameras(False))
    assert [rule.cusum and rule.cusum.h for rule in one.classes] == [pytest.approx(math.log(864_000 * 2 / 2))] * 2
    more = made(wanted, *cameras(False, False, fps=60, regions=3))
    assert more.classes[0].cusum
    assert more.classes[0].cusum.h == pytest.approx(math.log(8 * 3600 * 60 * 6 * 2 / 2))


def test_a_class_may_have_a_rule_of_its_own() -> None:
    policy = made(
        {
            "test": "cusum",
            "cusum": {"thin": 3, "clip": 5},
            "classes": {"pore": {"test": "k_of_n", "k": 2, "n": 3}, "scratch": {"cusum": {"at_once": 0.99}}},
        }
    )
    scratch, pore = policy.classes
    assert (pore.cusum, pore.k, pore.n) == (None, 2, 3)
    assert scratch.cusum
    assert (scratch.cusum.thin, scratch.cusum.clip, scratch.cusum.at_once) == (3, 5, 0.99)


def test_both_rules_may_stand_beside_each_other() -> None:
    policy = made({"test": "both", "k": 3, "n": 5, "classes": {"pore": {"test": "cusum"}}})
    assert [(rule.k, rule.n, rule.beside, rule.cusum is None) for rule in policy.classes] == [
        (3, 5, True, False),
        (3, 5, False, False),
    ]


def test_without_a_word_the_old_rule_stays() -> None:
    policy = made({"k": 2, "n": 3})
    assert [(rule.k, rule.n, rule.cusum, rule.limit_mm) for rule in policy.classes] == [
        (2, 3, None, 1.5),
        (2, 3, None, 0.0),
    ]
    assert (policy.mode, policy.vote, policy.optional, policy.audits_per_h) == ("stream", 1, (), None)


def test_optional_cameras_are_named_by_their_eyes() -> None:
    assert made({}, *cameras(False, True, regions=2)).optional == ("cam1/r0", "cam1/r1")


def test_the_audit_has_a_fifth_of_what_is_sent() -> None:
    assert made({"sent_per_h": 600}).audits_per_h == 120


def test_what_is_novel_is_the_bundles_to_say_unless_the_site_does() -> None:
    def from_(config: dict[str, Any], bundles: float | None) -> float | None:
        return policy_from(PolicyConfig.model_validate(config), "weld-1.0.0", LIMITS, (), bundles).novel_from

    assert [from_({}, 1.7), from_({"novel_from": 2.5}, 1.7), from_({}, None)] == [1.7, 2.5, None]
    assert made({"novel_every_ms": 5}).novel_every_ms == 5


@pytest.mark.parametrize(
    ("config", "eyes", "why"),
    [
        ({}, cameras(True), "every camera is optional"),
        ({"vote": 2}, cameras(False), "2 of 1 cameras"),
        ({"halt_on_defect": False}, [], "halt_on_defect"),
        ({"test": "cusum", "false_halts_per_8h": 1e9}, [], "is no rate"),
        ({"test": "cusum", "cusum": {"clip": 0.01}}, [], "clip"),
        ({"classes": {"scratch": {"release": 0.5}}}, [], "release"),
        ({"classes": {"crack": {}}}, [], "has no class"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused_with_its_key(
    config: dict[str, Any], eyes: list[CameraConfig], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        made(config, *eyes)
