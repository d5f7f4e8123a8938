"""Branch and bound over the configurations, bisection over their size."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from servesim.experiment.planning.bounds import Bound
from servesim.experiment.planning.candidates import Candidate, Pruned
from servesim.experiment.planning.decide import Judgement, Rule
from servesim.experiment.planning.observe import Laboratory, Target, Trial


@dataclass
class Found:
    """The smallest size of a candidate that surely meets the SLO, and what was learnt around it.

    `ties` are smaller sizes of which it could not be told whether they do. `monotone` is False if a larger size was
    seen to do worse than a smaller one.
    """

    candidate: Candidate
    size: int
    judgement: Judgement
    trial: Trial
    ties: list[int] = field(default_factory=list)
    monotone: bool = True

    @property
    def cost(self) -> float:
        """USD per hour, or replicas where there are no prices."""
        return self.size * self.candidate.unit_cost


@dataclass
class Ladder:
    """The sizes of one candidate, each judged once when it is first asked for."""

    laboratory: Laboratory
    candidate: Candidate
    rule: Rule
    targets: tuple[Target, ...]
    judged: dict[int, Judgement] = field(default_factory=dict)
    trials: dict[int, Trial] = field(default_factory=dict)

    def judge(self, size: int) -> Judgement:
        """Return the verdict on so many replicas."""
        if size not in self.judged:
            trial = self.laboratory.trial(self.candidate.of_size(size))
            self.trials[size], self.judged[size] = self.rule.decide_by_long_runs(trial, self.targets)
        return self.judged[size]

    def meets(self, size: int) -> bool:
        """Say whether so many surely meet the SLO."""
        return self.judge(size).verdict == "meets"

    def smallest(self, least: int, most: int) -> Found | None:
        """Return the smallest size from `least` to `most` that meets the SLO, by bisection; None if none does.

        More replicas are never worse under the same load, so the sizes below one that misses need not be looked at.
        Below the answer all sizes up to the first that surely misses are judged too, since those between are ties.
        """
        if most < least or not self.meets(most):
            return None
        low, high = least - 1, most
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.meets(middle) else (middle, high)
        ties, below = [], high - 1
        while below >= least and self.judge(below).verdict != "misses":
            ties.append(below)
            below -= 1
        return Found(self.candidate, high, self.judged[high], self.trials[high], ties)

    def one_more_is_not_worse(self, size: int) -> bool:
        """Say whether the size above one that meets the SLO does not miss it."""
        return self.judge(size + 1).verdict != "misses"


@dataclass
class Search:
    """The outcome of branch and bound: configurations in order of cost, and those that fell, with the reason."""

    found: list[Found] = field(default_factory=list)
    pruned: list[Pruned] = field(default_factory=list)
    ladders: list[Ladder] = field(default_factory=list)

    @property
    def judged(self) -> int:
        """How many decisions were made."""
        return sum(len(ladder.judged) for ladder in self.ladders)

    def best_cost(self, rank: int) -> float:
        """Return the cost of the rank-th cheapest found so far; infinite if there are fewer."""
        return self.found[rank - 1].cost if len(self.found) >= rank else math.inf

    def drop(self, settings: dict[str, Any], rule: str, reason: str) -> None:
        """Note a configuration that fell."""
        self.pruned.append(Pruned(settings, rule, reason))


def decisions(candidates: int, least: int, most: int) -> int:
    """Return how many decisions a search takes at most, ties left out: the error is shared by so many."""
    return max(1, candidates) * (math.ceil(math.log2(most - least + 2)) + 2)


def search(
    laboratory: Laboratory,
    possible: list[tuple[Candidate, Bound]],
    sizes: tuple[int, int],
    targets: tuple[Target, ...],
    rule: Rule,
    rank: int,
) -> Search:
    """Return the `rank` cheapest configurations, cheapest lower bound first.

    A candidate falls without a simulation if a bound says that no size will do, or that every size that might costs
    more than the rank-th cheapest found; and after one decision if the largest size that costs no more misses.
    """
    least, most = sizes
    outcome = Search()
    order = sorted(possible, key=lambda one: (max(one[1].fewest, least) * one[0].unit_cost, one[0].unit_cost))
    for candidate, bound in order:
        fewest = max(bound.fewest, least)
        if fewest > most:
            outcome.drop(candidate.settings, bound.rule, f"{bound.reason}{_beyond(bound, most)}")
            continue
        cutoff = outcome.best_cost(rank)
        unit = candidate.unit_cost
        affordable = most if not unit or math.isinf(cutoff) else min(most, math.floor(cutoff / unit * (1 + 1e-12)))
        if affordable < fewest:
            reason = f"{_count(candidate, int(fewest))}, the fewest that might do, cost more than what was found"
            outcome.drop(candidate.settings, "cost", reason)
            continue
        ladder = Ladder(laboratory, candidate, rule, targets)
        found = ladder.smallest(int(fewest), affordable)
        outcome.ladders.append(ladder)
        if found is None:
            outcome.drop(candidate.settings, *_why_none(ladder, affordable, most))
            continue
        found.trial.observations[found.judgement.replications :] = []
        outcome.found.append(found)
        outcome.found.sort(key=lambda one: (one.cost, one.candidate.unit_cost))
    for late in outcome.found[rank:]:
        if late.cost > outcome.best_cost(rank):
            outcome.drop(late.candidate.settings, "cost", f"{_count(late.candidate, late.size)} are needed")
    outcome.found = [one for one in outcome.found if one.cost <= outcome.best_cost(rank)]
    for one in outcome.found:
        if one.size < most:
            ladder = next(ladder for ladder in outcome.ladders if ladder.candidate is one.candidate)
            one.monotone = ladder.one_more_is_not_worse(one.size)
    return outcome


def _count(candidate: Candidate, size: int) -> str:
    what = candidate.sized_by if size != 1 else candidate.sized_by.removesuffix("s")
    return f"{size} {what}"


def _beyond(bound: Bound, most: int) -> str:
    return "" if math.isinf(bound.fewest) else f"; the space has {most} at most"


def _why_none(ladder: Ladder, affordable: int, most: int) -> tuple[str, str]:
    judgement = ladder.judged[affordable]
    worst = judgement.worst
    asked = worst.target.attainment
    if asked is None:
        got = f"p99 token gap {1e3 * worst.value:.3g} ms, at most {1e3 * (worst.target.itl_s or 0):g} ms are asked for"
    else:
        got = f"{100 * worst.value:.2f} % of {worst.target.name} good, {100 * asked:g} % asked for"
    what = _count(ladder.candidate, affordable)
    limit = "the most the space has" if affordable == most else "the most that cost no more than what was found"
    sure = "miss" if judgement.verdict == "misses" else "cannot be told to meet"
    overloaded = ", overloaded" if judgement.overloaded else ""
    rule = "tie" if judgement.verdict == "tie" else "slo" if affordable == most else "cost"
    return rule, f"{what}, {limit}, {sure} the SLO: {got}{overloaded}"
