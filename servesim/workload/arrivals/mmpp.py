"""Markov-modulated Poisson arrivals."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, Strict, model_validator

from servesim.registry import register
from servesim.workload.base import BLOCK_REQUESTS, FloatArray, IntArray, TimedArrivals

StateRate = Annotated[float, Field(ge=0, le=1e9)]
Stay = Annotated[float, Field(ge=1e-6, le=1e9)]
Transition = Annotated[float, Field(ge=-1e9, le=1e9)]
Row = Annotated[tuple[Transition, ...], Strict(False)]
_MAX_STATES = 100
_BLOCK_STAYS = 256


@register("arrivals")
class MmppArrivals(TimedArrivals):
    """A Poisson process whose rate is `rates_rps[i]` while a hidden Markov chain is in state i (MMPP).

    The chain is given by `generator` (row i: rates per second of going from i to the others, and on the diagonal minus
    their sum) or by `mean_stays_s`, exponential stays in the states, one after the other and round again. It starts
    in its stationary distribution, or in `start_state`. Two states of rates l1, l2 with rates of change r12, r21 have
    the mean rate (l1 r21 + l2 r12)/(r12 + r21) and, for long windows, the index of dispersion
    1 + 2 (l1 - l2)^2 r12 r21 / ((r12 + r21)^2 (l1 r21 + l2 r12)).
    Source: Fischer and Meier-Hellstern, "The Markov-modulated Poisson process (MMPP) cookbook", Performance
    Evaluation 18 (1993).
    """

    kind: Literal["mmpp"] = "mmpp"
    rates_rps: Annotated[
        tuple[StateRate, ...],
        Strict(False),
        Field(min_length=2, max_length=_MAX_STATES, description="Mean requests/s in each state."),
    ]
    mean_stays_s: Annotated[tuple[Stay, ...], Strict(False)] | None = Field(
        None, description="Mean seconds in each state, in turn; instead of generator."
    )
    generator: Annotated[tuple[Row, ...], Strict(False)] | None = Field(
        None, description="Rates of change per second, a row for each state."
    )
    start_state: int | None = Field(None, ge=0, description="State at time 0, counted from 0; null: stationary.")

    @model_validator(mode="after")
    def _is_a_chain(self) -> Self:
        states = len(self.rates_rps)
        if (self.mean_stays_s is None) == (self.generator is None):
            raise ValueError("give either mean_stays_s or generator")
        if not any(self.rates_rps):
            raise ValueError("rates_rps: at least one must be above 0")
        if self.start_state is not None and self.start_state >= states:
            raise ValueError(f"start_state: there are states 0 to {states - 1}")
        if self.mean_stays_s is not None and len(self.mean_stays_s) != states:
            raise ValueError(f"mean_stays_s: expected one for each of the {states} rates")
        if self.generator is not None:
            _refuse_no_generator(self.generator, states)
        return self

    @property
    def is_stationary(self) -> bool:
        """Unless it starts in a given state."""
        return self.start_state is None

    def times(self, rng: np.random.Generator) -> Iterator[FloatArray]:
        """Yield the arrival times; the chain and the arrivals draw from streams of their own."""
        chain_rng, arrivals_rng = rng.spawn(2)
        rates = np.array(self.rates_rps)
        ahead = _Expected(arrivals_rng)
        start_s = 0.0
        for state, stay_s in self._path(chain_rng):
            ends_s = start_s + np.cumsum(stay_s)
            edges_s = np.concatenate(([start_s], ends_s))
            rate = rates[state]
            expected = np.concatenate(([0.0], np.cumsum(rate * stay_s)))
            for mass in ahead.below(float(expected[-1])):
                stay = np.minimum(np.searchsorted(expected, mass, side="right") - 1, len(state) - 1)
                times_s = edges_s[stay] + (mass - expected[stay]) / rate[stay]
                yield np.maximum.accumulate(np.minimum(times_s, edges_s[stay + 1]))
            start_s = float(ends_s[-1])

    def stationary_shares(self) -> FloatArray:
        """Return the fraction of time in each state, shape (states,)."""
        if self.mean_stays_s is not None:
            total_s = sum(self.mean_stays_s)
            return np.array([stay_s / total_s for stay_s in self.mean_stays_s])
        # Gauss without subtraction (Grassmann, Taksar, Heyman 1985): no digits are lost, no linear algebra library.
        rates = [list(row) for row in self.generator or ()]
        for last in range(len(rates) - 1, 0, -1):
            out = sum(rates[last][:last])
            for row in rates[:last]:
                row[last] /= out
                for column in range(last):
                    row[column] += row[last] * rates[last][column]
        weights = [1.0]
        for state in range(1, len(rates)):
            weights.append(sum(weights[before] * rates[before][state] for before in range(state)))
        return np.array([weight / sum(weights) for weight in weights])

    def _path(self, rng: np.random.Generator) -> Iterator[tuple[IntArray, FloatArray]]:
        """Yield the states in order of time and the seconds spent in each, both of shape (n,)."""
        states = len(self.rates_rps)
        if self.generator is None:
            stays_s = list(self.mean_stays_s or ())
            jumps = [[float(after == (state + 1) % states) for after in range(states)] for state in range(states)]
        else:
            stays_s = [-1.0 / row[state] for state, row in enumerate(self.generator)]
            jumps = [[max(rate, 0.0) for rate in row] for row in self.generator]
        ladders = [list(accumulate(row)) for row in jumps]
        first = list(accumulate(self.stationary_shares().tolist()))
        state = _pick(first, rng.random()) if self.start_state is None else self.start_state
        means_s = np.array(stays_s)
        while True:
            path = []
            for uniform in rng.random(_BLOCK_STAYS).tolist():
                path.append(state)
                state = _pick(ladders[state], uniform)
            visited = np.array(path)
            yield visited, rng.standard_exponential(_BLOCK_STAYS) * means_s[visited]


class _Expected:
    """The arrivals of a Poisson process of rate 1, taken up to any point."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._ahead = np.empty(0)

    def below(self, total: float) -> Iterator[FloatArray]:
        """Yield, in non-empty blocks, the arrivals before `total`, which then becomes the new 0."""
        while True:
            inside = int(np.searchsorted(self._ahead, total))
            if inside:
                yield self._ahead[:inside]
            if inside < len(self._ahead):
                self._ahead = self._ahead[inside:] - total
                return
            gaps = self._rng.standard_exponential(BLOCK_REQUESTS)
            gaps[0] += self._ahead[-1] if inside else 0.0
            self._ahead = np.cumsum(gaps)


def _pick(ladder: list[float], uniform: float) -> int:
    """Return the index that `uniform` in [0, 1) falls on, given running sums of weights."""
    return min(bisect_right(ladder, uniform * ladder[-1]), len(ladder) - 1)


def _refuse_no_generator(generator: tuple[Row, ...], states: int) -> None:
    """Raise ValueError unless every state is left and reached, and every row sums to zero."""
    if len(generator) != states:
        raise ValueError(f"generator: expected {states} rows, one for each rate, got {len(generator)}")
    for number, row in enumerate(generator):
        if len(row) != states:
            raise ValueError(f"generator.{number}: expected {states} entries, got {len(row)}")
        if any(rate < 0 for after, rate in enumerate(row) if after != number):
            raise ValueError(f"generator.{number}: only the diagonal may be negative")
        if abs(sum(row)) > 1e-9 * max(map(abs, row)):
            raise ValueError(f"generator.{number}: the row must sum to 0, not {sum(row):g}")
    for links in (generator, tuple(zip(*generator, strict=True))):
        reached, new = {0}, [0]
        while new:
            here = new.pop()
            found = {state for state, rate in enumerate(links[here]) if rate > 0} - reached
            reached |= found
            new += found
        if len(reached) < states:
            lost = next(state for state in range(states) if state not in reached)
            raise ValueError(f"generator: not every state can be reached from every other (0 and {lost})")
