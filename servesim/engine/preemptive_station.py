"""A multi-server station whose servers drop what they do for something more urgent, and resume it later."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import ClassVar, Literal

from pydantic import Field

from servesim.engine.base import EngineSpec, Replica, Site, Surroundings
from servesim.engine.station_plan import StationPlan, station_plan
from servesim.engine.whole_requests import Holding
from servesim.registry import register
from servesim.request import GONE, LEAVING, WAITING, Request
from servesim.service_time.law import Sampler
from servesim.system.clock import DEPARTURE, Alarm

Order = Literal["priority", "remaining_work", "last_come"]


@register("engine")
class PreemptiveStation(EngineSpec):
    """Identical servers that always serve the most urgent requests; who is interrupted resumes where it stopped.

    `order` says who is urgent: `priority` (lower numbers, first come first served among equals), `remaining_work`
    (shortest remaining processing time, which minimises the mean sojourn of a single server: Schrage, Operations
    Research 16(3), 1968) or `last_come` (the newest).
    """

    theory: ClassVar[bool] = True
    kind: Literal["preemptive_station"] = "preemptive_station"
    servers: int = Field(1, ge=1, le=1_000_000, description="servers in parallel")
    order: Order = Field("priority", description="who is served first: priority, remaining_work or last_come")

    def resolve(self, site: Site) -> StationPlan:
        """Return the plan; the pool's service time must be a law."""

        def make(around: Surroundings, index: int, work_s: Sampler) -> Replica:
            return PreemptiveReplica(self, around, index, work_s)

        return station_plan(self, site, make)


class _Job:
    """A request and what is left of its work; `start_s` is when its present service began."""

    __slots__ = ("alarm", "arrived", "left_s", "request", "start_s")

    alarm: Alarm
    start_s: float

    def __init__(self, request: Request, arrived: int, work_s: float) -> None:
        self.request = request
        self.arrived = arrived
        self.left_s = work_s


class PreemptiveReplica(Holding):
    """One station at run time. Waiting jobs are a heap by urgency; those in service are few, and scanned."""

    def __init__(self, spec: PreemptiveStation, around: Surroundings, index: int, work_s: Sampler) -> None:
        super().__init__(around, index, servers=spec.servers)
        self._work_s = work_s
        self._order = spec.order
        self._arrived = 0
        self._jobs: dict[Request, _Job] = {}
        self._serving: list[_Job] = []
        self._waiting: list[tuple[float, int, _Job]] = []

    @property
    def outstanding(self) -> int:
        """Requests waiting or in service."""
        return len(self._jobs)

    def submit(self, request: Request, computed_tokens: int = 0) -> None:
        """Serve a request now if a server is idle or does something less urgent, else queue it."""
        request.replica = self.index
        self._arrived += 1
        job = self._jobs[request] = _Job(request, self._arrived, self._work_s(request))
        if len(self._serving) < self._servers:
            self._start(job)
            return
        least = max(self._serving, key=self._rank)
        if self._rank(job) < self._rank(least):
            self._interrupt(least)
            self._start(job)
        else:
            self._wait(job)

    def cancel(self, request: Request, outcome: int) -> None:
        """End a request with `outcome` now, waiting or in service."""
        if request.stage == GONE:
            return
        request.outcome = outcome
        request.cancelled_s = self._clock.now_s
        job = self._jobs.pop(request)
        if request.stage == WAITING:
            self._waiting = [entry for entry in self._waiting if entry[2] is not job]
            heapify(self._waiting)
            self.left(request)
            return
        self._stop(job, 0, 0)
        self.left(request)
        self._next()

    def _rank(self, job: _Job) -> tuple[float, int]:
        """Return what to order by: less is more urgent."""
        if self._order == "priority":
            return job.request.priority, job.arrived
        if self._order == "last_come":
            return -job.arrived, 0
        served_s = self._clock.now_s - job.start_s if job.request.stage == LEAVING else 0.0
        return job.left_s - served_s, job.arrived

    def _wait(self, job: _Job) -> None:
        job.request.stage = WAITING
        heappush(self._waiting, (*self._rank(job), job))

    def _start(self, job: _Job) -> None:
        request, now_s = job.request, self._clock.now_s
        if request.preemptions:
            request.preempted_s += now_s - request.mark_s
        else:
            request.first_scheduled_s = now_s
        request.stage = LEAVING
        job.start_s = now_s
        job.alarm = self._clock.call_at(now_s + job.left_s, lambda: self._ended(job), DEPARTURE)
        self._serving.append(job)

    def _stop(self, job: _Job, requests: int, prompt_tokens: int) -> None:
        """Take a job out of service and log the time it had."""
        served_s = self._clock.now_s - job.start_s
        job.alarm.cancel()
        job.left_s = max(job.left_s - served_s, 0.0)
        self._serving.remove(job)
        self.log_service(job.start_s, served_s, requests, prompt_tokens)

    def _interrupt(self, job: _Job) -> None:
        self._stop(job, 0, 0)
        job.request.preemptions += 1
        job.request.mark_s = self._clock.now_s
        self._wait(job)

    def _ended(self, job: _Job) -> None:
        request = job.request
        del self._jobs[request]
        self._stop(job, 1, request.prompt_tokens)
        request.preempted_ttft_s = request.preempted_s
        self.answer(request, self._clock.now_s)
        self._next()

    def _next(self) -> None:
        if self._waiting:
            self._start(heappop(self._waiting)[2])
