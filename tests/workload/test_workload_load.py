"""Streams of requests: stop rules, reproducibility, memory and speed."""

import math
from collections.abc import Iterator
from itertools import chain, islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesim.errors import InputError, ServesimError
from servesim.rng import NumberedStreams
from servesim.workload.arrivals.all_at_once import AllAtOnceArrivals
from servesim.workload.arrivals.closed_loop import ClosedLoopArrivals
from servesim.workload.arrivals.constant import ConstantArrivals
from servesim.workload.arrivals.gamma import GammaArrivals
from servesim.workload.arrivals.mooncake_trace import MooncakeTraceArrivals
from servesim.workload.arrivals.poisson import PoissonArrivals
from servesim.workload.base import IndependentLengths, Length, TimedArrivals
from servesim.workload.lengths.empirical import EmpiricalLengths
from servesim.workload.lengths.fixed import FixedLength
from servesim.workload.lengths.lognormal import LognormalLength
from servesim.workload.lengths.uniform import UniformLength
from servesim.workload.load import OWN_BLOCK, ClassLoad, LengthStream, OwnLengths

POISSON = PoissonArrivals(request_rate_rps=10.0)
PROMPT = LognormalLength(median_tokens=300.0, sigma=1.0, max_tokens=2000, outside="reject")
OUTPUT = UniformLength(min_tokens=1, max_tokens=500)
LENGTHS = IndependentLengths(PROMPT, OUTPUT)


def requests(arrivals=POISSON, lengths=LENGTHS, name="chat", seed=1, **limits):
    blocks = ClassLoad(name, arrivals, lengths, seed=seed, **(limits or {"num_requests": 10_000})).blocks()
    return list(chain.from_iterable(zip(*block, strict=True) for block in blocks))


@pytest.mark.parametrize("count", [1, 4095, 4096, 4097, 10_000])
def test_num_requests_counts_requests(count):
    assert requests(num_requests=count) == requests(num_requests=20_000)[:count]


def test_duration_is_inclusive():
    constant = ConstantArrivals(request_rate_rps=2.0)
    assert [arrival_s for arrival_s, _, _ in requests(constant, duration_s=2.0)] == [0.5, 1.0, 1.5, 2.0]
    assert len(requests(constant, duration_s=np.nextafter(2.0, 0))) == 3
    assert requests(constant, duration_s=0.4) == []


def test_the_first_limit_reached_ends_the_load():
    constant = ConstantArrivals(request_rate_rps=2.0)
    assert len(requests(constant, num_requests=3, duration_s=100.0)) == 3
    assert len(requests(constant, num_requests=100, duration_s=1.0)) == 2
    assert len(requests(AllAtOnceArrivals(at_s=5.0), num_requests=9, duration_s=4.0)) == 0


def test_lengths_do_not_depend_on_arrivals():
    lengths = [request[1:] for request in requests()]
    assert [request[1:] for request in requests(GammaArrivals(request_rate_rps=99.0, burstiness=0.1))] == lengths
    assert [request[1:] for request in requests(AllAtOnceArrivals(), num_requests=10_000)] == lengths
    assert [request[1:] for request in requests(duration_s=50.0)] == lengths[: len(requests(duration_s=50.0))]


def test_one_law_does_not_shift_the_other():
    base = requests()
    other_output = requests(lengths=IndependentLengths(PROMPT, FixedLength(tokens=3)))
    other_prompt = requests(lengths=IndependentLengths(FixedLength(tokens=3), OUTPUT))
    assert [request[:2] for request in other_output] == [request[:2] for request in base]
    assert [request[2] for request in other_prompt] == [request[2] for request in base]


def test_arrivals_prompts_and_outputs_are_independent():
    same_law = {"lengths": IndependentLengths(OUTPUT, OUTPUT), "num_requests": 20_000}
    arrival_s, prompt, output = (np.array(column) for column in zip(*requests(**same_law), strict=True))
    gaps_s = np.diff(arrival_s, prepend=0.0)
    for one, other in ((prompt, output), (gaps_s, prompt), (gaps_s, output)):
        assert abs(np.corrcoef(one, other)[0, 1]) <= 4 / math.sqrt(20_000)


def test_seed_and_class_name_change_everything():
    base = requests()
    for other in (requests(seed=2), requests(name="code")):
        assert sum(a[0] == b[0] for a, b in zip(base, other, strict=True)) == 0
        assert sum(a[1:] == b[1:] for a, b in zip(base, other, strict=True)) < 100


def test_blocks_can_be_read_again():
    load = ClassLoad("chat", POISSON, LENGTHS, seed=1, num_requests=5000)
    assert list(load.blocks()) == list(load.blocks())


@given(portions=st.lists(st.integers(0, 6000), max_size=6))
def test_lengths_taken_in_any_portions(portions):
    whole = LengthStream(LENGTHS, 1, "chat").take(sum(portions))
    stream = LengthStream(LENGTHS, 1, "chat")
    parts = [stream.take(portion) for portion in portions]
    for column in (0, 1):
        assert list(chain.from_iterable(part[column] for part in parts)) == whole[column]


@pytest.mark.parametrize("lengths", [LENGTHS, EmpiricalLengths(rows=((10, 1), (20, 5), (30, 9)))])
def test_owners_have_lengths_of_their_own(lengths):
    """Whoever asks in between, and however often: the same owner, the same lengths."""
    own = OwnLengths(lengths, 1, "chat")
    first, second, later = (list(own.block(owner, number)) for owner, number in ((0, 0), (1, 0), (0, 1)))
    assert len(first) == OWN_BLOCK
    assert first != second != later != first
    again = OwnLengths(lengths, 1, "chat")
    assert [list(again.block(owner, number)) for owner, number in ((0, 1), (1, 0), (0, 0))] == [later, second, first]
    assert list(OwnLengths(lengths, 1, "other").block(0, 0)) != first
    assert list(OwnLengths(lengths, 2, "chat").block(0, 0)) != first


def test_numbered_streams_do_not_overlap_and_come_again():
    streams = NumberedStreams(3, "purpose", "chat")
    draws = {at: streams.at(*at).random(500).tolist() for at in ((0, 0), (0, 1), (1, 0), (10**9, 0))}
    assert len({value for values in draws.values() for value in values}) == 2000
    streams.at(0, 0).standard_normal(7, dtype=np.float32)  # leaves half a word behind
    assert streams.at(1, 0).random(500).tolist() == draws[1, 0]
    flat = np.array([streams.at(number).random() for number in range(20_000)])
    assert abs(flat.mean() - 0.5) <= 4 * math.sqrt(1 / 12 / 20_000)
    assert abs(np.corrcoef(flat[1:], flat[:-1])[0, 1]) <= 4 / math.sqrt(20_000)


def test_independent_lengths_are_capped():
    capped = requests(lengths=IndependentLengths(PROMPT, OUTPUT, max_total_tokens=400))
    for (_, prompt, output), (_, full_prompt, full_output) in zip(capped, requests(), strict=True):
        assert prompt == min(full_prompt, 399)
        assert output == min(full_output, 400 - prompt)


@pytest.mark.parametrize(
    ("arrivals", "lengths", "limits", "message"),
    [
        (POISSON, LENGTHS, {}, "give num_requests or duration_s"),
        (AllAtOnceArrivals(), LENGTHS, {"duration_s": 5.0}, "give num_requests"),
        (POISSON, None, {"num_requests": 5}, "need prompt and output lengths"),
        (MooncakeTraceArrivals(path="trace.jsonl"), LENGTHS, {}, "already fixes the lengths"),
        (ClosedLoopArrivals(max_concurrency=3), LENGTHS, {"num_requests": 5}, "depend on the system"),
    ],
)
def test_impossible_loads_are_refused(arrivals, lengths, limits, message):
    with pytest.raises(InputError, match=message):
        ClassLoad("chat", arrivals, lengths, seed=1, **limits)


@pytest.mark.parametrize("times_s", [[1.0, 0.5], [-1.0, 2.0], [1.0, np.nan], [np.nan, 1.0], [1.0, np.inf]])
def test_a_faulty_arrival_process_is_stopped(times_s):
    class Faulty(TimedArrivals):
        kind: str = "faulty"

        def times(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
            yield np.array(times_s)

    with pytest.raises(ServesimError, match="arrival times"):
        requests(Faulty())


@pytest.mark.parametrize("tokens", [[0] * 4096, [1] * 5])
def test_a_faulty_length_law_is_stopped(tokens):
    class Faulty(Length):
        kind: str = "faulty"

        def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
            return np.array(tokens)

    with pytest.raises(ServesimError, match="length law"):
        requests(lengths=IndependentLengths(PROMPT, Faulty()))


def test_a_million_requests_are_streamed():
    blocks = ClassLoad("chat", POISSON, LENGTHS, seed=1, num_requests=10**9).blocks()
    assert max(len(block.arrival_s) for block in islice(blocks, 20)) <= 4096


def test_joint_lengths_in_a_load():
    pairs = EmpiricalLengths(rows=((10, 1), (20, 2)))
    assert {request[1:] for request in requests(lengths=pairs)} == {(10, 1), (20, 2)}
