"""The limits behind latencies: against a slow walk over every iteration, and on runs whose answer is known."""

import numpy as np
import pytest

from servesim.experiment.result import Result
from servesim.experiment.simulate import simulate
from servesim.experiment.why_limits import BATCH_LIMITS, last_tokens_s, limits_of, slowest, time_at_limits, waited_for
from servesim.scenario.load import parse
from tests.report.conftest import ONE_POOL

ENGINE = "pools.main.engine."
RATE = "workload.classes.chat.arrivals.request_rate_rps="
SYNC = f"{ENGINE}async_scheduling=false"


def run(*changes: str) -> Result:
    return simulate(parse(ONE_POOL, overrides=changes))


def walked(result: Result, longest_tokens: float) -> dict[str, float]:
    """Return the waits of all requests by limit: every iteration that began after the first one a request met."""
    engine, pool = result.scenario.pools["main"].engine, result.record.pools[0]
    log = result.iterations
    runs = dict(zip(pool.replicas[0].runs.columns, pool.replicas[0].runs.column(*pool.replicas[0].runs.columns),
                    strict=True))  # fmt: skip
    used = np.repeat(runs["used_blocks_first"], runs["iterations"].astype(int))
    total = dict.fromkeys(BATCH_LIMITS, 0.0)
    needed = -(-longest_tokens // engine.block_size)
    starts, lengths = log["start_s"].to_numpy(), log["duration_s"].to_numpy()
    seqs = (log["decode_seqs"] + log["prefill_seqs"]).to_numpy()
    tokens = (log["decode_seqs"] + log["prefill_tokens"]).to_numpy()
    for request in result.requests.itertuples():
        queued = request.arrival_s
        scheduled = queued + request.queue_s
        for i in np.flatnonzero((starts >= queued) & (starts < scheduled - 1e-9)):
            if tokens[i] >= engine.max_num_batched_tokens:
                total["max_num_batched_tokens"] += lengths[i]
            elif seqs[i] >= engine.max_num_seqs:
                total["max_num_seqs"] += lengths[i]
            elif used[i] + needed > pool.replicas[0].usable_blocks:
                total["num_gpu_blocks"] += lengths[i]
    return total


@pytest.mark.parametrize("changes", [
    [f"{ENGINE}max_num_seqs=8", f"{RATE}10"],
    [f"{ENGINE}max_num_seqs=64", f"{ENGINE}max_num_batched_tokens=64", f"{RATE}7"],
    [f"{ENGINE}num_gpu_blocks=260", f"{RATE}9"],
], ids=["seqs", "tokens", "blocks"])  # fmt: skip
def test_waits_are_those_of_a_walk_over_every_iteration(changes: list[str]) -> None:
    result = run(SYNC, *changes)
    pool = result.record.pools[0]
    longest = float((result.requests["prompt_tokens"] + result.requests["output_tokens"]).max())
    everything = slowest(result.record, "ttft_s", 0.0)["main"]
    limits = limits_of(pool, result.scenario.pools["main"].engine)
    found = waited_for(pool, limits, last_tokens_s(result.record, pool), everything, longest)
    slow = walked(result, longest)
    assert max(slow.values()) > 1
    for name in BATCH_LIMITS:
        assert found[name] == pytest.approx(slow[name], rel=1e-6, abs=1e-6)
    assert sum(found.values()) == pytest.approx(result.requests["queue_s"].sum())


@pytest.mark.parametrize("asynchronous", ["true", "false"])
@pytest.mark.parametrize("changes", [
    [f"{ENGINE}max_num_seqs=8", f"{RATE}10"],
    [f"{ENGINE}max_num_seqs=64", f"{ENGINE}max_num_batched_tokens=64", f"{RATE}7"],
    [f"{ENGINE}num_gpu_blocks=260", f"{RATE}9"],
    [f"{ENGINE}max_num_seqs=20", f"{ENGINE}num_gpu_blocks=900", f"{ENGINE}max_num_batched_tokens=300", f"{RATE}30"],
], ids=["seqs", "tokens", "blocks", "all"])  # fmt: skip
def test_what_no_limit_explains_is_at_most_the_iterations_under_way(changes: list[str], asynchronous: str) -> None:
    result = run(f"{ENGINE}async_scheduling={asynchronous}", *changes)
    queue = result.summary["why"]["p99_ttft"]["queue_s"]
    longest_s = result.iterations["duration_s"].max()
    assert 0 <= queue["iteration_under_way"] <= (2 if asynchronous == "true" else 1) * longest_s
    assert sum(queue.values()) > 5 * longest_s


@pytest.mark.parametrize(("changes", "latency", "bottleneck"), [
    ([f"{RATE}0.5"], "p99_ttft", "compute"),
    ([f"{ENGINE}max_num_seqs=4"], "p99_ttft", "max_num_seqs"),
    ([f"{ENGINE}max_num_seqs=4"], "p99_e2e", "max_num_seqs"),
    ([f"{ENGINE}num_gpu_blocks=200"], "p99_ttft", "num_gpu_blocks"),
    ([f"{ENGINE}max_num_seqs=64", f"{ENGINE}max_num_batched_tokens=64", f"{RATE}20"], "p99_ttft",
     "max_num_batched_tokens"),
    ([SYNC, f"{ENGINE}host_time_s=0.1", f"{RATE}0.5"], "p99_e2e", "host"),
    ([f"{ENGINE}host_time_s=0.1", f"{RATE}0.5"], "p99_e2e", "host"),
    (["client.clock=client", "client.request_network_s=30"], "p99_e2e", "network"),
    ([f"{ENGINE}admission_time_s=30"], "p99_ttft", "admission"),
])  # fmt: skip
def test_the_bottleneck_of_runs_made_for_it(changes: list[str], latency: str, bottleneck: str) -> None:
    assert run(*changes).summary["why"][latency]["bottleneck"] == bottleneck


@pytest.mark.parametrize(("changes", "state"), [
    ([f"{ENGINE}max_num_seqs=2", f"{RATE}20"], "max_num_seqs"),
    ([f"{ENGINE}max_num_seqs=64", f"{ENGINE}max_num_batched_tokens=64", f"{RATE}20"], "max_num_batched_tokens"),
    ([f"{ENGINE}num_gpu_blocks=200", f"{RATE}20"], "num_gpu_blocks"),
    ([f"{ENGINE}host_time_s=0.2", f"{RATE}2"], "host"),
    ([SYNC, f"{ENGINE}host_time_s=0.2", f"{RATE}2"], "host"),
    ([f"{RATE}0.1"], "idle"),
])  # fmt: skip
def test_time_is_spent_at_the_limit_of_runs_made_for_it(changes: list[str], state: str) -> None:
    shares = run(*changes).summary["why"]["time_at_limit"]["main"]
    assert max(shares, key=shares.__getitem__) == state
    assert sum(shares.values()) == pytest.approx(1)


def test_idle_time_is_what_the_summary_says(one_pool: Result) -> None:
    pool = one_pool.record.pools[0]
    limits = limits_of(pool, one_pool.scenario.pools["main"].engine)
    shares = time_at_limits(one_pool.record, pool, limits, last_tokens_s(one_pool.record, pool), 1.0)
    assert 1 - shares["idle"] == pytest.approx(one_pool.summary["pools"]["main"]["utilisation"])


def test_nothing_is_explained_where_nothing_completed(nothing_completed: Result) -> None:
    why = nothing_completed.summary["why"]
    assert (why["p99_ttft"], why["p99_e2e"]) == (None, None)
    assert why["time_at_limit"]["main"]["idle"] == 1


def test_prompts_that_must_fit_whole_wait_for_the_budget_though_it_is_never_full() -> None:
    changes = ["workload.classes.chat.prompt_tokens=3000", f"{RATE}12", f"{ENGINE}enable_chunked_prefill=false"]
    changes += [
        f"{ENGINE}max_num_seqs=1000",
        f"{ENGINE}max_num_batched_tokens=5000",
        f"{ENGINE}num_gpu_blocks=unlimited",
    ]
    why = run(*changes).summary["why"]
    queue = why["p99_ttft"]["queue_s"]
    assert why["time_at_limit"]["main"]["max_num_batched_tokens"] == 0
    assert queue["max_num_batched_tokens"] > 0.9 * sum(queue.values()) > 1
