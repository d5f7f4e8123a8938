"""Non-negative least squares of the relative error, robust against outliers, with the uncertainty of its estimates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls  # type: ignore[import-untyped]
from scipy.stats import t as student  # type: ignore[import-untyped]

Floats = NDArray[np.float64]

_PASSES = 4
_CAREFUL = 1.5  # medians of the error beyond which a row counts less
_WILD = 20.0  # times that: no measurement of this at all
_NEXT_TO_NOTHING = 1e-6
_CLOSE = 0.005  # but never within this: some kinds of iteration may scatter less than others
_CLUSTERS = 40
_UNTOLD = 0.25  # half a 95 % interval, as a share of the estimate, beyond which an estimate says little
_TIED = 0.9  # correlation of two estimates
_RANK = 1e-7  # singular values below this share of the largest are zero


@dataclass(frozen=True, slots=True)
class Solution:
    """Fitted coefficients, the weight each row had, and which rows counted in full."""

    values: Floats
    weights: Floats
    full: NDArray[np.bool_]


def robust_nnls(design: Floats, seconds: Floats, passes: int = _PASSES) -> Solution:
    """Return coefficients >= 0 of least relative error for `design @ values = seconds`.

    Lawson and Hanson (1974), re-weighted so that rows whose error exceeds 1.5 medians count by its root (Huber, 1964),
    and those beyond 30 medians not at all.
    """
    trust, scale = np.ones(len(seconds)), seconds
    values, weight, full = np.zeros(design.shape[1]), 1.0 / seconds, np.ones(len(seconds), dtype=np.bool_)
    for _ in range(passes):
        weight = trust / scale
        matrix = design * weight[:, None]
        norm = np.sqrt((matrix**2).sum(axis=0))
        norm[norm == 0.0] = 1.0
        both = np.column_stack([matrix / norm, seconds * weight])
        small = np.asarray(np.linalg.qr(both, mode="r"))  # the same squares, few rows
        values = nnls(small[:, :-1], small[:, -1], maxiter=200 * design.shape[1])[0] / norm
        predicted = design @ values
        scale = np.clip(predicted, 0.2 * seconds, 5.0 * seconds)  # errors over measured times would favour short ones
        error = np.abs(seconds - predicted) / scale
        limit = max(_CAREFUL * float(np.median(error)), _CLOSE)
        full = error <= limit
        trust = np.where(full, 1.0, np.sqrt(limit / np.maximum(error, limit)))
        trust[error > _WILD * limit] = _NEXT_TO_NOTHING
    return Solution(values, weight, full)


@dataclass(frozen=True, slots=True)
class Combination:
    """A sum that the data do tell where its parts they do not: the seconds of some terms at their average work.

    `terms` by name, `seconds` of all of them together in an average iteration, `standard_error` of that sum.
    """

    terms: list[str]
    seconds: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """How well a fit's estimates are known.

    `standard_error` by name (infinite where the data leave an estimate open); `half_width_factor` times it is half a
    95 % interval. `condition` of the scaled design. `confounded`: groups of terms that the data cannot tell apart.
    """

    standard_error: dict[str, float]
    half_width_factor: float
    condition: float
    confounded: list[Combination]

    def poor(self, values: dict[str, float]) -> list[str]:
        """Return the names of positive estimates whose 95 % interval is wider than half the estimate to each side."""
        width = self.half_width_factor
        return [name for name, error in self.standard_error.items() if width * error > 0.5 * abs(values[name])]


def uncertainty(names: list[str], design: Floats, seconds: Floats, solution: Solution) -> Uncertainty:
    """Return the uncertainty of a solution: errors of neighbours in time are taken as one.

    Clustered sandwich estimator (Liang and Zeger, 1986) over 40 stretches of time, on the coefficients above 0:
    machines drift, so that rows are far from independent. Its bread is that of Huber's
    estimator: rows that count in full. Terms held at 0 are not among the estimates.
    """
    matrix, target = design * solution.weights[:, None], seconds * solution.weights
    norm = np.sqrt((matrix**2).sum(axis=0))
    used = np.flatnonzero((norm > 0) & ((solution.values > 0) | _free(matrix, norm, solution.values)))
    scaled = matrix[:, used] / norm[used]
    inner = scaled[solution.full]
    _, singular, rows = np.linalg.svd(np.linalg.qr(inner, mode="r") if len(inner) else scaled, full_matrices=False)
    sound = singular > _RANK * singular[0]
    inverse = (rows[sound].T / singular[sound] ** 2) @ rows[sound]
    residual = target - matrix @ solution.values
    clusters = max(2, min(_CLUSTERS, len(seconds) // 5))
    stretch = np.arange(len(seconds)) * clusters // len(seconds)
    scores = np.zeros((clusters, len(used)))
    np.add.at(scores, stretch, scaled * residual[:, None])
    covariance = inverse @ (scores.T @ scores) @ inverse * clusters / (clusters - 1)
    open_ones = (rows[~sound] ** 2).sum(axis=0) > 1e-6
    error = np.where(open_ones, np.inf, np.sqrt(np.diag(covariance)))
    factor = float(student.ppf(0.975, clusters - 1))
    kept = [names[i] for i in used]
    values = solution.values[used] * norm[used]
    groups = _groups(covariance, error, values, factor, rows[~sound])
    mean = design[:, used].mean(axis=0)
    combinations = []
    for group in groups:
        at = mean[group] / norm[used][group]
        together = float((values[group] * at).sum())
        spread = float(np.sqrt(max(at @ covariance[np.ix_(group, group)] @ at, 0.0)))
        combinations.append(Combination([kept[i] for i in group], together, spread))
    condition = float("inf") if not sound.all() else float(singular[0] / singular[-1])
    return Uncertainty(dict(zip(kept, error / norm[used], strict=True)), factor, condition, combinations)


def _free(matrix: Floats, norm: Floats, values: Floats) -> NDArray[np.bool_]:
    """Return which terms at 0 could as well stand in for others: exact combinations of the terms above 0."""
    found = np.zeros(len(values), dtype=np.bool_)
    above = np.flatnonzero(values > 0)
    if len(above):
        basis = np.linalg.qr(matrix[:, above])[0]
        for i in np.flatnonzero((values <= 0) & (norm > 0)):
            rest = matrix[:, i] - basis @ (basis.T @ matrix[:, i])
            found[i] = float(np.linalg.norm(rest)) < 1e-5 * norm[i]
    return found


def _groups(covariance: Floats, error: Floats, values: Floats, factor: float, null: Floats) -> list[list[int]]:
    """Return sets of estimates that are poorly known one by one because they can stand in for each other."""
    count = len(error)
    poor = ~(factor * error <= _UNTOLD * np.abs(values))
    spread = np.sqrt(np.maximum(np.diag(covariance), 1e-300))
    tied = np.abs(covariance / np.outer(spread, spread)) > _TIED
    for vector in null:
        part = np.abs(vector) > 1e-3
        tied |= np.outer(part, part)
    left, groups = {i for i in range(count) if poor[i]}, []
    while left:
        group, found = [], [min(left)]
        while found:
            one = found.pop()
            if one in left:
                left.discard(one)
                group.append(one)
                found += [j for j in left if tied[one, j]]
        if len(group) > 1:
            groups.append(sorted(group))
    return groups
