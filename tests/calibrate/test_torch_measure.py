"""Measuring without a device: when a median is stable, what running out of memory means, budgets and resuming."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from servesim.calibrate.torch_measure import (
    Campaign,
    Measured,
    OutOfMemory,
    Repeats,
    is_stable,
    median_interval,
    repeat_scatter,
    repeat_until_stable,
)
from servesim.calibrate.torch_points import BatchPoint, IterationPoint, Limits, batch_points, iteration_points
from servesim.calibrate.torch_store import RawPoints, limit_of
from servesim.errors import InputError

LIMITS = Limits(max_num_seqs=32, max_context=2048, max_prefill_tokens=1024, kv_tokens=40_000)
QUICK = Repeats(warm_up=1, least=6, most=30, max_s=1e9)


class Clock:
    """A time that passes only when told."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Machine:
    """A made-up device: a batch of n takes n + 5 ms with scatter, and does not fit beyond `most`."""

    def __init__(self, clock: Clock, most: int = 10**9, scatter: float = 0.005, seed: int = 0) -> None:
        self.clock, self.most, self.scatter = clock, most, scatter
        self.rng = np.random.default_rng(seed)
        self.tried: list[int] = []

    def prepare(self, point: BatchPoint) -> Callable[[], float]:
        self.tried.append(point.batch_size)
        if point.batch_size > self.most:
            raise OutOfMemory

        def run() -> float:
            seconds = 1e-3 * (point.batch_size + 5) * float(np.exp(self.rng.normal(0, self.scatter)))
            self.clock.now_s += seconds
            return seconds

        return run

    def state(self) -> dict[str, float]:
        return {"sm_clock_mhz": 1980.0}


def larger(a: BatchPoint, b: BatchPoint) -> bool:
    return b.batch_size >= a.batch_size


def campaign(
    machine: Machine,
    points: list[BatchPoint],
    keep: Callable[[Measured[BatchPoint]], None] = lambda one: None,
    budget_s: float = 1e9,
    done: list[Measured[BatchPoint]] | None = None,
) -> Campaign[BatchPoint]:
    return Campaign(machine, points, QUICK, keep, budget_s, larger, done or [], now=machine.clock)


def test_the_interval_covers_the_median_as_often_as_it_says() -> None:
    """95 % of at least: discrete, so more; of 2,000 intervals less than 93.5 % would be 3 standard errors below."""
    rng = np.random.default_rng(1)
    for n in (7, 20, 60):
        hits = [
            low <= 1.0 <= high
            for low, _, high in (median_interval(rng.exponential(1 / np.log(2), n)) for _ in range(2000))
        ]
        assert np.mean(hits) > 0.935, n


def test_a_quiet_point_stops_early_and_a_noisy_one_goes_on() -> None:
    rng = np.random.default_rng(0)
    quiet, stable = repeat_until_stable(lambda: 1.0 + 0.001 * rng.random(), Repeats(max_s=1e9))
    assert (len(quiet), stable) == (7, True)
    noisy, stable = repeat_until_stable(lambda: float(np.exp(rng.normal(0, 0.1))), Repeats(most=400, max_s=1e9))
    assert len(noisy) > 50
    assert not stable or is_stable(noisy, 0.02)


def test_a_few_wild_runs_do_not_hold_a_point_up() -> None:
    runs = iter([1.0, 1.0, 9.0] + [1.0, 1.001, 0.999, 1.0, 7.0, 1.0, 1.0, 1.001, 1.0, 0.999, 1.0, 1.0, 1.0, 1.0] * 9)
    samples, stable = repeat_until_stable(lambda: next(runs), Repeats(max_s=1e9))
    assert stable
    assert len(samples) < 30
    assert np.median(samples) == pytest.approx(1.0, abs=0.002)


def test_a_slow_point_ends_by_its_time() -> None:
    clock, rng = Clock(), np.random.default_rng(0)

    def run() -> float:
        clock.now_s += 1.0
        return float(rng.uniform(0.5, 1.5))

    samples, stable = repeat_until_stable(run, Repeats(max_s=10.0), clock)
    assert len(samples) <= 10
    assert not stable


def test_running_out_of_memory_is_an_answer_and_nothing_larger_is_tried() -> None:
    machine = Machine(Clock(), most=20)
    found, left = campaign(machine, [BatchPoint(n) for n in (4, 64, 8, 32, 96, 16, 128)]).run()
    assert left == 0
    assert limit_of(found) == 16
    assert [one.point.batch_size for one in found if not one.fits] == [64, 32]
    assert {96, 128}.isdisjoint(machine.tried)


def test_no_limit_is_claimed_where_everything_fits() -> None:
    found, _ = campaign(Machine(Clock()), [BatchPoint(1), BatchPoint(2)]).run()
    assert limit_of(found) is None


def test_the_budget_ends_a_campaign_and_says_what_is_left() -> None:
    machine = Machine(Clock())
    found, left = campaign(machine, batch_points(256, 0), budget_s=1.0).run()
    assert left > 0
    assert len({one.point for one in found}) + left == len(batch_points(256, 0))
    assert machine.clock.now_s < 1.0 + 31 * 0.3


def test_a_resumed_campaign_measures_only_what_is_missing(tmp_path: Path) -> None:
    points, identity = batch_points(64, 0), {"model": "made up", "seed": 0}
    store = RawPoints(tmp_path / "raw.csv", BatchPoint, identity)
    store.start()
    campaign(Machine(Clock()), points, store.add, budget_s=0.3).run()
    with store.path.open("a") as file:
        file.write("12,0.00")  # killed in the middle of a line
    done = RawPoints(store.path, BatchPoint, identity).read()
    assert 0 < len({one.point for one in done}) < len(points)
    machine = Machine(Clock(), seed=1)
    found, left = campaign(machine, points, store.add, done=done).run()
    assert left == 0
    assert {one.point for one in found} == set(points)
    first_visits = [one.point for one in found if one.visit == 0]
    assert len(first_visits) == len(set(first_visits))
    again = store.read()
    assert [(o.point, o.seconds, o.visit) for o in again] == [(o.point, o.seconds, o.visit) for o in found]


def test_points_of_another_campaign_are_refused_by_what_differs(tmp_path: Path) -> None:
    store = RawPoints(tmp_path / "raw.csv", BatchPoint, {"model": "a", "dtype": "bf16"})
    store.start()
    with pytest.raises(InputError, match=r"raw.csv:1: .*dtype 'bf16' there, 'fp8' asked for"):
        RawPoints(store.path, BatchPoint, {"model": "a", "dtype": "fp8"}).read()
    store.path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="is not a file of raw points"):
        store.read()
    with pytest.raises(InputError, match="nothing to resume"):
        RawPoints(tmp_path / "none.csv", BatchPoint, {}).read()


def test_a_spoiled_point_is_named_by_its_line(tmp_path: Path) -> None:
    store = RawPoints(tmp_path / "raw.csv", BatchPoint, {})
    store.start()
    store.add(Measured(BatchPoint(1), 0.5, runs=3))
    store.path.write_text(store.path.read_text().replace("0.5", "half"))
    with pytest.raises(InputError, match=r"raw.csv:3: is not a raw point"):
        store.read()


def test_repeated_visits_show_the_scatter_between_them() -> None:
    """The machine's own drift of 5 % between visits is found; 0.2 to 5 times would be chance at 1 in 1,000."""
    rng = np.random.default_rng(3)
    found = [
        Measured(BatchPoint(n), n * float(np.exp(rng.normal(0, 0.05))), visit=v) for n in (1, 2, 3) for v in range(8)
    ]
    scatter, visits = repeat_scatter(found)
    assert visits == 24
    assert scatter == pytest.approx(0.05, rel=0.5)
    assert math.isnan(repeat_scatter(found[:1])[0])


def test_controls_are_visited_again_and_not_fitted_twice() -> None:
    found, _ = campaign(Machine(Clock()), batch_points(256, 0)).run()
    assert max(one.visit for one in found) >= 1
    assert repeat_scatter(found)[1] > 0


def test_the_design_covers_the_space_and_stays_inside() -> None:
    points = iteration_points(LIMITS, 120, 7)
    assert len(points) == len(set(points)) == 120
    assert all(LIMITS.allow(point) for point in points)
    assert points == iteration_points(LIMITS, 120, 7) != iteration_points(LIMITS, 120, 8)
    kinds = [point.kind for point in points]
    assert min(kinds.count(kind) for kind in ("decode", "prefill", "mixed")) >= 25
    assert max(p.decode_seqs for p in points) == LIMITS.max_num_seqs
    assert max(p.prefill_seqs * p.prefill_tokens for p in points) == LIMITS.max_prefill_tokens
    assert max(p.prefill_before for p in points) > 0.9 * (LIMITS.max_context - 16)
    logs = np.log2([(p.decode_seqs, p.decode_context) for p in points if p.decode_seqs])
    filled = {(int(a // 1.25), int(b // 1.75)) for a, b in logs - [0, 4]}
    assert len(filled) >= 12  # of 16 cells of batch by context, those beyond the KV cache left out


def test_one_prompt_that_attends_to_much_and_little() -> None:
    point = IterationPoint(3, 100, 2, 10, 50)
    assert point.kind == "mixed"
    assert point.scheduled_tokens == 23
    assert point.kv_tokens == 3 * 101 + 2 * 60
    assert point.prefill_pairs == 2 * sum(50 + i for i in range(1, 11))


@pytest.mark.parametrize("seqs", [1, 3, 500])
@pytest.mark.parametrize("context", [2, 17, 4096])
@pytest.mark.parametrize("kv_tokens", [5, 300, 10**6])
def test_any_limits_give_points_within_them(seqs: int, context: int, kv_tokens: int) -> None:
    limits = Limits(seqs, context, 64, kv_tokens)
    points = iteration_points(limits, 60, 0)
    assert all(limits.allow(point) for point in points)
    assert all(min(p.decode_context, p.prefill_before) >= 0 and p.scheduled_tokens >= 1 for p in points)
