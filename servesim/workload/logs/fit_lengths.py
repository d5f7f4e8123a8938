"""From a log's lengths, in their order, to a joint table or to several in shares that change along the requests."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from servesim import rng as random_streams
from servesim.workload.base import FloatArray, IntArray
from servesim.workload.fitting import fit_joint
from servesim.workload.lengths.drifting_mix import DriftingMixLengths
from servesim.workload.lengths.joint_quantiles import JointQuantilesLengths, JointTable
from servesim.workload.logs.choice import Candidate, chosen
from servesim.workload.logs.stationarity import shrunk_rates

_STRETCHES = (1, 2, 4, 8)
_RANGES = ((1, 1), (3, 1), (5, 1), (8, 1), (1, 3), (2, 2), (3, 2), (4, 3))  # of the prompt, of the output in each
_MAX_PARTS = 16
_MIN_PER_WINDOW = 8  # requests, so that a share is no row of the log
_MIN_PER_PART = 50
_MAX_SHARES = 1500  # numbers in the part
_SCALES = 10
_DRAWS = 3

Lengths = JointQuantilesLengths | DriftingMixLengths


def fit_lengths(prompt: IntArray, output: IntArray) -> Lengths:
    """Return the law of the lengths of a log's requests in their order, each of shape (n,).

    The variance of the sums of prompt tokens, output tokens and squared prompt tokens (long prompts in a heap make the
    tail of TTFT) over so many requests in a row is compared with the log's, from 2 requests to a twentieth of them.
    """
    scales = np.unique(np.geomspace(2, max(len(prompt) / 20, 3), _SCALES).astype(np.int64))
    return chosen(_candidates(prompt, output, scales), run_variances(prompt, output, scales))


def run_variances(prompt: IntArray, output: IntArray, scales: IntArray) -> FloatArray:
    """Return the variance of sums over runs of requests: shape (3, scales), of prompt, output and squared prompt."""
    found = []
    for tokens in (prompt, output, 1.0 * prompt**2):
        total = np.concatenate(([0.0], np.cumsum(tokens, dtype=np.float64)))
        found.append([max(float(np.diff(total[::scale]).var()), 1e-12) for scale in scales])
    return np.array(found)


def _candidates(prompt: IntArray, output: IntArray, scales: IntArray) -> Iterator[Candidate[Lengths]]:
    plain = JointQuantilesLengths(**dict(_table(prompt, output, 1)))
    yield Candidate(plain, _drawn(plain, len(prompt), scales), 0)
    for stretches in _STRETCHES:
        # So many windows in a stretch that none is too small and the last stretch is at most a quarter shorter.
        most = int(min(len(prompt) / (stretches * _MIN_PER_WINDOW), len(prompt) / (2 * stretches) ** 2))
        finest = 2 ** max(0, most.bit_length() - 1)
        length = finest * -(-len(prompt) // (stretches * finest))
        for ranges in _RANGES:
            parts = stretches * ranges[0] * ranges[1]
            groups = _parts(prompt, output, length, ranges) if 1 < parts <= _MAX_PARTS else []
            if len(groups) < parts:
                continue
            tables = tuple(_table(prompt[group], output[group], parts // stretches) for group in groups)
            windows = 1 if parts == stretches else 4
            while windows <= finest and windows * stretches * parts <= _MAX_SHARES:
                shares = _shares(groups, len(prompt), length, length // windows)
                law = DriftingMixLengths(window_requests=length // windows, parts=tables, shares=shares)
                yield Candidate(law, _drawn(law, len(prompt), scales), _size(law))
                windows = 2 * windows if parts > stretches else finest + 1


def _parts(prompt: IntArray, output: IntArray, length: int, ranges: tuple[int, int]) -> list[IntArray]:
    """Return the positions of every part's requests, stretch of `length` requests by stretch, ranges within each."""
    groups = []
    for start in range(0, len(prompt), length):
        inside = slice(start, start + length)
        groups += [start + group for group in _groups(prompt[inside], output[inside], *ranges)]
    return groups


def _shares(groups: list[IntArray], n: int, length: int, window_requests: int) -> tuple[tuple[float, ...], ...]:
    """Return the share of each part in every window, the noise of counting taken out; 0 outside its stretch."""
    windows, in_stretch = -(-n // window_requests), length // window_requests
    shares = np.zeros((windows, len(groups)))
    for part, group in enumerate(groups):
        start = int(group[0]) // length * in_stretch
        counts = np.bincount(group // window_requests, minlength=windows)[start : start + in_stretch]
        # Of n requests a part with share p has p * n with variance p * (1 - p) * n: smoother than Poisson by 1 - p.
        share = len(group) / min(length, n - start * window_requests)
        shares[start : start + in_stretch, part] = shrunk_rates(counts, window_requests, 1 / max(1e-6, 1 - share))
    shares /= shares.sum(axis=1, keepdims=True)
    return tuple(tuple(round(value, 3) for value in row) for row in shares.tolist())


def _size(law: DriftingMixLengths) -> int:
    tables = sum(2 * (len(table.prompt_cdf) + sum(len(row.cdf) for row in table.output)) for table in law.parts)
    return len(law.shares) * len(law.parts) + tables


def _drawn(law: Lengths, n: int, scales: IntArray) -> FloatArray:
    draws = (law.draw(random_streams.stream(seed, "lengths", "fit"), n) for seed in range(_DRAWS))
    return np.array([run_variances(prompt, output, scales) for prompt, output in draws])


def _table(prompt: IntArray, output: IntArray, parts: int) -> JointTable:
    ranges = max(2, min(max(4, 12 // parts), len(prompt) // 100))
    law = fit_joint(prompt, output, prompt_ranges=ranges, prompt_tolerance=0.005, output_tolerance=0.02)
    return JointTable(prompt_cdf=law.prompt_cdf, output=law.output)


def _groups(prompt: IntArray, output: IntArray, prompt_ranges: int, output_ranges: int) -> list[IntArray]:
    """Return the positions of each part's requests: ranges of the prompt, in each of them of the output.

    Ranges have about equal sums of tokens. Fewer groups than asked for are returned where some would be too small.
    """
    everything = np.arange(len(prompt))
    groups = [
        group
        for by_prompt in _ranges(everything, prompt, prompt_ranges)
        for group in _ranges(by_prompt, output, output_ranges)
    ]
    return [group for group in groups if len(group) >= _MIN_PER_PART]


def _ranges(positions: IntArray, tokens: IntArray, parts: int) -> list[IntArray]:
    """Return the positions split into ranges of their token counts, each with about the same sum."""
    counts = np.sort(tokens[positions])
    share = np.cumsum(counts) / counts.sum()
    edges = np.unique([counts[np.searchsorted(share, part / parts)] for part in range(1, parts)])
    member = np.searchsorted(edges, tokens[positions], side="left")
    return [positions[member == index] for index in range(len(edges) + 1)]
