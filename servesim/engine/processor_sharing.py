"""Processor sharing: all requests are served at once, each at an equal share of one server's speed."""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush
from math import inf
from typing import ClassVar, Literal

from pydantic import Field

from servesim.engine.base import EngineSpec, Replica, Site, Surroundings
from servesim.engine.station_plan import StationPlan, station_plan
from servesim.engine.whole_requests import Holding
from servesim.metrics.record import ReplicaRecord
from servesim.metrics.spool import Spool
from servesim.registry import register
from servesim.request import GONE, LEAVING, WAITING, Request
from servesim.service_time.law import Sampler
from servesim.system.clock import DEPARTURE, Alarm


@register("engine")
class ProcessorSharing(EngineSpec):
    """One server whose speed is shared equally by all requests in service: the fluid limit of continuous batching.

    With `max_num_seqs` this is limited processor sharing: whoever comes when so many are served waits, first come first
    served. Without, the mean sojourn of M/G/1 is E[S] / (1 - load) whatever the law of the work (Kleinrock, "Queueing
    Systems" vol. 2, 1976).
    """

    theory: ClassVar[bool] = True
    kind: Literal["processor_sharing"] = "processor_sharing"
    max_num_seqs: int | None = Field(None, ge=1, description="requests in service at once; null: no limit")

    def resolve(self, site: Site) -> StationPlan:
        """Return the plan; the pool's service time must be a law."""

        def make(around: Surroundings, index: int, work_s: Sampler) -> Replica:
            return SharingReplica(self, around, index, work_s)

        return station_plan(self, site, make)


class SharingReplica(Holding):
    """One shared server at run time.

    Every request in service has received the same amount since it began, so each ends when the amount handed out to
    everyone (`_given_s`) reaches what it was at the beginning plus its work: a heap of those ends is all there is.
    """

    def __init__(self, spec: ProcessorSharing, around: Surroundings, index: int, work_s: Sampler) -> None:
        super().__init__(around, index, servers=1, max_batch=spec.max_num_seqs or inf)
        self._work_s = work_s
        self._works = Spool(("request_id", "work_s"))
        self._most = spec.max_num_seqs or inf
        self._alarm = Alarm(self._first_ends, DEPARTURE)
        self._given_s = self._since_s = self._row_start_s = 0.0
        self._ends: list[tuple[float, int, Request]] = []
        self._queue: deque[Request] = deque()

    @property
    def outstanding(self) -> int:
        """Requests waiting or in service."""
        return len(self._ends) + len(self._queue)

    def spools(self) -> list[Spool]:
        """Return the logs that grow as the replica works."""
        return [*super().spools(), self._works]

    def log(self) -> ReplicaRecord:
        """Return what the replica did."""
        record = super().log()
        record.works = self._works
        return record

    def submit(self, request: Request, computed_tokens: int = 0) -> None:
        """Take a request into service now if there is room, else queue it."""
        request.replica = self.index
        request.work_s = self._work_s(request)
        if len(self._ends) < self._most:
            self._give()
            self._start(request)
            self._arm()
        else:
            request.stage = WAITING
            self._queue.append(request)

    def cancel(self, request: Request, outcome: int) -> None:
        """End a request with `outcome` now, waiting or in service."""
        if request.stage == GONE:
            return
        request.outcome = outcome
        request.cancelled_s = self._clock.now_s
        if request.stage == WAITING:
            self._queue.remove(request)
            self.left(request)
            return
        self._give()
        self._ends = [end for end in self._ends if end[2] is not request]
        heapify(self._ends)
        self._log_row(0, 0)
        self.left(request)
        self._fill()

    def _give(self) -> None:
        """Hand out what was served since the last change."""
        now_s = self._clock.now_s
        if self._ends:
            self._given_s += (now_s - self._since_s) / len(self._ends)
        else:
            self._row_start_s = now_s
        self._since_s = now_s

    def _start(self, request: Request) -> None:
        self._works.add((request.request_id, request.work_s))
        request.stage = LEAVING
        request.first_scheduled_s = self._clock.now_s
        heappush(self._ends, (self._given_s + request.work_s, request.request_id, request))

    def _arm(self) -> None:
        if self._ends:
            left_s = max(self._ends[0][0] - self._given_s, 0.0)
            self._clock.arm(self._alarm, self._clock.now_s + left_s * len(self._ends))
        else:
            self._alarm.cancel()
            self._given_s = 0.0  # an idle server starts afresh, so that rounding cannot add up

    def _first_ends(self) -> None:
        self._since_s = self._clock.now_s
        self._given_s, _, request = heappop(self._ends)
        self._log_row(1, request.prompt_tokens)
        self.answer(request, self._clock.now_s)
        self._fill()

    def _fill(self) -> None:
        """Let the queue in where there is room now, and wait for the next end."""
        while self._queue and len(self._ends) < self._most:
            self._start(self._queue.popleft())
        self._arm()

    def _log_row(self, requests: int, prompt_tokens: int) -> None:
        now_s = self._clock.now_s
        self.log_service(self._row_start_s, now_s - self._row_start_s, requests, prompt_tokens)
        self._row_start_s = now_s
