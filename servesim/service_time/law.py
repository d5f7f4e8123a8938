"""Service times of single requests as probability laws: what queueing theory calls G in M/G/c."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from servesim.request import Request
from servesim.service_time.base import Origin, ServiceTimeSpec

_BLOCK = 4096

Stream = Callable[..., np.random.Generator]
Sampler = Callable[[Request], float]


class ServiceLaw(ServiceTimeSpec):
    """How many seconds of work a request is, whatever it shares the server with."""

    @property
    def origin(self) -> Origin:
        """Where the service time comes from."""
        return Origin(self.kind, measured=False, note="a law given in the scenario")

    @abstractmethod
    def sampler(self, stream: Stream, class_names: tuple[str, ...]) -> Sampler:
        """Return a function from a request to its seconds of work, to be asked once per request.

        `stream(...)` names random streams of the pool; draws are kept apart by class, in the order in which the
        requests of the class come to the pool, so that two systems compared under one seed see the same work unless
        they make clients try again at different times: every attempt is a draw.
        """


class IidLaw(ServiceLaw):
    """Independent, identically distributed service times."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
        """Return `n` independent service times in seconds, shape (n,), each >= 0."""

    def sampler(self, stream: Stream, class_names: tuple[str, ...]) -> Sampler:
        """Return the next draw of the request's class."""
        draws = [self.draws(stream("service", name)).__next__ for name in class_names]
        return lambda request: draws[request.class_index]()

    def draws(self, rng: np.random.Generator) -> Iterator[float]:
        """Yield one service time after the other, in seconds."""
        while True:
            yield from self.draw(rng, _BLOCK).tolist()
