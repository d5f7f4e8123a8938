"""Conservation checks on every run: a simulator that loses a request or a token must say so, not report on it."""

from __future__ import annotations

import numpy as np

from servesim.errors import ServesimError
from servesim.metrics.attempts import Attempts
from servesim.metrics.chunks import Columns, named_chunks
from servesim.metrics.definitions import Floats
from servesim.metrics.itl import decoding_by_row, first_rows
from servesim.metrics.record import PoolRecord, RunRecord
from servesim.request import COMPLETED, ENDS

_TOLERANCE = 1e-9


class RecordError(ServesimError):
    """A run's record contradicts itself: a defect of the simulator or of a plugin, never of the scenario."""


def check(record: RunRecord) -> None:
    """Raise RecordError unless requests, tokens, time and occupancy add up."""
    attempts = Attempts(record, "class_index", "outcome", "arrival_s", "finish_s")
    _check_attempts(attempts)
    _check_requests(record, attempts)
    _check_order(record)
    _check_little(record)
    for pool in record.pools:
        _check_tokens(record, pool)


def _demand(holds: bool | np.bool_, text: str) -> None:
    if not holds:
        raise RecordError(f"conservation check failed: {text}")


def _check_requests(record: RunRecord, attempts: Attempts) -> None:
    """Every attempt has exactly one record, with one way in which it ended; there is one first attempt per offer."""
    request_id, class_index, outcome = record.requests.column("request_id", "class_index", "outcome")
    ordered = np.sort(request_id)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    _demand(not len(twice), f"request {twice[0] if len(twice) else ''} has more than one record")
    _demand(np.isin(outcome, range(len(ENDS))).all(), f"an outcome is none of {', '.join(ENDS)}")
    if record.offered:
        counts = np.bincount(class_index.astype(np.int64), minlength=len(record.classes))
        later = attempts.columns["class_index"][attempts.number > 1]
        counts -= np.bincount(later.astype(np.int64), minlength=len(record.classes))
        for one, offered, count in zip(record.classes, record.offered, counts.tolist(), strict=True):
            _demand(offered == count, f"class {one.name}: {offered} requests offered, {count} recorded")


def _check_attempts(attempts: Attempts) -> None:
    """A request is tried again after its attempt has ended, badly, and by the same class."""
    _demand(len(np.unique(attempts.request_id)) == len(attempts), "an attempt belongs to two requests")
    _demand(not np.isnan(attempts.columns["outcome"]).any(), "an attempt has no record")
    again = attempts.number > 1
    before = {name: attempts.previous(column)[again] for name, column in attempts.columns.items()}
    now = {name: column[again] for name, column in attempts.columns.items()}
    _demand((now["class_index"] == before["class_index"]).all(), "an attempt changes its class")
    _demand((now["arrival_s"] >= before["finish_s"]).all(), "an attempt begins before the one before it ended")
    _demand((before["outcome"] != COMPLETED).all(), "a request that completed is tried again")


def _check_order(record: RunRecord) -> None:
    """No effect before its cause. What a cancelled request had been promised may lie after its end."""
    for chunk in named_chunks(record.requests):
        done = chunk["outcome"] == COMPLETED
        arrival, finish = chunk["arrival_s"], chunk["finish_s"]
        enter, scheduled, first = arrival + chunk["admission_s"], chunk["first_scheduled_s"], chunk["first_token_s"]
        slack = _TOLERANCE * (1 + np.abs(finish))
        _demand((arrival <= finish).all(), "a request ends before it arrives, or never")
        _demand(~(first > finish).any(), "a request ends before its first token")
        for name, earlier, later in (
            ("is scheduled before it is in the queue", enter - slack, scheduled),
            ("has its first token before it is scheduled", scheduled, first),
            ("completes before its first token", first, finish),
        ):
            _demand((earlier <= later)[done].all(), f"a request {name}")


def _check_little(record: RunRecord) -> None:
    """Little's law: requests inside, integrated over time at the door, are the times the records say they spent."""
    spent = ended = 0.0
    for chunk in named_chunks(record.requests):
        spent += float((chunk["finish_s"] - chunk["arrival_s"]).sum())
        ended += float(chunk["finish_s"].sum())
    # The door may keep its books as a difference of two sums of times; the second term is their rounding.
    slack = _TOLERANCE * spent + 1e-12 * ended + _TOLERANCE
    text = f"requests spent {spent!r} s in the system by their records, {record.occupancy_s!r} s as counted at the door"
    _demand(abs(spent - record.occupancy_s) <= slack, text)


def _check_tokens(record: RunRecord, pool: PoolRecord) -> None:
    """Batches and requests agree on every token.

    In each run of iterations as many sequences decode as requests say they did. A request with a first token has that
    one, one per iteration of its decode intervals, and one from each recomputation after a preemption while decoding.
    Prefill computes every prompt once unless something was preempted or cut off. Servers that answer whole requests
    have no decode intervals: their batches hold as many requests, and prompt tokens, as requests say they were in, and
    all tokens are those of completed requests.
    """
    decode_seqs, iterations, prefilled = [], [], 0.0
    for replica in pool.replicas:
        seqs, counts, prefill = replica.runs.column("decode_seqs", "iterations", "prefill_tokens")
        decode_seqs.append(seqs)
        iterations.append(counts)
        prefilled += float((prefill * counts).sum())
    wrong = np.flatnonzero(decoding_by_row(record, pool) != np.concatenate(decode_seqs))
    if len(wrong):
        where = int(np.searchsorted(first_rows(pool), wrong[0], side="right")) - 1
        _demand(False, f"pool {pool.name}, replica {where}: a batch and its requests disagree on who decodes")
    books = _Tokens(record, pool)
    if pool.request_level:
        served = sum(float(replica.runs.column("prefill_seqs")[0].sum()) for replica in pool.replicas)
        text = f"pool {pool.name}: batches held {served:.0f} requests, {books.started} say that they were in one"
        _demand(served == books.started, text)
        text = f"pool {pool.name}: answers have {books.answered:.0f} output tokens"
        _demand(books.generated == books.answered, f"{text}, requests report {books.generated:.0f} generated")
    else:
        _check_iterations(pool, books, decode_seqs, iterations)
    text = (
        f"pool {pool.name}: iterations prefilled {prefilled:.0f} tokens, the requests' prompts have {books.prompts:.0f}"
    )
    _demand(prefilled == books.prompts if books.undisturbed else prefilled >= books.prompts, text)


def _check_iterations(pool: PoolRecord, books: _Tokens, decode_seqs: list[Floats], iterations: list[Floats]) -> None:
    """Iterations make the tokens that requests report."""
    decoded = sum(float((seqs * counts).sum()) for seqs, counts in zip(decode_seqs, iterations, strict=True))
    resumed = sum(len(replica.segments) for replica in pool.replicas)
    text = f"pool {pool.name}: iterations made {decoded + books.started + resumed:.0f} output tokens"
    _demand(decoded + books.started + resumed == books.generated, f"{text}, requests report {books.generated:.0f}")


class _Tokens:
    """What the requests of one pool say of their tokens."""

    def __init__(self, record: RunRecord, pool: PoolRecord) -> None:
        self.generated = self.started = self.prompts = self.answered = 0.0
        self.undisturbed = True
        for chunk in named_chunks(record.requests):
            self._add(chunk, pool)

    def _add(self, chunk: Columns, pool: PoolRecord) -> None:
        replica = chunk["replica"] - pool.first_replica
        ours = (replica >= 0) & (replica < len(pool.replicas))
        started = ours & (chunk["first_row"] >= 0)
        self.generated += float(chunk["generated_tokens"][ours].sum())
        self.started += int(np.count_nonzero(started))
        self.prompts += float(chunk["prompt_tokens"][started].sum())
        cut_off = ~started & ~np.isnan(chunk["first_scheduled_s"])
        self.undisturbed &= not (ours & (cut_off | (chunk["preemptions"] > 0))).any()
        done = ours & (chunk["outcome"] == COMPLETED)
        self.answered += float(chunk["output_tokens"][done].sum())
        short = chunk["generated_tokens"][done] != chunk["output_tokens"][done]
        _demand(not short.any(), f"pool {pool.name}: a request completed with more or fewer tokens than it asked for")
