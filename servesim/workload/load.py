"""One request class's load: arrivals and lengths joined into a stream of blocks under a stop rule."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator

import numpy as np

from servesim import rng as random_streams
from servesim.errors import InputError, ServesimError
from servesim.workload.base import (
    BLOCK_REQUESTS,
    Arrivals,
    Block,
    FloatArray,
    IndependentLengths,
    IntArray,
    JointLengths,
    TimedArrivals,
    cap_total,
)
from servesim.workload.trace import TraceArrivals, TraceReplay

Lengths = IndependentLengths | JointLengths

OWN_BLOCK = 16
"""Requests of one client or session drawn at a time: more than most sessions have, few enough for many clients."""


def length_blocks(
    lengths: Lengths, seed: int, class_name: str, block_requests: int = BLOCK_REQUESTS
) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield (prompt, output) token counts of `class_name` without end, `block_requests` at a time.

    Request n has the same lengths whatever arrives when and however many are taken: blocks are always drawn whole.
    Independent prompt and output laws have a stream each, so changing one leaves the other's draws alone.
    """
    if isinstance(lengths, JointLengths):
        pairs_rng = random_streams.stream(seed, "lengths", class_name)
        first = 0
        while True:
            yield _checked(lengths.draw(pairs_rng, block_requests, first), block_requests, class_name)
            first += block_requests
    prompt_rng = random_streams.stream(seed, "lengths", class_name, "prompt")
    output_rng = random_streams.stream(seed, "lengths", class_name, "output")
    while True:
        prompt = lengths.prompt.draw(prompt_rng, block_requests)
        output = lengths.output.draw(output_rng, block_requests)
        yield _checked(cap_total(prompt, output, lengths.max_total_tokens), block_requests, class_name)


def _checked(pair: tuple[IntArray, IntArray], n: int, class_name: str) -> tuple[IntArray, IntArray]:
    # Laws may come from third parties; a zero or a missing length would corrupt the engine's counters silently.
    if any(tokens.shape != (n,) or tokens.min() < 1 for tokens in pair):
        raise ServesimError(f"class {class_name!r}: a length law drew a token count below 1 or too few of them")
    return pair


class LengthStream:
    """Request lengths of one class in order, taken in any portions."""

    def __init__(self, lengths: Lengths, seed: int, class_name: str) -> None:
        self._blocks = length_blocks(lengths, seed, class_name)
        self._prompt = self._output = np.empty(0, dtype=np.int64)
        self._next = 0

    def take(self, n: int) -> tuple[list[int], list[int]]:
        """Return the next `n` requests' prompt and output tokens."""
        prompt: list[int] = []
        output: list[int] = []
        while len(prompt) < n:
            if self._next == len(self._prompt):
                self._prompt, self._output = next(self._blocks)
                self._next = 0
            end = min(len(self._prompt), self._next + n - len(prompt))
            prompt += self._prompt[self._next : end].tolist()
            output += self._output[self._next : end].tolist()
            self._next = end
        return prompt, output


class OwnLengths:
    """Request lengths by owner (a closed loop's client, a session) and the owner's own count of requests.

    Request n of an owner has the same lengths whatever the other owners do: each has streams of its own.
    """

    def __init__(self, lengths: Lengths, seed: int, class_name: str) -> None:
        self._lengths = lengths
        self._class_name = class_name
        self._prompt = random_streams.NumberedStreams(seed, "lengths", class_name, "own", "prompt")
        self._output = random_streams.NumberedStreams(seed, "lengths", class_name, "own", "output")

    def block(self, owner: int, number: int) -> Iterator[tuple[int, int]]:
        """Return (prompt, output) tokens of the owner's OWN_BLOCK requests from number * OWN_BLOCK on."""
        lengths = self._lengths
        if isinstance(lengths, JointLengths):
            pair = lengths.draw(self._prompt.at(owner, number), OWN_BLOCK, number * OWN_BLOCK)
        else:
            prompt = lengths.prompt.draw(self._prompt.at(owner, number), OWN_BLOCK)
            output = lengths.output.draw(self._output.at(owner, number), OWN_BLOCK)
            pair = cap_total(prompt, output, lengths.max_total_tokens)
        prompt, output = _checked(pair, OWN_BLOCK, self._class_name)
        return zip(prompt.tolist(), output.tolist(), strict=True)


class ClassLoad:
    """The requests of one open-loop or replayed class, streamed.

    `num_requests` counts requests; an arrival strictly after `duration_s` is not offered. Where both are given the
    first to be reached ends the load. A trace also ends with its file. The arrivals draw from the stream
    ("arrivals", class_name) and the lengths from ("lengths", class_name, ...), so that neither shifts the other.

    Raises InputError where nothing would end the load, where a timed kind has no lengths or a trace has some, and
    for `closed_loop`, whose times only the simulated system can know.
    """

    def __init__(
        self,
        class_name: str,
        arrivals: Arrivals,
        lengths: Lengths | None,
        *,
        seed: int,
        num_requests: int | None = None,
        duration_s: float | None = None,
    ) -> None:
        self.class_name = class_name
        self.arrivals = arrivals
        self.lengths = lengths
        self.seed = seed
        self.num_requests = num_requests
        self.duration_s = duration_s
        self._replay: TraceReplay | None = None
        self._check()

    def _check(self) -> None:
        name, kind = self.class_name, self.arrivals.kind
        if isinstance(self.arrivals, TraceArrivals):
            if self.lengths is not None:
                raise InputError(f"class {name!r}: the trace already fixes the lengths, so give none")
            return
        if not isinstance(self.arrivals, TimedArrivals):
            raise InputError(f"class {name!r}: {kind!r} arrivals depend on the system and cannot be listed ahead")
        if self.lengths is None:
            raise InputError(f"class {name!r}: {kind!r} arrivals need prompt and output lengths")
        if self.num_requests is None and (self.duration_s is None or self.arrivals.needs_num_requests):
            choice = "num_requests" if self.arrivals.needs_num_requests else "num_requests or duration_s"
            raise InputError(f"class {name!r}: {kind!r} arrivals never end by themselves: give {choice}")

    @property
    def dropped_zero_output(self) -> int:
        """Trace rows left out so far because they generate no token."""
        return 0 if self._replay is None else self._replay.dropped_zero_output

    def blocks(self) -> Iterator[Block]:
        """Yield the requests in order of arrival, in non-empty blocks; each call starts afresh."""
        if isinstance(self.arrivals, TraceArrivals):
            self._replay = self.arrivals.joint(self.seed, self.class_name)
            source: Iterator[Block] = self._replay
        else:
            source = self._timed_blocks()
        return self._limited(source)

    def _timed_blocks(self) -> Iterator[Block]:
        assert isinstance(self.arrivals, TimedArrivals)
        assert self.lengths is not None
        arrivals_rng = random_streams.stream(self.seed, "arrivals", self.class_name)
        lengths = LengthStream(self.lengths, self.seed, self.class_name)
        last_s = 0.0
        for times_s in self.arrivals.times(arrivals_rng):
            self._check_times(times_s, last_s)
            last_s = float(times_s[-1])
            yield Block(times_s.tolist(), *lengths.take(len(times_s)))

    def _check_times(self, times_s: FloatArray, last_s: float) -> None:
        # Written so that a NaN fails every comparison.
        in_order = bool(np.all(times_s[1:] >= times_s[:-1])) and times_s[0] >= last_s and times_s[-1] < math.inf
        if not in_order:
            raise ServesimError(f"class {self.class_name!r}: arrival times decrease, are negative or are not finite")

    def _limited(self, source: Iterator[Block]) -> Iterator[Block]:
        left = math.inf if self.num_requests is None else self.num_requests
        for block in source:
            keep = int(min(left, self._offered(block.arrival_s)))
            if keep < len(block.arrival_s):
                if keep:
                    yield Block(block.arrival_s[:keep], block.prompt_tokens[:keep], block.output_tokens[:keep])
                return
            yield block
            left -= keep
            if left == 0:
                return

    def _offered(self, arrival_s: list[float]) -> int:
        return len(arrival_s) if self.duration_s is None else bisect_right(arrival_s, self.duration_s)
