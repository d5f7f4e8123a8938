"""A row of the book: one scenario, some replications, a measure, an exact answer, and how near it must come.

The estimate is the intercept of a least-squares regression of the replications' measures on their control variates,
centred at their known means (Lavenberg and Welch, Management Science 27(3), 1981): without controls the plain mean.
For jointly normal replications it is unbiased and its error is Student's with R - q - 1 degrees of freedom;
replications are long against the relaxation time, so they are nearly normal, and R is much larger than q. `z` is the
normal deviate of the same tail as that t, `half_width` the 95 % interval's, by Student too: wider than 1.96 standard
errors.

Quantiles are judged by the share of requests above the exact quantile: that share is unbiased in runs of any length.
Divided by the density there it is the quantile's own error (Bahadur, Annals of Mathematical Statistics 37, 1966).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from typing import Literal

import numpy as np
from scipy import stats

from servesim import Scenario, simulate
from tests.theory.controls import Control
from tests.theory.known import KNOWN
from tests.theory.sample import Measure, Sample, density_at, share_above

Kind = Literal["exact", "bound", "ceiling", "approximation", "asymptotic", "variance"]
"""A `bound` lies so far above that it is surely missed, a `ceiling` so near that it is only not surely exceeded. The
error of a `variance` is larger in the replications in which its controls are, which Student's t does not allow for."""


@dataclass(frozen=True)
class Estimate:
    """What the simulation says of a row, and how sure it is: `half_width` is of the 95 % interval, as a part of it."""

    id: str
    exact: float
    value: float
    half_width: float
    z: float


@dataclass(frozen=True)
class Row:
    """What to measure for the row `id`. `scale` turns seconds into the source's unit; `what` names a variant."""

    id: str
    measure: Measure
    controls: tuple[Control, ...] = ()
    tolerance: float = 0.01
    kind: Kind = "exact"
    density: Measure | None = None
    level: float = 0.0
    scale: float = 1.0
    what: str = ""

    @property
    def exact(self) -> float:
        """The known answer."""
        return KNOWN[self.id]

    def estimate(self, measured: list[float], densities: list[float], controls: list[list[float]]) -> Estimate:
        """Return the estimate from the replications."""
        values = self.scale * np.array(measured)
        if self.density is not None:
            values = self.exact + (values - self.level) / float(np.mean(densities))
        return self.against(self.exact, values, controls)

    def against(self, exact: float, values: Sequence[float] | np.ndarray, controls: list[list[float]]) -> Estimate:
        """Return the estimate of a mean that should be `exact`."""
        centred = np.array(controls).reshape(len(values), -1) - [control.mean for control in self.controls]
        value, error = intercept(np.asarray(values), centred, uneven=self.kind == "variance")
        degrees = len(values) - len(self.controls) - 1
        z = _normal((value - exact) / error, degrees) if error else (0.0 if value == exact else np.inf)
        name = f"{self.id} {self.what}".strip()
        return Estimate(name, exact, value, float(stats.t.ppf(0.975, degrees)) * error / abs(exact), z)

    def faults(self, estimate: Estimate) -> Iterator[str]:
        """Yield what is wrong with an estimate."""
        said = f"{estimate.id}: {estimate.value:.6g} +- {estimate.half_width:.2%}, exact {estimate.exact:.6g}"
        off = abs(estimate.value / estimate.exact - 1)
        if self.kind == "bound":
            if not (estimate.value < estimate.exact and estimate.z < -4):
                yield f"{said}: not surely below the bound (z = {estimate.z:.1f})"
        elif self.kind == "ceiling":
            if estimate.z > 4:
                yield f"{said}: above the bound"
        elif self.kind == "asymptotic":
            if off > 0.01:
                yield f"{said}: further than 1 % from the limit"
        elif self.kind == "approximation":
            if off > 0.1 or abs(estimate.z) < 4:
                yield f"{said}: off by {off:.1%}, z = {estimate.z:.1f}: neither near nor different"
        elif abs(estimate.z) > 4:
            yield f"{said}: z = {estimate.z:.2f}"
        if estimate.half_width > self.tolerance:
            yield f"{said}: the interval is wider than {self.tolerance:.0%}"


def intercept(values: np.ndarray, centred: np.ndarray, uneven: bool = False) -> tuple[float, float]:
    """Return the value expected where all `centred` controls, shape (R, q), are 0, and its standard error.

    `uneven`: errors differ from replication to replication (HC3: MacKinnon and White, J. Econometrics 29, 1985).
    """
    design = np.column_stack([np.ones(len(values)), centred])
    scale = np.maximum(np.abs(design).max(axis=0), 1e-300)
    design = design / scale
    coefficients, _, _, _ = np.linalg.lstsq(design, values, rcond=None)
    left = values - design @ coefficients
    inverse = np.linalg.pinv(design.T @ design)
    if uneven:
        leverage = np.einsum("ij,jk,ik->i", design, inverse, design)
        return float(coefficients[0]), float(np.linalg.norm(left / (1 - leverage) * (design @ inverse[0])))
    variance = left @ left / (len(values) - design.shape[1])
    return float(coefficients[0]), sqrt(variance * inverse[0, 0])


def _normal(t: float, degrees: int) -> float:
    """Return the normal deviate with the tail of Student's `t`, computed in the tail so that nothing is lost."""
    tail = stats.t.logsf(abs(t), degrees)
    return float(np.sign(t) * -stats.norm.ppf(np.exp(tail))) if tail > -700 else float(t)


def quantile(id: str, column: str, p: float, *controls: Control, tolerance: float = 0.02) -> Row:
    """Return the row of a quantile."""
    at = KNOWN[id]
    return Row(id, share_above(column, at), controls, tolerance, density=density_at(column, at), level=1 - p)


@dataclass(frozen=True)
class Case:
    """Rows that share their runs. `skip` requests warm up; `quick` cases run in the default suite."""

    name: str
    scenario: Callable[[], Scenario]
    rows: tuple[Row, ...]
    skip: int = 2000
    replications: int = 32
    quick: bool = False
    seed: int | None = field(default=None)

    def seeds(self) -> range:
        """Return the seeds; no two cases share one, or their errors would be alike."""
        first = 100_000 * (zlib.crc32(self.name.encode()) % 10_000) if self.seed is None else self.seed
        return range(first, first + self.replications)

    def run(self) -> tuple[list[Estimate], list[Estimate]]:
        """Return the estimates of the rows and of all controls."""
        scenario = self.scenario()
        controls = list({control.name: control for row in self.rows for control in row.controls}.values())
        table: list[tuple[list[float], list[float], dict[str, float]]] = []
        for seed in self.seeds():
            sample = Sample(simulate(scenario, seed), self.skip)
            measured = [row.measure(sample) for row in self.rows]
            densities = [row.density(sample) if row.density else 0.0 for row in self.rows]
            table.append((measured, densities, {control.name: control.measure(sample) for control in controls}))
        rows = [
            row.estimate(
                [line[0][i] for line in table],
                [line[1][i] for line in table],
                [[line[2][control.name] for control in row.controls] for line in table],
            )
            for i, row in enumerate(self.rows)
        ]
        return rows, [_plain(control, [line[2][control.name] for line in table]) for control in controls]

    def faults(self) -> list[str]:
        """Run, and return everything that is wrong with rows and controls."""
        rows, controls = self.run()
        wrong = [fault for row, estimate in zip(self.rows, rows, strict=True) for fault in row.faults(estimate)]
        return wrong + [f"control {c.id}: {c.value:.6g}, exact {c.exact:.6g}" for c in controls if abs(c.z) > 4]

    def fresh(self, seed: int) -> Case:
        """Return the case under other seeds."""
        return replace(self, seed=seed)


def _plain(control: Control, measured: list[float]) -> Estimate:
    values = np.array(measured)
    error = float(values.std(ddof=1) / sqrt(len(values)))
    off = float(values.mean()) - control.mean
    z = 0.0 if abs(off) <= 1e-9 * abs(control.mean) else _normal(off / error, len(values) - 1) if error else np.inf
    return Estimate(control.name, control.mean, float(values.mean()), 1.96 * error / abs(control.mean), z)
