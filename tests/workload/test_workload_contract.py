"""What every registered arrival process and length law must do, whoever wrote it."""

import math
from itertools import chain, islice, pairwise
from typing import Annotated, Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from servesim.registry import Kind, KindSpec, kinds
from servesim.rng import stream
from servesim.workload.base import Arrivals, IndependentLengths, JointLengths, Length, TimedArrivals
from servesim.workload.count import Count
from servesim.workload.lengths.fixed import FixedLength
from servesim.workload.load import ClassLoad
from servesim.workload.rate import RateFunction
from servesim.workload.trace import TraceArrivals

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:{n // 60:02}:{n % 60:02}.{n:07},{n + 1},{2 * n + 1}\n" for n in range(100)
)
MOONCAKE = "".join(
    f'{{"timestamp": {250 * n}, "input_length": {n + 1}, "output_length": {2 * n + 1}, "hash_ids": [{n}]}}\n'
    for n in range(100)
)
SERVEGEN_LAWS = '{"0": {"input_tokens": "{10: 0.25, 20: 0.75}", "output_tokens": "{5: 1.0}"}}'
FIXED = IndependentLengths(FixedLength(tokens=7), FixedLength(tokens=3))

POISSON = {"kind": "poisson", "request_rate_rps": 2.0}
# Per kind: its keys, then the exact mean rate (arrivals) or mean and standard deviation (lengths) they imply.
ARRIVALS: dict[str, tuple[dict[str, Any], float | None]] = {
    "all_at_once": ({"at_s": 2.5}, None),
    "azure_trace": ({"path": "azure.csv", "rate_scale": 2.0}, None),
    "batch": ({"bursts": POISSON, "size": {"kind": "geometric", "mean": 3.0}}, 6.0),
    "closed_loop": ({"max_concurrency": 4, "think_time_s": 0.5, "think": "exponential"}, None),
    "constant": ({"request_rate_rps": 7.0}, 7.0),
    "gamma": ({"request_rate_rps": 3.0, "burstiness": 0.4}, 3.0),
    "hawkes": ({"base_rps": 1.5, "jump_rps": 1.0, "decay_per_s": 2.0}, 3.0),
    "mmpp": (
        {"rates_rps": [9.0, 0.0, 3.0], "generator": [[-2, 1, 1], [0.5, -1, 0.5], [0, 1, -1]], "start_state": 1},
        # Stationary: balance of the states gives (1, 4, 3)/8 of the time.
        9 / 8 + 9 / 8,
    ),
    "mooncake_trace": ({"path": "mooncake.jsonl", "start_s": 5, "end_s": 20}, None),
    "log": ({"path": "azure.csv", "max_requests": 50}, None),
    "nhpp": ({"rate": {"kind": "sinusoid", "mean_rps": 5.0, "amplitude": 0.9, "period_s": 7.0}}, 5.0),
    "piecewise_gamma": ({"window_s": 3.0, "rates_rps": [2.0, 0.0, 7.0], "burstiness": 0.6}, 3.0),
    "poisson": ({"request_rate_rps": 11.0}, 11.0),
    "servegen": ({"path": "servegen", "clients": [1], "request_rate_rps": 4.0}, None),
    "sessions": (
        {
            "starts": {"kind": "batch", "bursts": POISSON, "size": 2},
            "turns": {"kind": "geometric", "mean": 4.0},
            "think_time_s": 5.0,
            "max_context_tokens": 8192,
            "interrupt": {"probability": 0.1, "after_s": 2.0},
        },
        None,
    ),
    "superposition": ({"processes": [POISSON, {"kind": "batch", "bursts": POISSON, "size": 2}]}, 6.0),
    "weibull": ({"request_rate_rps": 3.0, "shape": 0.7}, 3.0),
}
# Per kind: the index of dispersion of its counts over long windows, which for independent gaps is their SCV.
DISPERSION = {
    "batch": 5.0,  # E[N^2]/E[N] = 2 mean - 1
    "constant": 0.0,
    "gamma": 1 / 0.4,
    "hawkes": 4.0,  # 1/(1 - n)^2
    "mmpp": 12.0,  # above what its chain gives; see tests/theory/test_arrivals.py for exact ones
    "nhpp": 1.0,
    "piecewise_gamma": 1 / 0.6,
    "poisson": 1.0,
    "superposition": (2 + 8) / 6,
    "weibull": math.gamma(1 + 2 / 0.7) / math.gamma(1 + 1 / 0.7) ** 2 - 1,
}
COUNTS: dict[str, tuple[dict[str, Any], float, float]] = {
    "fixed": ({"count": 5}, 5.0, 0.0),
    "geometric": ({"mean": 4.0}, 4.0, math.sqrt(12)),
    "uniform": ({"low": 2, "high": 6}, 4.0, math.sqrt(2)),
    "weighted": ({"counts": [1, 10, 3], "weights": [3.0, 1.0, 0.0]}, 3.25, math.sqrt(103 / 4 - 3.25**2)),
}
# Per kind: its keys, and the requests expected up to some times by the integral of the rate.
RATES: dict[str, tuple[dict[str, Any], list[tuple[float, float]]]] = {
    "points": ({"points": [[0, 1], [10, 5], [10, 2], [20, 2]]}, [(5.0, 10.0), (10.0, 30.0), (15.0, 40.0), (50, 110.0)]),
    "sinusoid": (
        {"mean_rps": 10.0, "amplitude": 0.8, "period_s": 60.0},
        [
            (15.0, 150 + 480 / (2 * math.pi)),
            (30.0, 300 + 960 / (2 * math.pi)),
            (60.0, 600.0),
            (615.0, 6226.394372684109),
        ],
    ),
    "spikes": (
        {
            "base_rps": 2.0,
            "spikes": [{"at_s": 10.0, "peak_rps": 8.0, "ramp_up_s": 2.0, "hold_s": 1.0}],
            "period_s": 20.0,
        },
        [(10.0, 20.0), (12.0, 30.0), (13.0, 38.0), (20.0, 52.0), (32.0, 82.0)],
    ),
}
LENGTHS: dict[str, tuple[dict[str, Any], float, float]] = {
    "fixed": ({"tokens": 512}, 512.0, 0.0),
    "geometric": ({"mean_tokens": 80}, 80.0, math.sqrt(80 * 79)),
    # Rounding to whole tokens moves neither figure by more than a thousandth at this scale.
    "lognormal": (
        {"median_tokens": 400.0, "sigma": 0.5},
        400 * math.exp(0.125),
        400 * math.exp(0.125) * math.sqrt(math.expm1(0.25)),
    ),
    # 1..10 and 11..30 with equal probability: variance = mean of variances + variance of means.
    "quantiles": (
        {"cdf": [[0, 0.0], [10, 0.5], [30, 1.0]]},
        13.0,
        math.sqrt((99 / 12 + 399 / 12) / 2 + 7.5**2),
    ),
    "uniform": ({"min_tokens": 3, "max_tokens": 12}, 7.5, math.sqrt(99 / 12)),
}
JOINT: dict[str, tuple[dict[str, Any], tuple[float, float], tuple[float, float]]] = {
    "empirical": ({"rows": [[10, 1], [20, 5, 3.0]]}, (17.5, 4.0), (math.sqrt(18.75), math.sqrt(3.0))),
    # Ten requests of the first part, then ten of both alike: 3/4 and 1/4 in the long run.
    "drifting_mix": (
        {
            "window_requests": 10,
            "parts": [
                {"prompt_cdf": [[9, 0], [10, 1]], "output": [{"up_to_prompt_tokens": 10, "cdf": [[0, 0], [1, 1]]}]},
                {"prompt_cdf": [[29, 0], [30, 1]], "output": [{"up_to_prompt_tokens": 30, "cdf": [[4, 0], [5, 1]]}]},
            ],
            "shares": [[1.0, 0.0], [0.5, 0.5]],
        },
        (15.0, 2.0),
        (math.sqrt(75.0), math.sqrt(3.0)),
    ),
    # The Azure example: prompts 1 .. 100 with outputs 1, 3, .. 199.
    "log": ({"path": "azure.csv"}, (50.5, 100.0), (math.sqrt(9999 / 12), math.sqrt(9999 / 3))),
    # Prompts 1..10 get outputs 1..4, prompts 11..20 get 5..8: output uniform on 1..8.
    "joint_quantiles": (
        {
            "prompt_cdf": [[0, 0], [20, 1]],
            "output": [
                {"up_to_prompt_tokens": 10, "cdf": [[0, 0], [4, 1]]},
                {"up_to_prompt_tokens": 20, "cdf": [[4, 0], [8, 1]]},
            ],
        },
        (10.5, 4.5),
        (math.sqrt(399 / 12), math.sqrt(63 / 12)),
    ),
}
EXAMPLES = {"arrivals": ARRIVALS, "count": COUNTS, "rate": RATES, "length": LENGTHS, "joint_length": JOINT}


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Build the example of a kind, in a directory that holds the trace files it may name."""
    (tmp_path / "azure.csv").write_text(AZURE)
    (tmp_path / "mooncake.jsonl").write_text(MOONCAKE)
    (tmp_path / "servegen").mkdir()
    (tmp_path / "servegen" / "chunk-1-trace.csv").write_text("0,5,1.0,Gamma,0.5,0.4\n600,9,1.0,Weibull,0.8,0.1\n")
    (tmp_path / "servegen" / "chunk-1-dataset.json").write_text(SERVEGEN_LAWS)
    monkeypatch.chdir(tmp_path)

    def build(family: str, kind: str) -> Any:
        return kinds(family)[kind](**EXAMPLES[family][kind][0])

    return build


def load_of(arrivals: Arrivals, **limits: Any) -> ClassLoad:
    if isinstance(arrivals, TraceArrivals):
        return ClassLoad("chat", arrivals, None, seed=1)
    return ClassLoad("chat", arrivals, FIXED, seed=1, **({"num_requests": 20_000} | limits))


@pytest.mark.parametrize("family", EXAMPLES)
def test_every_registered_kind_has_an_example(family):
    own = {kind for kind, cls in kinds(family).items() if cls.__module__.startswith("servesim.")}
    assert own == set(EXAMPLES[family])


@pytest.mark.parametrize(("family", "kind"), [(family, kind) for family in EXAMPLES for kind in EXAMPLES[family]])
def test_specification(example, family, kind):
    """Frozen, closed to unknown keys, documented, and the same after JSON, by itself and as a scenario's field."""
    spec: KindSpec = example(family, kind)
    assert type(spec).model_validate_json(spec.model_dump_json()) == spec
    assert hash(spec) == hash(spec.model_copy())
    bases = {"arrivals": Arrivals, "count": Count, "rate": RateFunction, "length": Length, "joint_length": JointLengths}
    field = TypeAdapter(Annotated[bases[family], Kind(family)])
    parsed = field.validate_python({"kind": kind} | EXAMPLES[family][kind][0])
    assert parsed == spec
    assert field.validate_json(spec.model_dump_json()) == spec
    with pytest.raises(ValidationError):
        type(spec)(**EXAMPLES[family][kind][0], no_such_key=1)
    with pytest.raises(ValidationError):
        spec.kind = "other"
    assert type(spec).__doc__
    field.json_schema()


@pytest.mark.parametrize("kind", [kind for kind in ARRIVALS if kind not in ("closed_loop", "sessions")])
def test_open_arrivals(example, kind):
    arrivals = example("arrivals", kind)
    blocks = list(load_of(arrivals).blocks())
    assert blocks == list(load_of(arrivals).blocks())
    for block in blocks:
        assert len(block.arrival_s) == len(block.prompt_tokens) == len(block.output_tokens) >= 1
        assert {type(value) for value in block.arrival_s} == {float}
        assert {type(value) for value in block.prompt_tokens + block.output_tokens} == {int}
        assert min(block.prompt_tokens) >= 1
        assert min(block.output_tokens) >= 1
    times = list(chain.from_iterable(block.arrival_s for block in blocks))
    assert times[0] >= 0
    assert all(before <= after for before, after in pairwise(times))
    if isinstance(arrivals, TimedArrivals):
        assert len(times) == 20_000


@pytest.mark.parametrize("kind", [kind for kind, (_, rate) in ARRIVALS.items() if rate])
def test_mean_rate(example, kind):
    """The count in a fixed time is within four standard errors of rate * time (the renewal central limit)."""
    rate = ARRIVALS[kind][1]
    duration_s = 200_000 / rate
    load = load_of(example("arrivals", kind), num_requests=None, duration_s=duration_s)
    count = sum(len(block.arrival_s) for block in load.blocks())
    assert abs(count - 200_000) <= 4 * math.sqrt(DISPERSION[kind] * 200_000) + 1


@pytest.mark.parametrize("kind", COUNTS)
def test_counts(example, kind):
    law: Count = example("count", kind)
    draws = law.draw(stream(3, "counts"), 100_000)
    assert np.array_equal(draws, law.draw(stream(3, "counts"), 100_000))
    assert draws.shape == (100_000,)
    assert draws.dtype == np.int64
    assert draws.min() >= 1
    _, mean, deviation = COUNTS[kind]
    assert abs(draws.mean() - mean) <= 4 * deviation / math.sqrt(100_000)
    assert draws.std() == pytest.approx(deviation, rel=0.02)


@pytest.mark.parametrize("kind", RATES)
def test_rates_are_inverted(example, kind):
    """Where the integral of the rate reaches a number, by arithmetic and in between by order."""
    rate: RateFunction = example("rate", kind)
    times_s, expected = map(np.array, zip(*RATES[kind][1], strict=True))
    assert rate.when(expected.astype(float)) == pytest.approx(times_s, rel=1e-12)
    fine = rate.when(np.linspace(0, float(expected[-1]), 10_001))
    assert fine[0] == 0
    assert (np.diff(fine) >= 0).all()


@pytest.mark.parametrize("kind", LENGTHS)
def test_lengths(example, kind):
    law: Length = example("length", kind)
    draws = law.draw(stream(3, "lengths"), 100_000)
    assert np.array_equal(draws, law.draw(stream(3, "lengths"), 100_000))
    assert draws.shape == (100_000,)
    assert draws.dtype == np.int64
    assert draws.min() >= 1
    _, mean, deviation = LENGTHS[kind]
    assert abs(draws.mean() - mean) <= 4 * deviation / math.sqrt(100_000)
    assert draws.std() == pytest.approx(deviation, rel=0.02)


@pytest.mark.parametrize("kind", JOINT)
def test_joint_lengths(example, kind):
    law: JointLengths = example("joint_length", kind)
    pair = law.draw(stream(3, "lengths"), 100_000)
    again = law.draw(stream(3, "lengths"), 100_000)
    _, means, deviations = JOINT[kind]
    for draws, same, mean, deviation in zip(pair, again, means, deviations, strict=True):
        assert np.array_equal(draws, same)
        assert draws.dtype == np.int64
        assert draws.min() >= 1
        assert abs(draws.mean() - mean) <= 4 * deviation / math.sqrt(100_000)
        assert draws.std() == pytest.approx(deviation, rel=0.02)
    capped = law.model_copy(update={"max_total_tokens": 14}).draw(stream(3, "lengths"), 1000)
    assert max(np.add(*capped)) == 14
    assert min(map(min, capped)) >= 1


def test_closed_loop_thinks(example):
    clients = example("arrivals", "closed_loop")
    rng = stream(5, "think", "chat", 0)
    thinks = [clients.think_s(rng) for _ in range(20_000)]
    assert abs(np.mean(thinks) - 0.5) <= 4 * 0.5 / math.sqrt(20_000)
    assert np.var(thinks) == pytest.approx(0.25, rel=0.1)
    assert {type(value) for value in thinks} == {float}
    patient = clients.model_copy(update={"think": "constant", "start_stagger_s": 0.25})
    assert patient.think_s(rng) == 0.5
    assert [patient.first_request_s(client) for client in range(3)] == [0.0, 0.25, 0.5]


def test_all_at_once_is_at_once(example):
    block = next(load_of(example("arrivals", "all_at_once")).blocks())
    assert set(block.arrival_s) == {2.5}


def test_constant_gaps_do_not_drift(example):
    times = chain.from_iterable(block.arrival_s for block in load_of(example("arrivals", "constant")).blocks())
    assert all(time == n / 7.0 for n, time in enumerate(islice(times, 20_000), 1))
