"""A request on its way through the system, and the ways it can end."""

from __future__ import annotations

from collections.abc import Callable
from math import nan
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from servesim.system.clock import Alarm

# Outcomes: the one terminal state of a request. Plain integers because they are set on the hot path and stored as
# numbers; OUTCOMES names them.
COMPLETED, REJECTED, TIMED_OUT, ABANDONED, CANCELLED, FAILED, PENDING = range(7)
OUTCOMES = ("completed", "rejected", "timed_out", "abandoned", "cancelled", "failed", "pending")
# The ways in which a request can end: the names of outcomes 0, 1, ..., PENDING - 1.
ENDS = OUTCOMES[:PENDING]

# Reasons for a rejection that would be the same the next time: no client tries such a request again.
NEVER_FITS = ("exceeds max_model_len", "needs more KV blocks than the replica has")

# Stages: where a request is inside an engine.
OUTSIDE, ADMISSION, WAITING, PREFILL, DECODE, LEAVING, GONE = range(7)

# What is kept of every request, in this order; all are attributes of Request. Times are absolute seconds, NaN where
# the request never got there. Of a part and its `*_ttft_s`, the latter lies before the first token.
REQUEST_COLUMNS = (
    "request_id",
    "class_index",
    "replica",
    "prompt_tokens",
    "output_tokens",
    "generated_tokens",
    "outcome",
    "arrival_s",
    "admission_s",
    "first_scheduled_s",
    "first_token_s",
    "finish_s",
    "preemptions",
    "preempted_ttft_s",
    "preempted_s",
    "host_ttft_s",
    "host_s",
    "first_row",
    "last_row",
)

_WORKING = (
    "cancelled_s",
    "computed_tokens",
    "done",
    "end_iteration",
    "last_token_s",
    "mark_host_s",
    "mark_s",
    "order",
    "priority",
    "reason",
    "stage",
    "start_host_s",
    "tail",
    "timeout",
    "work_s",
)


class Request:
    """One request: what was asked for, the engine's working state, and what is recorded at the end.

    `tail` is its context minus the engine's iteration index while it decodes, so that the context is known at every
    iteration without being touched. `end_iteration` is the first iteration it is no longer part of. `first_row` and
    `last_row` delimit its latest decode interval on its replica's log of runs. `done` is called once, at the end.
    What a completed request always gets is not set at first (`fill` is for those that end otherwise).
    `session_id` and `turn` are those of a `SessionRequest`; others share these two values.
    """

    session_id: int = -1
    turn: int = 0

    __slots__ = (*REQUEST_COLUMNS, *_WORKING)

    request_id: int
    class_index: int
    replica: int
    prompt_tokens: int
    output_tokens: int
    generated_tokens: int
    outcome: int
    arrival_s: float
    admission_s: float
    first_scheduled_s: float
    first_token_s: float
    finish_s: float
    preemptions: int
    preempted_ttft_s: float
    preempted_s: float
    host_ttft_s: float
    host_s: float
    first_row: int
    last_row: int

    priority: int
    done: Callable[[Request], None]
    timeout: Alarm | None
    reason: str
    stage: int
    computed_tokens: int
    end_iteration: int
    order: int
    tail: int
    cancelled_s: float
    last_token_s: float
    mark_s: float
    mark_host_s: float
    start_host_s: float
    work_s: float

    def __init__(
        self,
        request_id: int,
        class_index: int,
        arrival_s: float,
        prompt_tokens: int,
        output_tokens: int,
        priority: int,
        done: Callable[[Request], None],
    ) -> None:
        self.request_id = request_id
        self.class_index = class_index
        self.arrival_s = arrival_s
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        self.priority = priority
        self.done = done
        self.generated_tokens = 0
        self.outcome = PENDING
        self.stage = OUTSIDE
        self.admission_s = 0.0
        self.preemptions = 0
        self.preempted_ttft_s = self.preempted_s = 0.0
        self.reason = ""
        self.timeout = None

    def row(self) -> tuple[float, ...]:
        """Return the values of REQUEST_COLUMNS. Written out: half the cost of any loop over the names."""
        return (
            self.request_id,
            self.class_index,
            self.replica,
            self.prompt_tokens,
            self.output_tokens,
            self.generated_tokens,
            self.outcome,
            self.arrival_s,
            self.admission_s,
            self.first_scheduled_s,
            self.first_token_s,
            self.finish_s,
            self.preemptions,
            self.preempted_ttft_s,
            self.preempted_s,
            self.host_ttft_s,
            self.host_s,
            self.first_row,
            self.last_row,
        )

    def in_service(self) -> bool:
        """Say whether an engine has taken this request up: from being scheduled first, preempted or not, to its end."""
        return self.stage > WAITING or self.preemptions > 0

    def refuse(self, reason: str, now_s: float) -> None:
        """End as rejected, now and for `reason`."""
        self.reason = reason
        self.outcome = REJECTED
        self.stage = GONE
        self.fill()
        self.finish_s = now_s

    def end_cancelled(self) -> None:
        """End at the time its client left, once the engine holds nothing of it; what came later it never got."""
        self.stage = GONE
        self.fill()
        self.finish_s = self.cancelled_s
        if self.first_token_s > self.cancelled_s:
            self.first_token_s = nan

    def fill(self) -> None:
        """Give what never happened to this request its 'never' value; a completed one has everything."""
        for name in ("first_scheduled_s", "first_token_s", "finish_s"):
            if not hasattr(self, name):
                setattr(self, name, nan)
        for name in ("host_ttft_s", "host_s"):
            if not hasattr(self, name):
                setattr(self, name, 0.0)
        for name in ("replica", "first_row", "last_row"):
            if not hasattr(self, name):
                setattr(self, name, -1)


class SessionRequest(Request):
    """A turn of a conversation: `turn` (from 1) of session `session_id`, for routers and caches that look at it.

    `let_go` is called once the engine holds nothing more of a request that was cancelled or timed out, when it is known
    how many tokens it got.
    """

    __slots__ = ("let_go", "session_id", "turn")

    def __init__(
        self,
        session_id: int,
        turn: int,
        let_go: Callable[[Request], None],
        request_id: int,
        class_index: int,
        arrival_s: float,
        prompt_tokens: int,
        output_tokens: int,
        priority: int,
        done: Callable[[Request], None],
    ) -> None:
        super().__init__(request_id, class_index, arrival_s, prompt_tokens, output_tokens, priority, done)
        self.session_id = session_id
        self.turn = turn
        self.let_go = let_go

    def end_cancelled(self) -> None:
        """End at the time its client left, and say so."""
        super().end_cancelled()
        self.let_go(self)
