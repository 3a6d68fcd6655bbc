"""The ambiguous size band: between which sizes people disagree, and whether it is the rule or the eye.

Each person's calls follow logit P(defect | s) = (ln s - mu) / sigma, as in a hit/miss analysis (ASTM E2862,
MIL-HDBK-1823A): e^mu is the size they call a defect half of the time, sigma how slowly doubt gives way. Unequal mu:
people follow *different rules*, so the label book must be rewritten. A large sigma: a *noisy eye*, so train it, or
take better pictures. Fitted with Firth's penalty, since a careful person separates perfectly and has no maximum.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from inspection.agreement import Estimate, part_weights

Floats = NDArray[np.float64]

MIN_PARTS = 30
MIN_OF_EACH = 5
"""So many calls of each kind a person must have made: a curve needs both its ends."""
MAX_THRESHOLD_RATIO = 2.0
"""A threshold known no better than within a factor of two is no ground to change a rule on."""
NOISY_RATIO = 3.0
"""An eye is noisy when the size it nearly always calls is thrice the one it nearly never calls (sigma 0.25)."""
BAND = (0.1, 0.9)
LOGIT_90 = math.log(9)
_STEPS = 60


@dataclass(frozen=True, slots=True)
class Call:
    """One blind decision about one defect, and the size measured of it."""

    person: str
    part: str
    size_mm: float
    defect: bool


@dataclass(frozen=True, slots=True)
class Costs:
    """Of one label that a new limit turns over: a defect that becomes good, a good one that becomes a defect."""

    to_good: float = 1.0
    to_defect: float = 1.0


@dataclass(frozen=True, slots=True)
class PersonCurve:
    """`threshold_mm` = e^mu; `band_ratio`: the size called 9 times of 10 against that called once."""

    person: str
    calls: int
    mu: float
    sigma: float
    threshold_mm: Estimate
    band_ratio: Estimate

    def chance(self, size_mm: float) -> float:
        return _chance((math.log(size_mm) - self.mu) / self.sigma)


@dataclass(frozen=True, slots=True)
class SizeBand:
    """`low_mm` and `high_mm`: between them the pooled chance of a defect is 0.1 to 0.9; `a90_95_mm` is the upper 95 %
    bound of `high_mm` (a90/95). `proposed_mm` minimises the expected cost of labels that a new limit turns over;
    `turned_over` is how many of the calls that would be. `same_rule_p`: of people sharing one threshold."""

    parts: int
    calls: int
    people: tuple[PersonCurve, ...]
    threshold_mm: Estimate
    low_mm: Estimate
    high_mm: Estimate
    a90_95_mm: float
    proposed_mm: Estimate
    turned_over: float
    same_rule_p: float
    different_rules: bool
    sizes_mm: tuple[float, float]

    @property
    def noisy(self) -> tuple[str, ...]:
        """Whose eye is noisy beyond doubt: the whole interval is."""
        return tuple(p.person for p in self.people if p.band_ratio.low > NOISY_RATIO)

    def chance(self, size_mm: float) -> float:
        """Pooled: of a person drawn at random."""
        return sum(p.chance(size_mm) for p in self.people) / len(self.people)


@dataclass(frozen=True, slots=True)
class NotEnough:
    """No band is drawn, and why; `parts` were called by two people or more."""

    parts: int
    why: str


def size_band(
    calls: Sequence[Call], costs: Costs | None = None, draws: int = 1000, seed: int = 0
) -> SizeBand | NotEnough:
    """From the calls of those parts that two people or more judged. Intervals: percentile bootstrap over parts."""
    shared = _shared(calls)
    parts = len({c.part for c in shared})
    if refused := _too_little(shared, parts):
        return NotEnough(parts, refused)
    people = sorted({c.person for c in shared})
    names = sorted({c.part for c in shared})
    of_part = part_weights(names, draws, seed)
    fits = [_fit_person([c for c in shared if c.person == p], names, of_part) for p in people]
    for person, (_, slope) in zip(people, fits, strict=True):
        if not np.nanquantile(slope, 0.025) > 0:
            return NotEnough(parts, f"the calls of {person} do not follow the size")
    curves = _Curves(np.stack([-b0 / b1 for b0, b1 in fits], 1), np.stack([1 / b1 for _, b1 in fits], 1))
    curves.narrow_tail({c.part: c.size_mm for c in shared})
    threshold = curves.size_at(0.5)
    if not threshold.high < MAX_THRESHOLD_RATIO * threshold.low:
        return NotEnough(
            parts,
            f"the threshold may lie anywhere from {threshold.low:.2g} to {threshold.high:.2g} mm: label more there",
        )
    return _band(shared, people, curves, costs or Costs())


def turned_over(band: SizeBand, calls: Sequence[Call], limit_mm: float) -> float:
    """How many of the calls a limit is expected to turn over, by the pooled curve."""
    chances = [(c.size_mm < limit_mm, band.chance(c.size_mm)) for c in calls]
    return sum(p if below else 1 - p for below, p in chances)


def firth(x: Floats, y: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Intercepts and slopes (draws,) of logistic regressions on one variable with Jeffreys' prior as penalty.

    Newton's method on the modified score sum (w (y - p) + h (1/2 - p)) x (D. Firth, 1993; G. Heinze, M. Schemper,
    2002); `weights` (draws, calls) say how often each call counts. NaN where a draw has no information left.
    """
    b0, b1 = np.zeros(len(weights)), np.zeros(len(weights))
    if len(weights) > 1:  # every draw starts at the answer of the first row, which is near its own
        first0, first1 = firth(x, y, weights[:1])
        b0, b1 = b0 + first0, b1 + first1
    with np.errstate(all="ignore"):
        for _ in range(_STEPS):
            p = _chances(b0[:, None] + b1[:, None] * x)
            v = weights * p * (1 - p)
            i00, i01, i11 = v.sum(1), v @ x, v @ (x * x)
            det = i00 * i11 - i01**2
            h = v * (i11[:, None] - 2 * x * i01[:, None] + x * x * i00[:, None]) / det[:, None]
            score = weights * (y - p) + h * (0.5 - p)
            u0, u1 = score.sum(1), score @ x
            d0, d1 = (i11 * u0 - i01 * u1) / det, (i00 * u1 - i01 * u0) / det
            shrink = np.minimum(1, 1.5 / np.maximum(np.abs(d0), np.abs(d1)))
            b0, b1 = b0 + shrink * d0, b1 + shrink * d1
            if not (np.maximum(np.abs(d0), np.abs(d1)) > 1e-6).any():
                break
    return b0, b1


def same_threshold_p(of_people: Sequence[tuple[Floats, Floats]]) -> float:
    """p of the likelihood-ratio test that all (ln sizes, calls) share one mu, each keeping its own sigma.

    Twice the loss of penalised log-likelihood, maximised without and with the constraint, against chi-square with
    people - 1 degrees of freedom (Heinze and Schemper 2002, section 3).
    """
    fits = []
    for x, y in of_people:
        b0, b1 = firth(x, y, np.ones((1, len(x))))
        fits.append((float(b0[0]), float(b1[0])))
    free = sum(_penalised(x, y, b0, b1) for (x, y), (b0, b1) in zip(of_people, fits, strict=True))

    def shared(mu: float) -> float:
        return sum(_highest_at(mu, x, y, slope) for (x, y), (_, slope) in zip(of_people, fits, strict=True))

    mus = [-b0 / b1 for b0, b1 in fits]
    return chi_square_tail(max(0.0, 2 * (free - _highest(shared, min(mus), max(mus)))), len(fits) - 1)


def chi_square_tail(x: float, df: int) -> float:
    """P(X > x): Q(df/2, x/2) by the recurrence Q(a + 1, z) = Q(a, z) + z^a e^-z / Gamma(a + 1) (DLMF 8.8.6)."""
    z, a = x / 2, 0.5 if df % 2 else 1.0
    q = math.erfc(math.sqrt(z)) if df % 2 else math.exp(-z)
    while a < df / 2:
        q += z**a * math.exp(-z) / math.gamma(a + 1)
        a += 1
    return q


def _shared(calls: Sequence[Call]) -> list[Call]:
    people: dict[str, set[str]] = {}
    for c in calls:
        people.setdefault(c.part, set()).add(c.person)
    return [c for c in calls if c.size_mm > 0 and len(people[c.part]) >= 2]


def _too_little(calls: Sequence[Call], parts: int) -> str:
    """Why no curve can be fitted; empty when one can."""
    if parts < MIN_PARTS:
        return f"too few double labels with a measured size (n={parts}, at least {MIN_PARTS})"
    kinds = Counter((c.person, c.defect) for c in calls)
    for person in sorted({c.person for c in calls}):
        for defect, word in ((True, "a defect"), (False, "good")):
            if kinds[person, defect] < MIN_OF_EACH:
                return f"{person} called only {kinds[person, defect]} of them {word}, at least {MIN_OF_EACH} are needed"
    return ""


def _fit_person(calls: Sequence[Call], names: Sequence[str], of_part: Floats) -> tuple[Floats, Floats]:
    """Intercepts and slopes over ln size, first of the calls as they are, then of each draw of parts."""
    index = {name: n for n, name in enumerate(names)}
    x, y = _arrays(calls)
    centre, scale = float(x.mean()), float(x.std()) or 1.0
    b0, b1 = firth((x - centre) / scale, y, of_part[:, [index[c.part] for c in calls]])
    return b0 - b1 * centre / scale, b1 / scale


@dataclass(slots=True)
class _Curves:
    """(1 + draws, people) mu and sigma, the first row of the data themselves, and how far an interval reaches."""

    mus: Floats
    sigmas: Floats
    tail: float = 0.025

    def narrow_tail(self, size_mm_of: Mapping[str, float]) -> None:
        """Only parts inside the band inform the curves, and a percentile interval of few is too short: expanded as
        Phi(-sqrt(n / (n - 1)) t) (T. Hesterberg, The American Statistician 69, 2015, 5.3), t by Cornish and Fisher."""
        low, high = (math.exp(self.ln_size_at(share)[0]) for share in BAND)
        n, z = max(5, sum(low <= size <= high for size in size_mm_of.values())), 1.959964
        t = z + (z**3 + z) / (4 * (n - 1))
        self.tail = NormalDist().cdf(-math.sqrt(n / (n - 1)) * t)

    def interval(self, values: Floats) -> Estimate:
        low, high = np.nanquantile(values[1:], [self.tail, 1 - self.tail])
        return Estimate(float(values[0]), float(low), float(high))

    def ln_size_at(self, chance: float) -> Floats:
        """Where the pooled chance is `chance`, per draw, by bisection: each curve rises."""
        each = self.mus + self.sigmas * math.log(chance / (1 - chance))
        low, high = each.min(1), each.max(1)
        for _ in range(40):
            middle = (low + high) / 2
            below = _chances((middle[:, None] - self.mus) / self.sigmas).mean(1) < chance
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        out: Floats = (low + high) / 2
        return out

    def size_at(self, chance: float) -> Estimate:
        return self.interval(np.exp(self.ln_size_at(chance)))

    def person(self, j: int, name: str, calls: int) -> PersonCurve:
        mu, sigma = self.mus[:, j], self.sigmas[:, j]
        ratio = self.interval(np.exp(np.minimum(2 * LOGIT_90 * sigma, 20)))
        return PersonCurve(name, calls, float(mu[0]), float(sigma[0]), self.interval(np.exp(mu)), ratio)

    def apart(self) -> bool:
        """The lowest and the highest threshold differ in the draws too: trials of one part are no two proofs."""
        low, high = int(self.mus[0].argmin()), int(self.mus[0].argmax())
        return bool(np.nanquantile(self.mus[1:, high] - self.mus[1:, low], self.tail) > 0)


def _band(calls: Sequence[Call], people: Sequence[str], curves: _Curves, costs: Costs) -> SizeBand:
    p = same_threshold_p([_arrays([c for c in calls if c.person == person]) for person in people])
    made = Counter(c.person for c in calls)
    band = SizeBand(
        parts=len({c.part for c in calls}),
        calls=len(calls),
        people=tuple(curves.person(j, person, made[person]) for j, person in enumerate(people)),
        threshold_mm=curves.size_at(0.5),
        low_mm=curves.size_at(BAND[0]),
        high_mm=curves.size_at(BAND[1]),
        a90_95_mm=float(np.exp(np.nanquantile(curves.ln_size_at(BAND[1])[1:], 0.95))),
        # Moving the limit up past a part saves (1 - P) to_defect and costs P to_good: stop where they are equal.
        proposed_mm=curves.size_at(costs.to_defect / (costs.to_defect + costs.to_good)),
        turned_over=0.0,
        same_rule_p=p,
        different_rules=p < 0.05 and curves.apart(),
        sizes_mm=(min(c.size_mm for c in calls), max(c.size_mm for c in calls)),
    )
    return replace(band, turned_over=turned_over(band, calls, band.proposed_mm.value))


def _arrays(calls: Sequence[Call]) -> tuple[Floats, Floats]:
    return np.log([c.size_mm for c in calls]), np.array([float(c.defect) for c in calls])


def _penalised(x: Floats, y: Floats, b0: float, b1: float) -> float:
    """Log-likelihood + half the log determinant of the information."""
    eta = b0 + b1 * x
    p = _chances(eta)
    v = p * (1 - p)
    det = float(v.sum() * (v @ (x * x)) - (v @ x) ** 2)
    return float(y @ eta - np.logaddexp(0, eta).sum()) + 0.5 * math.log(max(det, 1e-300))


def _highest_at(mu: float, x: Floats, y: Floats, slope: float) -> float:
    """The penalised log-likelihood of one person whose threshold is e^mu, at the best slope near `slope`."""
    near = math.log(max(slope, 1e-6))
    return _highest(lambda t: _penalised(x, y, -mu * math.exp(t), math.exp(t)), near - 3, near + 3)


def _highest(f: Callable[[float], float], low: float, high: float) -> float:
    """The maximum of a function with one peak, by golden section, to 2e-4 of the range: flat enough up there."""
    golden = (math.sqrt(5) - 1) / 2
    a, b = high - golden * (high - low), low + golden * (high - low)
    fa, fb = f(a), f(b)
    for _ in range(18):
        if fa < fb:
            low, a, fa = a, b, fb
            b = low + golden * (high - low)
            fb = f(b)
        else:
            high, b, fb = b, a, fa
            a = high - golden * (high - low)
            fa = f(a)
    return max(fa, fb)


def _chances(eta: Floats) -> Floats:
    out: Floats = 0.5 * (1 + np.tanh(eta / 2))
    return out


def _chance(eta: float) -> float:
    return 0.5 * (1 + math.tanh(eta / 2))
