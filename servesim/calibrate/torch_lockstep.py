"""Measuring a model that is split over ranks: the first rank decides, all run the same, and the slowest counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from servesim.calibrate.torch_measure import Backend, OutOfMemory
from servesim.calibrate.torch_points import IterationPoint
from servesim.calibrate.torch_ranks import Ranks
from servesim.errors import ServesimError

_RUN, _END = "run", "end"


class Leader:
    """The backend of the first rank's campaign: whatever it is asked to do, the followers do as well."""

    def __init__(self, own: Backend[IterationPoint], ranks: Ranks) -> None:
        self._own, self._ranks = own, ranks

    def prepare(self, point: IterationPoint) -> Callable[[], float]:
        """Return what runs the iteration once on all ranks; OutOfMemory where it does not fit on one of them."""
        self._ranks.tell(point)
        run = self._ranks.fit(lambda: self._own.prepare(point))

        def together() -> float:
            self._ranks.tell(_RUN)
            return _slowest(run, self._ranks)

        return together

    def state(self) -> dict[str, float]:
        """Return what the first rank's device says of itself."""
        return self._own.state()


@contextmanager
def leading(own: Backend[IterationPoint], ranks: Ranks) -> Iterator[Backend[IterationPoint]]:
    """Yield the first rank's backend; the followers are let go at the end, also where something is refused."""
    if ranks.size == 1:
        yield own
        return
    try:
        yield Leader(own, ranks)
    except ServesimError:
        ranks.tell(_END)
        raise
    ranks.tell(_END)


def follow(own: Backend[IterationPoint], ranks: Ranks) -> None:
    """Do what the leader says until it ends."""
    run: Callable[[], float] | None = None
    while (said := ranks.hear()) != _END:
        with suppress(OutOfMemory):
            if said != _RUN:
                run = ranks.fit(partial(own.prepare, said))
            elif run is not None:
                _slowest(run, ranks)


def _slowest(run: Callable[[], float], ranks: Ranks) -> float:
    """Return the seconds of the rank that took longest, all having begun together."""
    ranks.meet()
    seconds = math.inf
    with suppress(OutOfMemory):
        seconds = run()
    seconds = ranks.largest(seconds)
    if math.isinf(seconds):
        raise OutOfMemory
    return seconds
