"""Measured dynamic batching: FastPitch behind Triton, 1 to 16 clients, four deployments (docs/batching.md)."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from servesim import Scenario, simulate
from tests.data import shared_data

# "Triton Max Batch Size", "Number of model instances", "Max Queue Delay" (microseconds), "Preferred Batch Sizes" of the
# source, PyTorch/SpeechSynthesis/FastPitch/triton/README.md.
BATCHER = {"kind": "dynamic", "max_batch_size": 8, "preferred_batch_size": [4, 8], "max_queue_delay_s": 1e-6}
GPUS = {"A100": "a100_sxm", "DGX-1": "v100_sxm_32gb"}


def deployment(gpu: str, precision: str) -> list[dict[str, float]]:
    """Return the measured rows of a deployment in seconds and requests per second, by number of clients."""
    path = shared_data("validation", "triton_dynamic_batching_online.csv")
    with path.open(newline="") as file:
        return [
            {name: float(row[name]) * scale for name, scale in SCALES.items()}
            for row in csv.DictReader(file)
            if "FastPitch" in row["path"] and row["gpu"].startswith(gpu) and precision in row["section"].split(">")[-1]
        ]


SCALES = {"conc": 1.0, "lat": 1e-3, "thr": 1.0, "queue": 1e-3, "compute": 1e-3}


def errors(gpu: str, precision: str, contention: bool) -> tuple[float, float]:
    """Return the median errors of mean latency and throughput with 3 to 16 clients.

    What the page measured with one client and with two gives the client's own time and how much two instances slow
    each other down; nothing is fitted to the rows predicted.
    """
    one, two, *rows = deployment(gpu, precision)
    assert (one["conc"], two["conc"]) == (1, 2)
    client_s = one["lat"] - one["compute"] - one["queue"]
    slower = two["compute"] / one["compute"] - 1 if contention else 0.0
    found = []
    for row in rows:
        loop = {"kind": "closed_loop", "max_concurrency": int(row["conc"]), "think_time_s": client_s}
        jobs = {"arrivals": {**loop, "think": "exponential"}, "prompt_tokens": 1, "output_tokens": 1}
        engine = {"kind": "request_batching", "instances": 2, "instance_contention": slower, "batcher": BATCHER}
        times = {"kind": "batch_calibrated", "name": f"fastpitch/{GPUS[gpu]}/{precision.lower()}"}
        scenario = Scenario.model_validate(
            {
                "name": "triton",
                "workload": {"num_requests": int(300 * row["conc"]), "classes": {"jobs": jobs}},
                "pools": {"pool": {"engine": engine, "service_time": times}},
            }
        )
        result = simulate(scenario).summary["classes"]["all"]
        latency_s, rate = result["e2e_s"]["mean"] + client_s, result["request_throughput_rps"]
        found.append((abs(latency_s / row["lat"] - 1), abs(rate / row["thr"] - 1)))
    return tuple(np.median(found, axis=0).tolist())


@pytest.mark.parametrize(
    ("gpu", "precision", "most"), [("A100", "FP16", 0.08), ("A100", "FP32", 0.08), ("DGX-1", "FP16", 0.08),
                                   ("DGX-1", "FP32", 0.13)],
)  # fmt: skip
def test_latency_and_throughput_of_a_real_dynamic_batcher(gpu: str, precision: str, most: float) -> None:
    latency, throughput = errors(gpu, precision, contention=True)
    assert latency <= most
    assert throughput <= most


def test_instances_that_do_not_share_the_gpu_are_found_out() -> None:
    latency, throughput = errors("A100", "FP16", contention=False)
    assert latency > 0.2
    assert throughput > 0.3
