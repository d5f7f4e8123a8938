"""Iteration times looked up in a table, and what whole runs correct in them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import servesim
from servesim.calibrate.iteration_grid_fit import Rows
from servesim.calibrate.iteration_grid_level import levelled
from servesim.calibrate.iteration_grid_table import held_back_table, predict_table, table_of
from servesim.catalog.calibrations import calibrations, read_key
from servesim.errors import InputError
from servesim.scenario.load import parse
from servesim.service_time.adjusted import AdjustedIterationTime, Adjustment, LargestRank
from servesim.service_time.base import IterationTime, Origin, Validity
from servesim.service_time.tabulated import TabulatedIterationTime
from tests.service_time import sanity

CONTEXTS = (16, 1024, 4096, 16384)
BATCHES = (1, 2, 8, 32, 128, 256)
PREFILLS = (16, 128, 512, 2048, 8192, 16384)


def truth_s(prefill: float, prompt: float, batch: float, context: float) -> float:
    """A machine whose dense part is straight between the points of the grid."""
    return 0.005 + 2e-5 * (prefill + batch) + 5e-8 * batch * context + 7e-10 * prefill * prompt / 2


def rows(machine=truth_s) -> Rows:
    points = [("decode", 0, 0, b, c) for b, c in itertools.product(BATCHES, CONTEXTS)]
    points += [("prefill", p, p, 0, 0) for p in PREFILLS]
    points += [
        ("mixed", p, isl, b, c)
        for p, isl, b, c in itertools.product((128, 2048, 8192), (1024, 8192), (1, 32, 256), (1024, 4096))
    ]
    kind, p, isl, b, c = (np.array(column) for column in zip(*points, strict=True))
    seconds = np.array([machine(*point[1:]) for point in points])
    return Rows(kind.astype(np.str_), *(x.astype(np.float64) for x in (p, isl, b, c)), seconds)


def times(budget: int = 64) -> IterationTime:
    return TabulatedIterationTime(table_of(rows()), Origin("made up", measured=True), Validity(), budget)


def test_a_table_says_at_its_points_what_was_measured() -> None:
    measured = rows()
    predicted = predict_table(measured, table_of(measured))
    assert np.abs(predicted / measured.seconds - 1.0).max() < 0.003  # five digits, and one pair rate per prefill size


def test_between_the_points_it_is_straight() -> None:
    time = times()
    base_s, slope_s, _ = time.decode_line(20, 20 * 2000)
    assert base_s + slope_s * 20 * 2000 == pytest.approx(truth_s(0, 0, 20, 2000), rel=1e-3)
    pairs = 1000 * 1001 // 2
    assert time.mixed_s(20, 20 * 2000, 1, 1000, pairs) == pytest.approx(truth_s(1000, 1000, 20, 2000), rel=0.03)


def test_a_slice_held_back_is_not_known_to_the_table() -> None:
    rough = rows(lambda p, isl, b, c: truth_s(p, isl, b, c) * (1.0 + 0.2 * (b == 32)))
    errors = held_back_table(rough)
    assert errors["in_sample"]["all"].max() < 0.02
    assert errors["interior"]["decode"].max() > 0.1


def quirky_s(prefill: float, prompt: float, batch: float, context: float) -> float:
    """The same machine with a slow all-reduce at 32 sequences and a slow kernel just past 2048 tokens."""
    bump = 0.003 * (batch == 32 and not prefill) - 0.001 * (context == 1024 and not prefill)
    return truth_s(prefill, prompt, batch, context) + bump + 0.04 * (prefill == 2048 and batch > 0)


def test_quirks_of_single_operators_are_levelled() -> None:
    level, truth = levelled(rows(quirky_s), dense=True), rows()
    assert (level.seconds <= rows(quirky_s).seconds + 1e-12).all()
    decode, mixed = level.kind == "decode", level.kind == "mixed"
    # What is left of each: context 1024 cannot be told from a slower 16, and prefill is added as the table joins it.
    assert np.abs(level.seconds[decode] - truth.seconds[decode]).max() <= 0.00101
    assert (level.seconds[mixed] / truth.seconds[mixed] - 1.0).max() < 0.02
    assert (rows(quirky_s).seconds[mixed] / truth.seconds[mixed] - 1.0).max() > 0.5


def test_a_levelled_grid_never_takes_longer_for_less() -> None:
    level = levelled(rows(quirky_s), dense=False)
    table = table_of(level)
    for grid in (table.decode_s, list(zip(*table.decode_s, strict=True))):
        assert all(low <= high for row in grid for low, high in itertools.pairwise(row))
    assert np.max(table.mixed_ratio) <= 1.001


def test_levelling_leaves_alone_what_obeys_the_rules() -> None:
    for dense in (True, False):
        again = levelled(rows(), dense)
        assert again.seconds == pytest.approx(rows().seconds, rel=0.003)


def test_only_dense_models_are_taken_to_be_convex() -> None:
    experts = rows(lambda p, isl, b, c: truth_s(p, isl, b, c) + 0.004 * (1.0 - 0.97**b) * (p == 0))
    decode = experts.kind == "decode"
    assert levelled(experts, dense=False).seconds[decode] == pytest.approx(experts.seconds[decode])
    assert (levelled(experts, dense=True).seconds[decode] < experts.seconds[decode] - 1e-3).any()


def test_rows_off_the_grid_are_refused() -> None:
    measured = rows()
    with pytest.raises(InputError, match="do not fill a grid"):
        table_of(measured[np.arange(len(measured.seconds)) > 0])


def test_tables_grow_on_demand_and_lines_meet() -> None:
    small, large = times(64), times(65_536)
    assert small.mixed_s(5, 100, 1, 40_000, 10**9) == large.mixed_s(5, 100, 1, 40_000, 10**9)
    sanity.check_lines_meet(small)


def test_every_table_of_the_catalog_is_sane() -> None:
    tables = [(key, entry.table) for key in calibrations() if (entry := read_key(key)).table is not None]
    assert len(tables) >= 70
    for key, table in tables:
        time = TabulatedIterationTime(table, Origin(key.stem, measured=True), Validity(), 512)
        sanity.check_lines_meet(time)
        for batch, context in itertools.product((1, 8, 100, 600), (0, 4096, 1_000_000)):
            base_s, slope_s, limit = time.decode_line(batch, context)
            assert 0 < base_s + slope_s * context < 10
            assert slope_s >= 0
            assert limit >= context
            seconds = time.mixed_s(batch, context, 1, 512, 512 * 513 // 2)
            assert base_s + slope_s * context <= seconds < 10


def test_corrections_shift_stretch_and_bound() -> None:
    plain = times()
    time = AdjustedIterationTime(plain, Adjustment(0.001, 2.0, 0.05))
    for batch, context in ((1, 100), (32, 50_000)):
        base_s, slope_s, limit = plain.decode_line(batch, context)
        assert time.decode_line(batch, context) == pytest.approx((base_s + 0.001, slope_s, limit))
        decode_s = base_s + slope_s * context
        added_s = plain.mixed_s(batch, context, 1, 4096, 4096 * 4097 // 2) - decode_s
        assert time.mixed_s(batch, context, 1, 4096, 4096 * 4097 // 2) == pytest.approx(decode_s + 2 * added_s + 0.001)
        assert time.mixed_s(batch, context, 1, 16, 136) == 0.05
    # The context's share is turned about the empty batch, the batch's about a batch of one.
    turned = AdjustedIterationTime(plain, Adjustment(context_factor=1.5, batch_factor=0.5))
    for batch, context in ((1, 100), (32, 50_000), (128, 600_000)):
        idle_s, empty_s = (line[0] + line[1] for line in (plain.decode_line(1, 1), plain.decode_line(batch, 1)))
        base_s, slope_s, limit = plain.decode_line(batch, context)
        wanted_s = idle_s + 0.5 * (empty_s - idle_s) + 1.5 * (base_s + slope_s * context - empty_s)
        base_s, slope_s, as_far = turned.decode_line(batch, context)
        assert base_s + slope_s * context == pytest.approx(wanted_s, rel=1e-4)
        assert as_far == limit
        added_s = plain.mixed_s(batch, context, 1, 4096, 4096 * 4097 // 2) - sum(
            x * y for x, y in zip(plain.decode_line(batch, context), (1, context), strict=False)
        )
        assert turned.mixed_s(batch, context, 1, 4096, 4096 * 4097 // 2) == pytest.approx(wanted_s + added_s, rel=1e-4)
    sanity.check_lines_meet(turned)
    # However much is taken away, something is left.
    assert AdjustedIterationTime(plain, Adjustment(-1.0)).decode_line(1, 0)[0] > 0


def test_a_correction_that_is_cut_says_by_how_much() -> None:
    plain = times()
    base_s, slope_s, _ = plain.decode_line(1, 1)
    most_s = 0.75 * (base_s + slope_s)
    assert AdjustedIterationTime(plain, Adjustment(-0.99 * most_s)).warnings == ()
    assert AdjustedIterationTime(plain, Adjustment(1.0)).warnings == ()
    (said,) = AdjustedIterationTime(plain, Adjustment(-2.0 * most_s)).warnings
    assert f"correction of {-2e3 * most_s:.3g} ms per iteration is cut to {-1e3 * most_s:.3g} ms" in said
    assert f"{1e3 * (base_s + slope_s):.3g} ms" in said


def test_a_run_warns_of_a_correction_that_is_cut() -> None:
    """Through a whole scenario: 32 layers, of which each would save 1 ms of an iteration of about 5 ms."""
    said = "-32 ms per iteration is cut to"
    for per_layer_s, warned in ((-1e-3, True), (-1e-5, False)):
        scenario = parse(CUT.replace("PER_LAYER", f"{per_layer_s:f}"))
        warnings = servesim.simulate(scenario, seed=0).summary["warnings"]
        assert any("pool p: the correction of " + said in one for one in warnings) == warned


CUT = """
name: cut
workload:
  num_requests: 2
  classes:
    c: {arrivals: {kind: constant, request_rate_rps: 1}, prompt_tokens: 10, output_tokens: 3}
pools:
  p: {model: llama-3.1-8b, gpu: h100_sxm, engine: {iteration_time_per_layer_s: PER_LAYER}}
"""


def test_one_rank_is_no_rank_and_two_halve_the_batch() -> None:
    plain = times()
    for batch, context in ((1, 7), (33, 50_001), (256, 900_000)):
        assert LargestRank(plain, 1).decode_line(batch, context) == plain.decode_line(batch, context)
    two = LargestRank(plain, 2)
    base_s, slope_s, limit = two.decode_line(64, 64_000)
    one_base_s, one_slope_s, one_limit = plain.decode_line(32, 32_000)
    assert base_s + slope_s * 64_000 == pytest.approx(one_base_s + one_slope_s * 32_000)
    assert limit == 2 * one_limit or math.isinf(limit)
    # A prompt cannot be split: alone it takes as long on two ranks as on one.
    assert two.mixed_s(0, 0, 1, 4096, 8_390_656) == plain.mixed_s(0, 0, 1, 4096, 8_390_656)
    assert two.mixed_s(0, 0, 2, 4096, 8_390_656) == plain.mixed_s(0, 0, 1, 2048, 4_195_328)
