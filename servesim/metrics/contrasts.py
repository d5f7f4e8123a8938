"""Is b different from a, and by how much? Tests on replications' values, paired or independent. See docs/statistics.md.

Everything is a test of the contrast b - (1 + shift) a: its mean is 0 where b is larger than a by the fraction `shift`.
A shift of 0 asks for any difference, one of the margin whether b is within it. That way the chance in a, too, counts
in what is relative to a (E. C. Fieller, "Some problems in interval estimation", JRSS B 16(2), 1954).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

POWER = 0.8
# By how much more than in proportion a change can differ between replications: near saturation a busy replication feels
# a slowdown about twice as much as a typical one, relative to its own value (delay in M/M/1 is s / (1 - load)).
_AMPLIFICATION = 2.0
_CONFIDENCE_OF_ERROR = 0.8
_ROUNDS = 60


@dataclass(frozen=True, slots=True)
class Contrast:
    """The mean of b - (1 + shift) a, its standard error, and the degrees of freedom of that error's estimate."""

    mean: float
    error: float
    degrees: float

    def p_above(self) -> float:
        """Return the one-sided p-value against "the mean is 0 or less"."""
        from scipy.special import stdtr  # type: ignore[import-untyped]

        if not self.error > 0:  # nothing varies: what there is, is exact
            return 0.0 if self.mean > 0 else 1.0
        return float(stdtr(self.degrees, -self.mean / self.error))

    def p_below(self) -> float:
        """Return the one-sided p-value against "the mean is 0 or more"."""
        return Contrast(-self.mean, self.error, self.degrees).p_above()

    def p_different(self) -> float:
        """Return the two-sided p-value against "the mean is 0"."""
        return min(1.0, 2 * min(self.p_above(), self.p_below()))


@dataclass(frozen=True, slots=True)
class Values:
    """What replications of a and of b found: 2 or more of each, none negative. Paired: the r-th have the same seed."""

    a: Sequence[float]
    b: Sequence[float]
    paired: bool

    @property
    def mean_a(self) -> float:
        """Return the mean of a."""
        return mean(self.a)

    @property
    def mean_b(self) -> float:
        """Return the mean of b."""
        return mean(self.b)

    @property
    def relative(self) -> float | None:
        """Return the change of the mean relative to a's; None relative to 0."""
        return self.mean_b / self.mean_a - 1 if self.mean_a else None

    def contrast(self, shift: float = 0.0) -> Contrast:
        """Return the contrast: Student's on paired differences, else Welch's or Student's, whose error is larger.

        Welch's (Biometrika 34, 1947) trusts each side's own variance, which is too small where a skewed side's mean is
        low by chance; that of the smaller side weighs most. Student's takes it from both, but is too small where the
        larger side varies less.
        """
        factor = 1 + shift
        if self.paired:
            found = [b - factor * a for a, b in zip(self.a, self.b, strict=True)]
            return Contrast(mean(found), math.sqrt(variance(found) / len(found)), len(found) - 1)
        a, b = [factor * value for value in self.a], self.b
        welch, pooled = _welch(a, b), _pooled(a, b)
        return Contrast(mean(b) - mean(a), *(welch if welch[0] > pooled[0] else pooled))

    def p_equal_within(self, margin: float) -> float:
        """Return the p-value against "they differ by the fraction `margin` or more": two one-sided tests.

        D. J. Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15(6), 1987. 1 relative to 0.
        """
        if not self.mean_a:
            return 1.0
        return max(self.contrast(margin).p_below(), self.contrast(-margin).p_above())

    def relative_interval(self, level: float) -> tuple[float, float] | None:
        """Return the interval of `relative` that misses with probability `level`; None relative to 0."""
        relative = self.relative
        if relative is None:
            return None
        found = self.contrast(relative)
        half = quantile(found.degrees, level / 2) * found.error / self.mean_a
        return relative - half, relative + half


def mean(values: Sequence[float]) -> float:
    """Return the mean; the order of the values does not matter."""
    return math.fsum(values) / len(values)


def variance(values: Sequence[float]) -> float:
    """Return the unbiased variance; exactly 0 where all values are equal."""
    if min(values) == max(values):
        return 0.0
    centre = mean(values)
    return math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1)


def _welch(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Return the standard error of mean(b) - mean(a), and its degrees of freedom, from each side's own variance."""
    part_a, part_b = variance(a) / len(a), variance(b) / len(b)
    both = part_a + part_b
    below = part_a**2 / (len(a) - 1) + part_b**2 / (len(b) - 1)
    return math.sqrt(both), both**2 / below if below > 0 else float(len(a) + len(b) - 2)


def _pooled(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Return the same from one variance of both sides."""
    degrees = len(a) + len(b) - 2
    common = ((len(a) - 1) * variance(a) + (len(b) - 1) * variance(b)) / degrees
    return math.sqrt(common * (1 / len(a) + 1 / len(b))), float(degrees)


def quantile(degrees: float, beyond: float) -> float:
    """Return what Student's t exceeds with probability `beyond`."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 1 - beyond))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values adjusted so that the chance of any false finding among all is what each p-value says.

    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6(2), 1979.
    Holds however the metrics depend on each other.
    """
    found: dict[str, float] = {}
    largest = 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p))
        found[name] = largest
    return {name: found[name] for name in p_values}


def smallest_detectable(values: Values, threshold: float, level: float, power: float = POWER) -> float | None:
    """Return the relative change that would be found with probability `power`, or None if there is no such.

    Found is a change whose one-sided p-value is at most `level` and whose size is at least `threshold`. The standard
    error is the upper 80 % confidence limit of the one seen, so that a lucky one does not promise too much (R. H.
    Browne, "On the use of a pilot sample for sample size determination", Statistics in Medicine 14(17), 1995). Added is
    that of a change which replications feel differently, in proportion to their own values and `_AMPLIFICATION` times
    that: a pair that hardly differs does not show it.
    """
    from scipy.special import chdtri

    if not values.mean_a:
        return None
    seen = values.contrast(values.relative or 0.0)
    degrees = seen.degrees
    unlucky = math.sqrt(degrees / float(chdtri(degrees, _CONFIDENCE_OF_ERROR)))
    error = unlucky * seen.error / values.mean_a
    spread = _AMPLIFICATION * math.sqrt(variance(values.a) / len(values.b)) / values.mean_a
    certain, strict = quantile(degrees, 1 - power), quantile(degrees, level)
    found = threshold
    for _ in range(_ROUNDS):
        whole = math.hypot(error, found * spread)
        found = max(threshold + certain * whole, (strict + certain) * whole)
        if not found < 10.0:
            return None
    return found
