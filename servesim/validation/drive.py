"""One replica of an engine fed with recorded requests: prefix-cache hits and closed-loop users as the record has them.

`servesim validate` replays through whole scenarios; this is for what a scenario cannot say of single requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from servesim.engine.continuous import ContinuousEngine
from servesim.engine.settings import EngineSettings
from servesim.policies.scheduling.fcfs import Fcfs
from servesim.request import COMPLETED, Request
from servesim.service_time.base import IterationTime
from servesim.system.clock import LATE_ARRIVAL, Clock
from servesim.validation.runs import Floats, Run


@dataclass
class _Replay:
    """A recorded run on its way through one engine; requests are numbered as in the record."""

    run: Run
    clock: Clock = field(default_factory=Clock)
    ended: list[Request] = field(default_factory=list)
    next: int = 0

    def connect(self, engine: ContinuousEngine) -> None:
        self.engine = engine

    def send(self, number: int, again: bool = False) -> None:
        """Hand request `number` to the engine now; `again`: its user sends the next one when it has the answer."""
        run = self.run
        done = self._answered if again else lambda request: None
        request = Request(
            number, 0, self.clock.now_s, int(run.prompt_tokens[number]), int(run.output_tokens[number]), 0, done=done
        )
        cached = 0 if run.cached_tokens is None else int(run.cached_tokens[number])
        self.engine.submit(request, min(cached, request.prompt_tokens - 1))

    def _answered(self, request: Request) -> None:
        self.clock.call_at(self.clock.now_s, self.send_next, LATE_ARRIVAL)

    def send_next(self) -> None:
        """Send the next request of the record, if there is one."""
        if self.next < len(self.run):
            self.next += 1
            self.send(self.next - 1, again=True)


def drive(run: Run, settings: EngineSettings, times: IterationTime, users_start_s: Sequence[float] = ()) -> Run:
    """Return the run as one simulated replica would have served it.

    Requests come when they came; with `users_start_s`, when each user of a closed loop sends its first one, every user
    sends the next request of the record at the instant its last one ends.
    """
    replay = _Replay(run)
    replay.connect(ContinuousEngine(replay.clock, 0, settings, Fcfs().live(), times, replay.ended.append))
    if users_start_s:
        for start_s in users_start_s:
            replay.clock.call_at(start_s, replay.send_next)
    else:
        for number, arrival_s in enumerate(run.arrival_s.tolist()):
            replay.clock.call_at(arrival_s, partial(replay.send, number))
    replay.clock.run_until_empty()
    ended = sorted(replay.ended, key=lambda request: request.request_id)

    def column(name: str) -> Floats:
        return np.array([getattr(request, name) for request in ended], dtype=np.float64)

    arrival_s, completed = column("arrival_s"), column("outcome") == COMPLETED
    refused = sorted({request.reason for request in ended if request.outcome != COMPLETED})
    lost = f"{(~completed).sum()} of {len(ended)} requests ({', '.join(refused)})"
    return Run(
        f"{run.name} simulated",
        arrival_s,
        run.prompt_tokens,
        run.output_tokens,
        np.where(completed, column("first_token_s") - arrival_s, np.nan),
        np.where(completed, column("finish_s") - arrival_s, np.nan),
        notes=(f"the simulation did not serve {lost}: they are not compared",) if refused else (),
    )
