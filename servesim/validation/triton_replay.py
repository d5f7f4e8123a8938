"""One published row of a dynamic batcher, simulated: a closed loop of clients before request-level batching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from servesim.experiment.simulate import simulate
from servesim.scenario.schema import Scenario
from servesim.service_time.base import BatchTime, BatchTimeSpec
from servesim.service_time.base import Deployment as Site
from servesim.service_time.batch_calibrated import BatchCalibrated
from servesim.validation.triton_rows import Deployment, Measured

REQUESTS_PER_CLIENT = 20
LEAST_REQUESTS = 600


@dataclass(frozen=True, slots=True)
class Tuned:
    """Three numbers of a deployment: the client's own time, the contention of instances, and a factor on each item.

    The published batch times are latencies of one batch at a time; a server under load overlaps sending with
    computing, its instances share the GPU, and its client shares the host. Untouched: 0, 0, 1. The factor is on what a
    batch takes longer than a batch of one.
    """

    client_s: float = 0.0
    contention: float = 0.0
    per_item: float = 1.0


class TunedBatchTime(BatchTime):
    """A calibrated batch time whose items take `per_item` times as long; a request is `items` items."""

    def __init__(self, times: BatchTime, tuned: Tuned, items: int) -> None:
        self._times, self._tuned, self._items = times, tuned, items
        self.origin, self.validity = times.origin, times.validity

    def batch_s(self, batch_size: int, prompt_tokens: int, output_tokens: int) -> float:
        """Return the seconds of a batch of `batch_size` requests."""
        one_s = self._times.batch_s(1, 1, 1)
        more_s = self._times.batch_s(batch_size * self._items, 1, 1) - one_s
        return one_s + self._tuned.per_item * more_s


class TunedBatch(BatchTimeSpec):
    """For validation only: not named in scenarios."""

    kind: Literal["tuned_batch"] = "tuned_batch"
    name: str
    tuned: Tuned
    items: int

    def build(self, deployment: Site) -> TunedBatchTime:
        """Return the scaled times."""
        return TunedBatchTime(BatchCalibrated(name=self.name).build(deployment), self.tuned, self.items)


def latency_s(deployment: Deployment, row: Measured, tuned: Tuned) -> float:
    """Return the mean latency that a row's clients would have seen."""
    server = deployment.server
    batcher = {
        "kind": "dynamic",
        "max_batch_size": max(1, server.max_batch_size // row.items),
        "preferred_batch_size": sorted({max(1, size // row.items) for size in server.preferred_batch_size}),
        "max_queue_delay_s": 1e-6,
    }
    loop = {"kind": "closed_loop", "max_concurrency": row.clients, "think": "exponential"}
    jobs = {"arrivals": {**loop, "think_time_s": tuned.client_s}, "prompt_tokens": 1, "output_tokens": 1}
    pool = {
        "engine": {
            "kind": "request_batching",
            "instances": server.instances,
            "instance_contention": tuned.contention,
            "batcher": batcher,
        },
        "service_time": {"kind": "constant", "mean_s": 1.0},
    }
    scenario = Scenario.model_validate(
        {
            "name": "triton",
            "workload": {
                "num_requests": max(LEAST_REQUESTS, REQUESTS_PER_CLIENT * row.clients),
                "classes": {"jobs": jobs},
            },
            "pools": {"pool": pool},
        }
    )
    times = TunedBatch(name=deployment.calibration, tuned=tuned, items=row.items)
    pools = {"pool": scenario.pools["pool"].model_copy(update={"service_time": times})}
    result = simulate(scenario.model_copy(update={"pools": pools}))
    return float(result.numbers["classes"]["all"]["e2e_s"]["mean"]) + tuned.client_s
