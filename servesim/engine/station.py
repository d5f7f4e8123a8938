"""A plain multi-server station: each request takes one server for its whole work."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from servesim.engine.base import EngineSpec, Replica, Site, Surroundings
from servesim.engine.station_plan import StationPlan, station_plan
from servesim.engine.whole_requests import Holding
from servesim.policies.scheduling.base import Scheduler
from servesim.policies.scheduling.fcfs import Fcfs
from servesim.registry import Kind, Named, register
from servesim.request import GONE, LEAVING, WAITING, Request
from servesim.service_time.law import Sampler
from servesim.system.clock import DEPARTURE, Alarm


@register("engine")
class Station(EngineSpec):
    """A station of queueing theory: `servers` identical servers, one queue, one server per request until it is done.

    M/M/c, M/G/c, M/M/c/K, Erlang's loss system and their relatives. The queue's order is the `scheduler`'s. A request
    that is cancelled in service frees its server at once.
    """

    theory: ClassVar[bool] = True
    kind: Literal["station"] = "station"
    servers: Annotated[int, Field(ge=1, le=1_000_000)] | Literal["unlimited"] = Field(
        1, description="servers in parallel"
    )
    max_in_system: int | None = Field(
        None, ge=1, description="waiting and in service; who comes when so many are there is rejected; null: no limit"
    )
    scheduler: Annotated[Scheduler, Kind("scheduler"), Named] = Field(
        default_factory=Fcfs, description="order of the waiting queue"
    )

    def resolve(self, site: Site) -> StationPlan:
        """Return the plan; the pool's service time must be a law."""

        def build(around: Surroundings, index: int, work_s: Sampler) -> Replica:
            return StationReplica(self, around, index, work_s)

        return station_plan(self, site, build)


class _Server:
    """One server: the request in it, and the alarm for its end."""

    __slots__ = ("alarm", "request")

    request: Request

    def __init__(self, ended: Callable[[_Server], None], priority: int) -> None:
        self.alarm = Alarm(lambda: ended(self), priority)


class StationReplica(Holding):
    """One station at run time."""

    def __init__(self, spec: Station, around: Surroundings, index: int, work_s: Sampler) -> None:
        super().__init__(around, index, servers=inf if spec.servers == "unlimited" else spec.servers)
        self._work_s = work_s
        self._scheduler = spec.scheduler.live()
        self._scheduler.start()
        self._most = inf if spec.max_in_system is None else spec.max_in_system
        self._can_start = self._servers
        self._waiting = 0
        self._idle: list[_Server] = []
        self._serving: dict[Request, _Server] = {}

    @property
    def outstanding(self) -> int:
        """Requests waiting or in service."""
        return self._waiting + len(self._serving)

    def submit(self, request: Request, computed_tokens: int = 0) -> None:
        """Take a request into service now, or queue it, or reject it."""
        request.replica = self.index
        request.work_s = self._work_s(request)
        if len(self._serving) + self._waiting >= self._most:
            self.refuse(request, "max_in_system requests are there")
        elif self._can_start:
            self._start(request)
        else:
            request.stage = WAITING
            self._scheduler.add(request)
            self._waiting += 1

    def cancel(self, request: Request, outcome: int) -> None:
        """End a request with `outcome` now, waiting or in service."""
        if request.stage == GONE:
            return
        request.outcome = outcome
        request.cancelled_s = self._clock.now_s
        if request.stage == WAITING:
            self._scheduler.remove(request)
            self._waiting -= 1
            self.left(request)
            return
        server = self._serving.pop(request)
        server.alarm.cancel()
        self.broken_off(request)
        self._next(server)

    def _start(self, request: Request) -> None:
        self._can_start -= 1
        now_s = self._clock.now_s
        server = self._idle.pop() if self._idle else _Server(self._ended, DEPARTURE)
        server.request = request
        self._serving[request] = server
        request.stage = LEAVING
        request.first_scheduled_s = now_s
        self._clock.arm(server.alarm, now_s + request.work_s)

    def _ended(self, server: _Server) -> None:
        request = server.request
        del self._serving[request]
        self.completed(request)
        self._next(server)

    def _next(self, server: _Server) -> None:
        self._idle.append(server)
        self._can_start += 1
        if self._waiting:
            self._waiting -= 1
            self._start(self._scheduler.pop())
