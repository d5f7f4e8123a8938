"""Fits recover what generated logs were made of, keep what they can and name what they cannot."""

import math

import numpy as np
import pytest

from servesim.errors import InputError
from servesim.workload.arrivals.gamma import GammaArrivals
from servesim.workload.arrivals.piecewise_gamma import PiecewiseGammaArrivals
from servesim.workload.lengths.drifting_mix import DriftingMixLengths
from servesim.workload.lengths.joint_quantiles import JointQuantilesLengths
from servesim.workload.load import ClassLoad
from servesim.workload.logs.fit import fit_requests, variance_curves
from servesim.workload.logs.fit_lengths import fit_lengths
from servesim.workload.logs.fit_report import compare
from servesim.workload.logs.fit_yaml import part_yaml
from servesim.workload.logs.log_file import LogFile
from servesim.workload.logs.not_kept import not_kept
from servesim.workload.logs.read import read_log
from servesim.workload.logs.round_trip import bootstrap_noise, round_trip
from servesim.workload.logs.stationarity import chi_squared_tail, clock_tick_s, shrunk_rates, swing_test, window_counts

SPAN_S = 1800.0


def take(arrivals, rng, span_s=SPAN_S):
    times = arrivals.times(rng)
    blocks = [next(times)]
    while blocks[-1][-1] < span_s:
        blocks.append(next(times))
    time_s = np.concatenate(blocks)
    return time_s[time_s < span_s] - time_s[0]


def lengths(rng, n):
    prompt = np.clip(rng.lognormal(6, 0.8, n), 1, 8000).astype(np.int64)
    output = np.where(prompt > 600, rng.integers(10, 60, n), rng.integers(100, 400, n))
    return prompt, output


def write(path, time_s, prompt, output):
    rows = "".join(f"{t:.6f},{p},{o}\n" for t, p, o in zip(time_s, prompt, output, strict=True))
    path.write_text("arrival_s,prompt_tokens,output_tokens\n" + rows)
    return read_log(LogFile(path=str(path)))


@pytest.mark.parametrize("burstiness", [0.4, 1.0, 3.0])
def test_constant_gamma_arrivals_are_recovered(burstiness):
    rng = np.random.default_rng(3)
    time_s = take(GammaArrivals(request_rate_rps=5.0, burstiness=burstiness), rng)
    fit = fit_requests((time_s, *lengths(rng, len(time_s))))
    arrivals = fit.arrivals
    assert isinstance(arrivals, GammaArrivals)
    assert arrivals.request_rate_rps == pytest.approx(5.0, rel=4 / math.sqrt(burstiness * len(time_s)))
    assert arrivals.burstiness == pytest.approx(burstiness, rel=0.12)
    assert not fit.swing.swings


def test_a_swinging_rate_is_found_and_kept(tmp_path):
    rng = np.random.default_rng(4)
    rates = (2.0, 12.0, 4.0, 8.0, 1.0, 10.0)
    time_s = take(PiecewiseGammaArrivals(window_s=300.0, rates_rps=rates, burstiness=0.7), rng)
    log = write(tmp_path / "log.csv", time_s, *lengths(rng, len(time_s)))
    fit = fit_requests((log.rows.time_s, log.rows.prompt_tokens, log.rows.output_tokens))
    assert fit.swing.swings
    assert isinstance(fit.arrivals, PiecewiseGammaArrivals)
    drawn = fit.draw(1)
    counts = [window_counts(times, 300.0, 6) for times in (time_s, drawn[0])]
    # Each count has a variance of at most mean / burstiness; two realisations differ by its root, four times at most.
    assert np.all(np.abs(counts[0] - counts[1]) <= 4 * np.sqrt(2 * counts[0] / 0.7) + 4)
    check = compare(log, fit)
    assert check["ks"]["prompt_tokens"] < 2 * check["ks"]["by_chance_95"]
    assert check["ks"]["output_tokens"] < 2 * check["ks"]["by_chance_95"]
    assert not any("swings" in lost for lost in check["not_kept"])


def test_a_drifting_mix_is_kept():
    rng = np.random.default_rng(5)
    time_s = take(GammaArrivals(request_rate_rps=6.0), rng)
    long = rng.random(len(time_s)) < 0.5 + 0.45 * np.sin(time_s / SPAN_S * 6 * math.pi)
    prompt = np.where(long, rng.integers(3000, 5000, len(time_s)), rng.integers(50, 500, len(time_s)))
    output = rng.integers(50, 150, len(time_s))
    fit = fit_requests((time_s, prompt, output))
    assert isinstance(fit.lengths, DriftingMixLengths)
    scale_s = np.array([100.0])
    shuffled = time_s, rng.permutation(prompt), output
    log, ours, plain = (variance_curves(requests, scale_s, SPAN_S)[1, 0]
                        for requests in ((time_s, prompt, output), fit.draw(), shuffled))  # fmt: skip
    assert 0.5 < ours / log < 2
    assert plain / log < 0.35


def test_lengths_without_order_need_one_table():
    rng = np.random.default_rng(15)
    assert isinstance(fit_lengths(*lengths(rng, 5000)), JointQuantilesLengths)


def test_a_law_that_changes_for_good_is_kept_and_loads(tmp_path):
    from servesim.scenario.load import parse

    rng = np.random.default_rng(14)
    time_s = take(GammaArrivals(request_rate_rps=4.0), rng)
    late = np.arange(len(time_s)) > len(time_s) // 2
    prompt = np.where(late, rng.integers(100, 400, len(time_s)), rng.integers(200, 800, len(time_s)))
    output = np.where(late, rng.integers(200, 300, len(time_s)), rng.integers(20, 60, len(time_s)))
    fit = fit_requests((time_s, prompt, output))
    assert isinstance(fit.lengths, DriftingMixLengths)
    drawn = fit.draw(3)
    for ours, theirs in ((drawn[1], prompt), (drawn[2], output)):
        middle = len(ours) // 2
        assert ours[:middle].mean() == pytest.approx(theirs[~late].mean(), rel=0.1)
        assert ours[middle:].mean() == pytest.approx(theirs[late].mean(), rel=0.1)
    text = "name: x\n" + part_yaml(fit, []) + "pools: {main: {service_time: {kind: affine, base_s: 0.01}}}\n"
    (loaded,) = parse(text).workload.classes.values()
    assert loaded.lengths == fit.lengths


def test_mixes_follow_the_requests_whatever_the_blocks(tmp_path):
    tables = [{"prompt_cdf": [[t - 1, 0], [t, 1]], "output": [{"up_to_prompt_tokens": t, "cdf": [[0, 0], [1, 1]]}]}
              for t in (10, 20, 30)]  # fmt: skip
    law = DriftingMixLengths(window_requests=100, parts=tables, shares=[[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    spec = GammaArrivals(request_rate_rps=5.0)
    load = ClassLoad("chat", spec, law, seed=1, num_requests=10_000)
    prompts = np.concatenate([block.prompt_tokens for block in load.blocks()])
    assert np.array_equal(prompts, np.array([10, 20, 30])[np.arange(10_000) // 100 % 3])


def test_long_requests_at_busy_times_are_said(tmp_path):
    rng = np.random.default_rng(16)
    time_s = take(PiecewiseGammaArrivals(window_s=180.0, rates_rps=(2.0,) * 9 + (20.0,)), rng)
    prompt, output = lengths(rng, len(time_s))
    busy = time_s > 1620
    log = write(tmp_path / "log.csv", time_s, prompt, np.where(busy, 3 * output, output))
    plain = fit_requests((time_s, prompt, rng.permutation(output)))
    assert any(lost.startswith("outputs when it is busy") for lost in not_kept(log, plain))
    kept = not_kept(log, fit_requests(log.requests))
    assert not any("when it is busy" in lost for lost in kept)


def test_batches_on_a_coarse_clock_stay_batches():
    rng = np.random.default_rng(6)
    time_s = np.floor(np.sort(rng.uniform(0, SPAN_S, 6000)) / 3) * 3
    assert clock_tick_s(time_s) == 3.0
    fit = fit_requests((time_s, *lengths(rng, len(time_s))))
    drawn = fit.draw(0)[0]
    assert np.all(np.abs(drawn / 3 - np.round(drawn / 3)) < 1e-9)
    dispersion = [counts.var() / counts.mean() for counts in (window_counts(t, 3.0, 600) for t in (time_s, drawn))]
    assert dispersion[1] == pytest.approx(dispersion[0], rel=0.35)


def test_what_is_lost_is_said(tmp_path):
    rng = np.random.default_rng(7)
    starts = np.cumsum(rng.exponential(10, 300))
    time_s = np.sort((starts[:, None] + np.cumsum(rng.uniform(0.1, 0.4, (300, 8)), axis=1)).ravel())
    prompt = np.repeat(rng.integers(50, 5000, 300), 8)
    path = tmp_path / "log.csv"
    rows = "".join(f"{t:.6f},{p},20,s{at // 8}\n" for at, (t, p) in enumerate(zip(time_s, prompt, strict=True)))
    path.write_text("arrival_s,prompt_tokens,output_tokens,chat\n" + rows)
    log = read_log(LogFile(path=str(path), format="csv", columns={"session": "chat"}))
    check = compare(log, fit_requests((log.rows.time_s, log.rows.prompt_tokens, log.rows.output_tokens)))
    assert any(lost.startswith("sessions: 300 conversations of 8.0") for lost in check["not_kept"])
    assert any(lost.startswith("order of lengths") for lost in check["not_kept"])


def test_a_fit_needs_requests():
    few = np.arange(50.0), np.full(50, 5), np.full(50, 5)
    with pytest.raises(InputError, match="200 requests"):
        fit_requests(few)


def test_the_part_is_a_workload_that_loads(tmp_path):
    from servesim.scenario.load import parse

    rng = np.random.default_rng(8)
    time_s = take(PiecewiseGammaArrivals(window_s=600.0, rates_rps=(1.0, 6.0, 2.0)), rng)
    fit = fit_requests((time_s, *lengths(rng, len(time_s)))).at_speed(2.0)
    text = "name: x\n" + part_yaml(fit, ["a note"]) + "pools: {main: {service_time: {kind: affine, base_s: 0.01}}}\n"
    (loaded,) = parse(text).workload.classes.values()
    assert loaded.arrivals == fit.arrivals
    assert loaded.lengths == fit.lengths
    assert not any(f"{prompt}" in text for prompt in ["arrival_s", "log.csv"])


def test_piecewise_rates_and_speed():
    profile = PiecewiseGammaArrivals(window_s=10.0, rates_rps=(0.0, 30.0, 0.0, 10.0), burstiness=2.0)
    time_s = take(profile, np.random.default_rng(0), 4000.0) + 0.0
    absolute = np.concatenate([next(profile.times(np.random.default_rng(0)))])
    window = (absolute // 10).astype(int) % 4
    assert set(window.tolist()) == {1, 3}
    assert np.mean(window == 1) == pytest.approx(0.75, abs=0.03)
    assert len(time_s) == pytest.approx(40000, rel=0.02)
    fast = next(profile.model_copy(update={"rate_scale": 4.0}).times(np.random.default_rng(0)))
    np.testing.assert_allclose(fast * 4, absolute)


def test_chi_squared_tail_against_scipy():
    from scipy.stats import chi2

    for degrees in (3, 10, 100):
        for quantile in (0.1, 0.5, 0.9, 0.99):
            value = chi2.ppf(quantile, degrees)
            assert chi_squared_tail(value, degrees) == pytest.approx(1 - quantile, abs=0.004)


def test_the_swing_test_holds_its_level():
    rng = np.random.default_rng(9)
    found = []
    for _ in range(200):
        time_s = np.cumsum(rng.gamma(0.5, 2 / 5, 4000))
        counts = window_counts(time_s[time_s < 600], 10.0, 60)
        found.append(swing_test(counts, 10.0, burstiness=0.5).p_value)
    assert np.mean(np.array(found) < 0.05) < 0.12


def test_shrunk_rates_keep_slow_swings():
    rng = np.random.default_rng(17)
    true = np.repeat([2.0, 20.0, 5.0, 10.0], 64)
    drawn = np.array([shrunk_rates(rng.poisson(true), 1.0, 1.0) for _ in range(50)])
    np.testing.assert_allclose(drawn.mean(axis=0).reshape(4, 64).mean(axis=1), [2, 20, 5, 10], atol=0.15)
    assert np.mean((drawn - true) ** 2) < 0.5 * true.mean()  # a raw count's error has the mean as its variance
    assert shrunk_rates(np.array([3]), 2.0, 1.0).tolist() == [1.5]


def test_bootstrap_noise_sees_that_neighbours_depend_on_each_other():
    rng = np.random.default_rng(18)
    independent = rng.exponential(1.0, (20_000, 2))
    median, tail = bootstrap_noise(independent)[:2]
    # The asymptotic standard error of a quantile: sqrt(q (1 - q) / n) / density, relative to the quantile.
    assert median == pytest.approx(math.sqrt(0.25 / 20_000) / 0.5 / math.log(2), rel=0.3)
    assert tail == pytest.approx(math.sqrt(0.99 * 0.01 / 20_000) / 0.01 / math.log(100), rel=0.3)
    dependent = np.repeat(independent[:200], 100, axis=0)
    assert bootstrap_noise(dependent)[0] > 4 * median


def test_shrunk_rates_do_not_count_chance_twice():
    rng = np.random.default_rng(10)
    true = rng.gamma(20, 0.5, 400)
    counts = rng.poisson(true)
    redrawn = rng.poisson(shrunk_rates(counts, 1.0, 1.0))
    assert redrawn.var() == pytest.approx(counts.var(), rel=0.2)
    assert rng.poisson(counts).var() > 1.2 * counts.var()


POOL = """\
pools:
  main:
    engine: {kind: continuous, max_num_seqs: 16, max_num_batched_tokens: 4096, max_model_len: 100000}
    service_time: {kind: affine, base_s: 0.01, per_token_s: 1.0e-5}
"""


@pytest.mark.slow
def test_the_fit_loads_a_system_as_the_log_does(tmp_path):
    rng = np.random.default_rng(11)
    time_s = take(PiecewiseGammaArrivals(window_s=200.0, rates_rps=(4.0, 7.0, 5.0), burstiness=0.8), rng, 3600.0)
    log = write(tmp_path / "log.csv", time_s, *lengths(rng, len(time_s)))
    trip = round_trip("generated", log, seeds=4, pool=POOL)
    # The replay is one realisation too: besides the tolerance, allow what two of them differ by.
    assert np.all(np.abs(trip.error) <= 0.1 + 2 * trip.noise)
    assert np.all(trip.scatter < 0.5)
