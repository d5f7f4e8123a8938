"""In every scenario of the tree, each request's parts add up to its TTFT and its E2E."""

from pathlib import Path

import numpy as np
import pytest

from servesim.experiment.simulate import simulate
from servesim.metrics.definitions import e2e_s, ttft_s
from servesim.metrics.latencies import completed_chunks
from servesim.metrics.split import Splitter, network_s
from servesim.scenario.load import load
from tests.data import ROOT, SCENARIOS, shared_data

REQUESTS = 1500
TRACES = {"replay-azure-conv.yaml": ("conversation", "traces/azure2023/AzureLLMInferenceTrace_conv.csv")}


def shortened(path: Path) -> list[str]:
    changes = [f"workload.num_requests={REQUESTS}"]
    if path.name in TRACES:
        name, trace = TRACES[path.name]
        changes.append(f"workload.classes.{name}.arrivals.path={shared_data(*trace.split('/'))}")
    return changes


def test_there_are_scenarios() -> None:
    assert len(SCENARIOS) >= 7


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_parts_add_up_to_the_latency_of_every_request(path: Path) -> None:
    changes = shortened(path)
    result = simulate(load(path, changes, allow_paths=[ROOT.parent]))
    record, splitter, network, seen = result.measured, Splitter(result.measured), network_s(result.record), 0
    for done in completed_chunks(record):
        split = splitter.split(done)
        arrival = done["arrival_s"]
        for parts, latency in (
            (split.ttft_s, ttft_s(arrival, done["first_token_s"], network)),
            (split.e2e_s, e2e_s(arrival, done["finish_s"], network)),
        ):
            assert np.abs(sum(parts.values()) - latency).max() <= 1e-9
            assert min(float(part.min()) for name, part in parts.items() if name != "interference_s") >= -1e-9
        seen += len(arrival)
    assert seen == result.summary["classes"]["all"]["completed"] > 0
    for name, kind in (("p99_ttft", "ttft_s"), ("p99_e2e", "e2e_s")):
        why, tail = result.summary["why"][name], result.summary["classes"]["all"]["split"]["p99_tail"][kind]
        assert sum(why["queue_s"].values()) == pytest.approx(tail["queue_s"], abs=1e-6)
    for shares in result.summary["why"]["time_at_limit"].values():
        assert sum(shares.values()) == pytest.approx(1)
        assert min(shares.values()) >= 0
