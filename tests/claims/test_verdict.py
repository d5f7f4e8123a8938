"""The verdicts: what follows from figures, and that wrong ones are not supported."""

from __future__ import annotations

import math

import pytest

from servesim import load
from servesim.experiment.planning.load_factor import Breaking
from servesim.experiment.planning.observe import Observation
from tests.claims.claim import Verdict
from tests.claims.finding import Answer, Attainment, Band, Finding, Interval, Ratio, RatioOfLoads, Sure, judge
from tests.claims.lab import SCENARIOS, Load, Runs, _replicated

GAIN = Band(2, 4)


def runs(rates: list[float], error: float = 0.0, overloaded: bool = False) -> Runs:
    """Return runs of which only the throughput is known."""
    found = []
    for rate in rates:
        classes = {name: {"completed": 1000, "request_throughput_rps": rate} for name in ("all", "chat")}
        numbers = {"classes": classes, "pools": {}}
        found.append(Observation({"chat": 1000}, {"chat": 990}, {}, {"chat": 1.0}, overloaded, numbers))
    return Runs(tuple(found), error)


def gain(factor: float, error: float = 0.0, spread: float = 0.02) -> Ratio:
    """Return a throughput that is about `factor` times another."""
    noise = [1 + spread * step for step in (-1, -0.5, 0, 0.5, 1)]
    return Ratio(runs([10.0] * 5, error), runs([10.0 * factor * one for one in noise], error), "request_throughput_rps")


def verdict(*figures: tuple[str, Ratio]) -> Verdict:
    """Return the verdict on "2 to 4 times" from figures by case."""
    return Verdict("gain", judge([Finding("GPU", case, "throughput", one, GAIN) for case, one in figures]))


@pytest.mark.parametrize(
    ("low", "high", "answer"),
    [
        (2.0, 4.0, Answer.YES),
        (1.0, 1.99, Answer.NO),
        (4.01, 9.0, Answer.NO),
        (1.9, 2.1, Answer.OPEN),
        (1.0, 9.0, Answer.OPEN),
        (math.nan, math.nan, Answer.OPEN),
    ],
)
def test_a_band_answers_only_where_the_whole_interval_is_on_one_side(low, high, answer):
    assert GAIN.answer(Interval(0.5 * (low + high), low, high)) is answer


def test_a_figure_without_an_interval_is_open():
    assert GAIN.answer(Interval(3.0, 3.0, 3.0, "overloaded")) is Answer.OPEN
    ratio = Ratio(runs([1, 1.1], overloaded=True), runs([3, 3.1]), "request_throughput_rps")
    (one,) = judge([Finding("GPU", "8", "throughput", ratio, GAIN)])
    assert one.answer is Answer.OPEN
    assert "overloaded" in one.interval.reason


def test_a_claim_that_holds_everywhere_is_supported():
    found = verdict(("4", gain(2.5)), ("8", gain(3.5)))
    assert found.headline == "supported in all 2 conditions tried"
    assert found.when(Answer.YES) == "GPU: 4, 8"


def test_wrong_input_is_not_supported():
    found = verdict(("4", gain(1.0)), ("8", gain(6.0)))
    assert found.headline == "not supported in any of 2 conditions tried"


def test_a_claim_that_holds_somewhere_says_where_and_where_not():
    found = verdict(("2", gain(1.5)), ("8", gain(3.0)), ("16", gain(4.0)))
    assert found.headline == "holds in 1 of 3 conditions tried, not in 1, open in 1"
    assert found.when(Answer.YES) == "GPU: 8"
    assert found.when(Answer.NO) == "GPU: 2"
    assert found.when(Answer.OPEN) == "GPU: 16"


def test_one_finding_that_fails_fails_its_condition():
    good, bad = Finding("GPU", "8", "a", gain(3), GAIN), Finding("GPU", "8", "b", gain(1), GAIN)
    assert Verdict("x", judge([good, bad])).conditions == {("GPU", "8"): Answer.NO}


def test_more_findings_make_each_interval_wider():
    one, many = gain(3).interval(0.05), judge([Finding("GPU", str(n), "", gain(3), GAIN) for n in range(20)])
    assert many[0].interval.high - many[0].interval.low > 1.5 * (one.high - one.low)


def test_the_error_of_service_times_is_said_where_it_could_change_the_answer():
    sure, unsure = judge([Finding("GPU", "8", "", gain(3, 0.05), GAIN), Finding("GPU", "4", "", gain(2.2, 0.1), GAIN)])
    assert (sure.answer, sure.hangs) == (Answer.YES, False)
    assert (unsure.answer, unsure.hangs) == (Answer.YES, True)
    (plan,) = judge([Finding("chat", "20/s", "saved", Sure(0.4, 0.4, 0.4, hangs=True), Band(0.3, 0.5))])
    assert plan.hangs


def test_a_load_that_holds_nowhere_is_nothing_beside_one_that_does():
    some = Load(Breaking(2.0, 1.9, 2.1), 10.0, 8, 0.0)
    none = Load(Breaking(0.0, 0.0, 0.01, reason="does not hold"), 10.0, 8, 0.0)
    assert RatioOfLoads(some, none).interval(0.05) == Interval(0.0, 0.0, 0.0)
    found = RatioOfLoads(some, Load(Breaking(1.0, 0.95, 1.05), 10.0, 8, 0.0)).interval(0.05)
    assert found.value == pytest.approx(0.5)
    assert found.low < 0.5 < found.high


def test_the_share_within_a_target_has_wilsons_interval():
    found = Attainment(runs([1.0] * 5), "chat").interval(0.05)
    assert found.value == pytest.approx(0.99)
    assert 0.98 < found.low < 0.99 < found.high < 1.0


def test_a_server_that_does_not_batch_does_not_pass_for_one_that_does():
    """The scenario of the claim itself, with a deliberately wrong batcher on the batched side."""
    name = SCENARIOS / "batching-encoders.yaml"
    common = ["workload.num_requests=400", "pools.gpu.service_time.name=bert-dist4l/a30/trt-fp16"]
    rate = "workload.classes.items.arrivals.request_rate_rps="
    size = "pools.gpu.engine.batcher.max_batch_size="

    def measured(rate_rps: int, places: int) -> Runs:
        scenario = load(name, [*common, f"{rate}{rate_rps}", f"{size}{places}"])
        return Runs(tuple(_replicated(scenario, 0, 4)), 0.0)

    alone = measured(1000, 1)
    right, wrong = measured(2782, 8), measured(2782, 1)
    ratios = [Ratio(alone, one, "request_throughput_rps", whole_run=True) for one in (right, wrong)]
    answers = [judge([Finding("A30", "8", "throughput", ratio, GAIN)])[0].answer for ratio in ratios]
    assert answers == [Answer.YES, Answer.NO]
