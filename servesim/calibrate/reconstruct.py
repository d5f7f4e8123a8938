"""The iterations behind a benchmark's token times.

An engine gives every sequence of its batch one token per iteration, all at its end. So tokens that arrive together,
over all clients, are one iteration, and which clients got one says what the batch was: from the outside, every
iteration's composition and duration are known while anything decodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from servesim.calibrate.iterations import Floats, Iterations
from servesim.calibrate.loads import Requests
from servesim.errors import InputError, Problem

Ints = NDArray[np.int64]

_APART = 0.25  # tokens of two iterations are further apart than this share of the usual token gap
_WHOLE = 0.98  # share of requests whose token times must be all there


@dataclass(frozen=True, slots=True)
class _Tokens:
    """All output tokens in order of time: whose, which (0 is the first), when, and in which iteration they came."""

    request: Ints
    index: Ints
    second: Floats
    iteration: Ints


def reconstruct(
    load: Requests, max_num_batched_tokens: int, admission_s: float = 0.0, one_ahead: bool = True
) -> tuple[Iterations, float]:
    """Return the iterations of a load that are known whole, and their share of all that were seen.

    `max_num_batched_tokens` says how prompts are cut into chunks; `admission_s` how long a request takes to the queue;
    under `one_ahead` scheduling a batch is decided when the iteration before it begins. Prompts are taken as computed
    whole: no prefix-cache hits. Raises InputError for a load without token times.
    """
    tokens = _tokens(load)
    count = int(tokens.iteration[-1]) + 1
    order = np.argsort(tokens.iteration, kind="stable")
    starts = np.searchsorted(tokens.iteration[order], np.arange(count))
    end_s = tokens.second[order][starts]  # the first to arrive: a busy client or network only ever delays

    decode = tokens.index > 0
    where = tokens.iteration[decode]
    decode_seqs = np.bincount(where, minlength=count).astype(np.float64)
    before = load.prompt_tokens[tokens.request[decode]] + tokens.index[decode] - 1.0
    context = np.bincount(where, weights=before, minlength=count)
    previous = _previous_iteration(tokens)[decode]
    whole = np.bincount(where, weights=(previous == where - 1), minlength=count) == decode_seqs
    duration_s = np.diff(end_s, prepend=np.nan)

    first = np.full(len(load.start_s), -1, dtype=np.int64)
    first[tokens.request[~decode]] = tokens.iteration[~decode]
    went_on = (decode_seqs > 0) & whole
    begin_s = np.where(went_on, np.append(np.nan, end_s[:-1]), np.nan)
    decided_s = np.append(np.nan, begin_s[:-1]) if one_ahead else begin_s
    chunks = _chunks(load, first, decided_s - admission_s, max_num_batched_tokens - decode_seqs)
    alone = _alone(load, first, max_num_batched_tokens)
    cold = np.zeros(count, dtype=np.bool_)
    cold[first[alone]] = True
    cold &= decode_seqs == 0
    ttft_s = np.zeros(count)
    ttft_s[first[alone]] = load.ttft_s[alone]
    device_s = np.where(cold, ttft_s, duration_s)
    known = (went_on | cold) & (device_s > 0)
    host_s, part = np.full(count, np.nan), np.zeros(count, dtype=np.int64)
    rows = Iterations(*chunks, decode_seqs, context.astype(np.float64), device_s, host_s, cold.astype(np.float64), part)
    return rows[known], float(known.mean())


def _tokens(load: Requests) -> _Tokens:
    if load.token_s is None:
        raise InputError(Problem("has no times of single tokens", file=load.name))
    counts = np.array([len(times) for times in load.token_s])
    if (counts == load.output_tokens).mean() < _WHOLE:
        odd = int((counts != load.output_tokens).sum())
        message = (
            f"in {odd} of {len(counts)} requests the times are fewer or more than the output tokens: the server sends "
            "several at once (speculation, a stream interval), which hides its iterations"
        )
        raise InputError(Problem(message, file=load.name))
    second = np.concatenate(load.token_s)
    request = np.repeat(np.arange(len(counts)), counts)
    index = np.concatenate([np.arange(n) for n in counts])
    gaps = np.diff(second)[np.diff(request) == 0]
    if not len(gaps):
        raise InputError(Problem("no request has two tokens: nothing decodes", file=load.name))
    apart_s = max(_APART * float(np.median(gaps)), 1e-7)
    order = np.argsort(second, kind="stable")
    request, index, second = request[order], index[order], second[order]
    iteration = np.cumsum(np.diff(second, prepend=second[0]) > apart_s)
    return _Tokens(request, index, second, iteration.astype(np.int64))


def _previous_iteration(tokens: _Tokens) -> Ints:
    """Return the iteration of each token's predecessor in its request; -1 for first tokens."""
    found = np.full(len(tokens.request), -1, dtype=np.int64)
    order = np.lexsort((tokens.index, tokens.request))
    follows = tokens.index[order][1:] > 0
    found[order[1:][follows]] = tokens.iteration[order[:-1][follows]]
    return found


def _alone(load: Requests, first: Ints, budget: int) -> NDArray[np.bool_]:
    """Return which requests found the server idle and had it to themselves up to their first token, in one chunk."""
    end_s = load.start_s + load.e2e_s
    last_end_s = np.append(-np.inf, np.maximum.accumulate(end_s)[:-1])
    next_start_s = np.append(load.start_s[1:], np.inf)
    idle = last_end_s < load.start_s
    return idle & (next_start_s > load.start_s + load.ttft_s) & (load.prompt_tokens <= budget) & (first >= 0)


def _chunks(load: Requests, first: Ints, decided_s: Floats, budget: Floats) -> tuple[Floats, Floats, Floats]:
    """Return prefill (tokens, sequences, pairs) of each iteration: first come first served, as far as tokens allow.

    A prompt ends in the iteration of its request's first token. One that waits when an iteration is decided takes what
    the budget leaves, unless it would then have been done: so it was not there yet, and nothing behind it either.
    """
    count = len(budget)
    tokens, seqs, pairs = np.zeros(count), np.zeros(count), np.zeros(count)
    left = load.prompt_tokens.copy()
    queue = [int(r) for r in np.argsort(np.maximum(load.start_s, 0.0), kind="stable") if first[r] >= 0]
    ending: dict[int, list[int]] = {}
    for r in queue:
        ending.setdefault(int(first[r]), []).append(r)
    head = 0
    for i in range(count):
        room = float(budget[i])
        for r in ending.get(i, ()):
            done = load.prompt_tokens[r] - left[r]
            room -= left[r]
            tokens[i] += left[r]
            seqs[i] += 1
            pairs[i] += left[r] * done + left[r] * (left[r] + 1.0) / 2.0
            left[r] = 0.0
        while head < len(queue) and left[queue[head]] == 0.0:
            head += 1
        if room > 0 and head < len(queue):
            r = queue[head]
            if load.start_s[r] <= decided_s[i] and room < left[r]:
                done = load.prompt_tokens[r] - left[r]
                tokens[i] += room
                seqs[i] += 1
                pairs[i] += room * done + room * (room + 1.0) / 2.0
                left[r] -= room
    return tokens, seqs, pairs
