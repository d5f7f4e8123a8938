"""From device time to the time between iteration boundaries: host time, and the shape of a run.

A *run* is a sequence of iterations with an unchanged batch. Its j-th boundary lies at

    start + j * (first + bend * (j - 1))

where `first` is the duration of its first iteration and `2 * bend` what each iteration adds because the contexts
grow. Both engines take every boundary from this one expression, so that ties fall the same way in both.
"""

from __future__ import annotations

from math import sqrt

from servesim.service_time.base import IterationTime
from servesim.service_time.noise import IterationNoise

# The time line of a run: (first_s, bend_s, exposed_first_s, exposed_bend_s, limit_tokens). `exposed_*` have the same
# form and say how much of it the device waits for the host. A plain tuple, because one is made for every run.
Shape = tuple[float, float, float, float, float]


def boundary_s(start_s: float, first_s: float, bend_s: float, j: int) -> float:
    """Return the time of the j-th boundary of a run that began at `start_s`."""
    return start_s + j * (first_s + bend_s * (j - 1))


def iterations_until(start_s: float, first_s: float, bend_s: float, time_s: float, inclusive: bool) -> int:
    """Return the smallest j >= 0 whose boundary is at or after `time_s` (strictly after unless `inclusive`).

    The root of the quadratic gives a first guess; the comparison itself uses `boundary_s`, so that rounding never
    puts an arrival on the wrong side of a boundary.
    """
    elapsed = time_s - start_s
    if elapsed <= 0.0 and (inclusive or elapsed < 0.0):
        return 0
    linear = first_s - bend_s
    denominator = linear + sqrt(linear * linear + 4.0 * bend_s * elapsed)
    j = int(2.0 * elapsed / denominator) if denominator > 0.0 else 0
    # boundary_s is written out four times: an arrival asks this, and a call costs as much as the arithmetic.
    if inclusive:
        while start_s + j * (first_s + bend_s * (j - 1)) < time_s:
            j += 1
        while j > 0 and start_s + (j - 1) * (first_s + bend_s * (j - 2)) >= time_s:
            j -= 1
    else:
        while start_s + j * (first_s + bend_s * (j - 1)) <= time_s:
            j += 1
        while j > 0 and start_s + (j - 1) * (first_s + bend_s * (j - 2)) > time_s:
            j -= 1
    return j


class Timing:
    """Durations between iteration boundaries for one replica.

    Synchronous scheduling: the device waits while the host updates and schedules, so an iteration takes host plus
    device time. One-ahead (vLLM's `async_scheduling`): the host prepares the next batch while this one runs, so an
    iteration takes the longer of the two; only after an idle spell is the host's work not hidden.
    """

    __slots__ = ("_host_per_seq_s", "_host_s", "_noise", "_one_ahead", "_times")

    def __init__(
        self,
        times: IterationTime,
        host_s: float,
        host_per_seq_s: float,
        one_ahead: bool,
        noise: IterationNoise | None = None,
    ) -> None:
        self._times = times
        self._host_s = host_s
        self._host_per_seq_s = host_per_seq_s
        self._one_ahead = one_ahead
        self._noise = noise

    def decode(self, decode_seqs: int, context_tokens: int, iteration: int) -> Shape:
        """Return the shape of a decode-only run that starts with this batch at this iteration."""
        base, slope, limit = self._times.decode_line(decode_seqs, context_tokens)
        if self._noise is not None:
            factor, iterations = self._noise.at(iteration)
            base, slope = base * factor, slope * factor
            limit = min(limit, context_tokens + decode_seqs * (iterations - 1))
        host = self._host_s + self._host_per_seq_s * decode_seqs
        device = base + slope * context_tokens
        bend = 0.5 * slope * decode_seqs
        if not self._one_ahead:
            return (host + device, bend, host, 0.0, limit)
        if device >= host:
            return (device, bend, 0.0, 0.0, limit)
        if slope > 0.0:
            limit = min(limit, max((host - base) / slope, context_tokens))
        return (host, 0.0, host - device, -bend, limit)

    def mixed(
        self,
        decode_seqs: int,
        context_tokens: int,
        prefill_seqs: int,
        prefill_tokens: int,
        pairs: int,
        cold: bool,
        iteration: int,
    ) -> Shape:
        """Return the shape of a single iteration that holds prefill; `cold` after an idle spell."""
        device = self._times.mixed_s(decode_seqs, context_tokens, prefill_seqs, prefill_tokens, pairs)
        if self._noise is not None:
            device *= self._noise.at(iteration)[0]
        host = self._host_s + self._host_per_seq_s * (decode_seqs + prefill_seqs)
        if cold or not self._one_ahead:
            return host + device, 0.0, host, 0.0, -1.0
        return (device, 0.0, 0.0, 0.0, -1.0) if device >= host else (host, 0.0, host - device, 0.0, -1.0)
