"""Deriving a workload from a trace: the estimators on known processes, then the recorded hour."""

import math

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from servesim.rng import stream
from servesim.workload.arrivals.azure_trace import AzureTraceArrivals
from servesim.workload.arrivals.gamma import GammaArrivals
from servesim.workload.base import IndependentLengths
from servesim.workload.cdf import cdf_mean_tokens, inverse_cdf
from servesim.workload.derive_azure import candidate_lengths, conditional_ks, derive, drawn
from servesim.workload.fitting import arrival_statistics, fit_cdf, fit_joint, ks_distance, rank_correlation
from servesim.workload.lengths.geometric import GeometricLength
from servesim.workload.lengths.joint_quantiles import JointQuantilesLengths
from servesim.workload.lengths.lognormal import LognormalLength


def gamma_times(rate_rps: float, burstiness: float, blocks: int = 25) -> np.ndarray:
    source = GammaArrivals(request_rate_rps=rate_rps, burstiness=burstiness).times(stream(4, "arrivals"))
    return np.concatenate([next(source) for _ in range(blocks)])


@pytest.mark.parametrize("burstiness", [0.5, 1.0, 2.0])
def test_statistics_of_a_steady_gamma_source(burstiness):
    times_s = gamma_times(10.0, burstiness)
    found = arrival_statistics(times_s)
    error = 4 * math.sqrt(2 * (1 + 1 / burstiness) / len(times_s))
    assert found.request_rate_rps == pytest.approx(10.0, rel=4 / math.sqrt(burstiness * len(times_s)))
    assert found.gap_scv == pytest.approx(1 / burstiness, rel=error)
    # A gap longer than the rest of its window counts in the next one: a bias of about one gap in 600.
    assert found.local_burstiness == pytest.approx(burstiness, rel=error + 0.01)
    windows = times_s[-1] / 60
    assert found.window_count_dispersion == pytest.approx(1 / burstiness, rel=4 * math.sqrt(2 / windows) + 0.01)


def test_local_burstiness_sees_through_a_swinging_rate():
    """A Poisson source whose rate is 2 and 18 in alternate minutes: bursty as a whole, Poisson within."""
    rng = stream(4, "swing")
    minutes = [
        60 * minute + np.sort(rng.uniform(0, 60, rng.poisson(60 * rate))) for minute, rate in enumerate([2, 18] * 60)
    ]
    found = arrival_statistics(np.concatenate(minutes))
    assert found.gap_scv > 1.5
    assert found.window_count_dispersion > 100
    assert found.local_burstiness == pytest.approx(1.0, rel=0.05)


@given(values=st.lists(st.integers(1, 300), min_size=1, max_size=200), tolerance=st.floats(0.01, 0.3))
def test_a_fitted_table_is_within_its_tolerances(values, tolerance):
    sample = np.array(values)
    table = fit_cdf(sample, tolerance=tolerance, max_points=400)
    counts = inverse_cdf(table, (np.arange(20_000) + 0.5) / 20_000)
    assert ks_distance(counts, sample) <= tolerance + 3e-4
    # The probabilities' four digits move the mean by at most half a unit of the last one per token of the range.
    assert cdf_mean_tokens(table) == pytest.approx(sample.mean(), abs=0.002 * sample.mean() + 300 * 5e-5)


def test_a_tight_table_reproduces_the_sample():
    sample = np.array([5] * 50 + [9] * 30 + [400] * 20)
    assert fit_cdf(sample, tolerance=0.0) == ((4, 0.0), (5, 0.5), (8, 0.5), (9, 0.8), (399, 0.8), (400, 1.0))


def test_ks_distance_and_rank_correlation_match_scipy():
    scipy_stats = pytest.importorskip("scipy.stats")
    x = GeometricLength(mean_tokens=30).draw(stream(1, "x"), 3000)
    y = np.maximum(1, x // 2 + GeometricLength(mean_tokens=20).draw(stream(1, "y"), 3000))
    assert ks_distance(x, y) == pytest.approx(scipy_stats.ks_2samp(x, y).statistic, abs=1e-12)
    assert rank_correlation(x, y) == pytest.approx(scipy_stats.spearmanr(x, y).statistic, abs=1e-12)


def test_a_joint_table_keeps_the_dependence():
    rng = stream(1, "joint")
    prompt = LognormalLength(median_tokens=500.0, sigma=0.8).draw(rng, 20_000)
    output = np.where(prompt > 700, 20, 300) + GeometricLength(mean_tokens=50).draw(rng, 20_000)
    joint = fit_joint(prompt, output, prompt_ranges=12, prompt_tolerance=0.005, output_tolerance=0.02)
    ours = drawn(joint)
    assert conditional_ks(*ours, prompt, output) < 0.06
    assert rank_correlation(*ours) == pytest.approx(rank_correlation(prompt, output), abs=0.03)
    shuffled = drawn(
        IndependentLengths(
            LognormalLength(median_tokens=500.0, sigma=0.8), LognormalLength(median_tokens=200.0, sigma=0.5)
        )
    )
    assert conditional_ks(*shuffled, prompt, output) > 0.3


def test_the_recorded_conversation_needs_the_joint_table(traces):
    path = str(traces / "azure2023" / "AzureLLMInferenceTrace_conv.csv")
    blocks = list(AzureTraceArrivals(path=path).joint())
    prompt, output = (np.concatenate([block[column] for block in blocks]) for column in (1, 2))
    held = prompt[1::2], output[1::2]
    distance = {}
    for name, lengths in candidate_lengths(prompt[::2], output[::2], 12).items():
        ours = drawn(lengths)
        distance[name] = ks_distance(np.add(*ours), np.add(*held)), conditional_ks(*ours, *held)
    assert distance["joint table"][0] < 0.035
    assert distance["joint table"][1] < 0.08
    for name in ("independent lognormal", "independent tables"):
        assert distance[name][0] > 0.15
        assert distance[name][1] > 0.4


def test_the_derived_fragment_is_a_workload(traces):
    text = derive(str(traces / "azure2023" / "AzureLLMInferenceTrace_conv.csv"))
    fragment = yaml.safe_load(text)
    arrivals = GammaArrivals.model_validate(fragment["arrivals"])
    assert arrivals.request_rate_rps == pytest.approx(19_365 / 3501.722, abs=0.005)
    assert 0.9 < arrivals.burstiness < 1.0
    joint = JointQuantilesLengths.model_validate(fragment["lengths"])
    prompt, output = drawn(joint)
    assert prompt.mean() == pytest.approx(1154.7, rel=0.01)
    assert output.mean() == pytest.approx(211.1, rel=0.01)
    assert "CC-BY-4.0" in text
