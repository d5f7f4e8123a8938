"""Conversations of several turns."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from servesim.registry import Kind, Spec, register
from servesim.workload.base import MAX_TOKENS, Arrivals, Length, TimedArrivals, timed_below
from servesim.workload.count import CountField

_NESTING = 3


class Interrupt(Spec):
    """Users who stop an answer half-way and ask again: after a time, or after so many tokens."""

    probability: Annotated[float, Field(ge=0, le=1, description="Of stopping an answer, for each turn.")]
    after_s: float | None = Field(
        None, gt=0, le=1e9, description="Mean time from sending to stopping, first token or not."
    )
    after: Annotated[Literal["constant", "exponential"], Field(description="The law of after_s.")] = "constant"
    after_tokens: Annotated[Length, Kind("length")] | None = Field(
        None, description="Law of the tokens seen before stopping; a shorter answer is not stopped."
    )
    then: Annotated[
        Literal["at_once", "think"], Field(description="When the next turn is sent: at once or after a think time.")
    ] = "at_once"

    @model_validator(mode="after")
    def _after_something(self) -> Self:
        if (self.after_s is None) == (self.after_tokens is None):
            raise ValueError("give either after_s or after_tokens")
        return self


@register("arrivals")
class SessionsArrivals(Arrivals):
    """Conversations: each turn sends all that was said so far and a new message, a think time after the last answer.

    `starts` says when sessions start (any timed arrivals) and `turns` how many turns each has. The class's prompt
    lengths are those of the new messages. So the load is open in sessions and closed within one: a slow system is
    asked less often, but by no fewer users (Schroeder, Wierman, Harchol-Balter, "Open versus closed: a cautionary
    tale", NSDI 2006: "partly open").

    Where prompt and answer together would exceed `max_context_tokens`, the session ends before that turn, or, with
    `at_max_context: truncate`, forgets the oldest tokens. A message that is too long by itself is cut, and its answer
    after it. A request that is rejected, times out or fails ends its session.
    """

    model_config = ConfigDict(defer_build=True)
    nesting: ClassVar[int] = _NESTING

    kind: Literal["sessions"] = "sessions"
    starts: Annotated[TimedArrivals, timed_below(_NESTING), Field(description="When sessions start.")]
    turns: Annotated[CountField, Field(description="Law of the turns of a session; a number means exactly that.")]
    think_time_s: Annotated[
        float, Field(ge=0, le=1e6, description="Mean time between an answer and the next message.")
    ] = 0.0
    think: Annotated[Literal["constant", "exponential"], Field(description="The law of the think time.")] = "constant"
    max_context_tokens: int | None = Field(
        None, ge=2, le=MAX_TOKENS, description="Cap on prompt + answer; null: none but the engine's."
    )
    at_max_context: Annotated[
        Literal["end", "truncate"], Field(description="At the cap: end the session, or forget the oldest tokens.")
    ] = "end"
    interrupt: Interrupt | None = Field(None, description="Users who stop an answer and ask again.")
    num_sessions: int | None = Field(None, ge=1, description="Start so many sessions; each is run to its end.")

    @property
    def needs_num_requests(self) -> bool:
        """As for the starts, unless the sessions are counted."""
        return self.starts.needs_num_requests and self.num_sessions is None

    @property
    def ends_by_itself(self) -> bool:
        """True where the sessions are counted."""
        return self.num_sessions is not None
