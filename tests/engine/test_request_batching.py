"""The engine around the batchers: books, splits, instances, cancellation, the end of a run, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servesim import Scenario, simulate
from servesim.errors import InputError, LimitReached
from servesim.metrics.split import PARTS
from tests.engine.test_batchers import CASES

BATCH_TIME = {"kind": "batch_affine", "base_s": 0.4, "per_item_s": 0.05, "per_prompt_token_s": 0.01}
STEPS = {"kind": "affine", "base_s": 0.1, "per_seq_s": 0.01, "per_prefill_token_s": 0.002, "per_context_token_s": 1e-4}


def pool_of(batcher: dict[str, Any], times: dict[str, Any], **engine: Any) -> dict[str, Any]:
    return {"engine": {"kind": "request_batching", "batcher": batcher, **engine}, "service_time": times}


def two_classes(pool: dict[str, Any], **more: Any) -> Scenario:
    """Return a scenario of two classes, the second one less important and impatient."""
    one = {
        "arrivals": {"kind": "poisson", "request_rate_rps": 2.0},
        "prompt_tokens": {"kind": "uniform", "min_tokens": 1, "max_tokens": 6},
        "output_tokens": {"kind": "geometric", "mean_tokens": 4.0},
        "slo": {"e2e_s": 2.0},
    }
    classes = {"gold": {**one, "priority": 1}, "iron": {**one, "priority": 3, "timeout_s": 1.5}}
    return Scenario.model_validate(
        {"name": "batches", "workload": {"num_requests": 150, "classes": classes}, "pools": {"pool": {**pool, **more}}}
    )


def at_once(count: int, pool: dict[str, Any], **one: Any) -> Scenario:
    """Return a scenario of requests that all come at time 0."""
    jobs = {"arrivals": {"kind": "all_at_once"}, "prompt_tokens": 1, "output_tokens": 1, **one}
    return Scenario.model_validate(
        {"name": "once", "workload": {"num_requests": count, "classes": {"jobs": jobs}}, "pools": {"pool": pool}}
    )


@pytest.mark.parametrize("times", [BATCH_TIME, STEPS, {"kind": "constant", "mean_s": 0.5}], ids=lambda t: t["kind"])
@pytest.mark.parametrize("batcher", CASES, ids=str)
@given(seed=st.integers(0, 1000))
@settings(max_examples=4, deadline=None)
def test_the_books_are_kept(batcher: dict[str, Any], times: dict[str, Any], seed: int) -> None:
    """Conservation, causality and Little's law (the summary's checks); parts that sum; nobody in two batches."""
    if batcher["kind"] == "deadline" and times["kind"] == "constant":
        return  # refused: see below
    scenario = two_classes(pool_of(batcher, times, instances=2), replicas=2)
    result = simulate(scenario, seed)
    summary, frame = result.summary, result.requests
    assert summary["classes"]["all"]["offered"] == 300
    done = frame["outcome"] == "completed"
    np.testing.assert_allclose(frame.loc[done, list(PARTS)].sum(axis=1), frame.loc[done, "e2e_s"], atol=1e-9)
    assert (frame["formation_s"].dropna() >= -1e-9).all()
    assert (frame["queue_s"].dropna() >= -1e-9).all()
    np.testing.assert_allclose(frame.loc[done, "ttft_s"], frame.loc[done, "e2e_s"])
    assert frame["tpot_s"].isna().all()
    assert summary["classes"]["all"]["tpot_s"]["mean"] is summary["classes"]["all"]["itl_s"]["mean"] is None
    pool = result.record.pools[0]
    for replica in pool.replicas:
        sizes, starts, lasts = replica.runs.column("prefill_seqs", "start_s", "first_s")
        assert (sizes >= 1).all()
        assert (sizes <= replica.max_num_seqs).all()
        for start in starts:
            assert ((starts <= start) & (start < starts + lasts - 1e-12)).sum() <= 2
    assert summary["pools"]["pool"]["utilisation"] <= 1 + 1e-9
    again = simulate(scenario, seed).requests
    assert again.equals(frame)


def test_an_engine_batch_by_batch() -> None:
    """Ten at once, up to four per batch, two instances, 1 s per batch: 4 + 4 at 1 s, 2 at 2 s."""
    pool = pool_of({"kind": "take_all", "max_batch_size": 4}, {"kind": "constant", "mean_s": 1.0}, instances=2)
    result = simulate(at_once(10, pool))
    assert sorted(result.requests["finish_s"]) == [1.0] * 8 + [2.0] * 2
    summary = result.summary["pools"]["pool"]
    assert (summary["mean_batch_size"], summary["batches_per_s"]) == (pytest.approx(10 / 3), 1.5)
    assert summary["utilisation"] == 0.75
    assert summary["padding"] is None


def test_instances_slow_each_other_down() -> None:
    """Of two batches that start together the second takes half as long again; alone later, none does."""
    pool = pool_of({"kind": "take_all", "max_batch_size": 4}, {"kind": "constant", "mean_s": 1.0}, instances=2)
    pool["engine"]["instance_contention"] = 0.5
    assert sorted(set(simulate(at_once(8, pool)).requests["finish_s"])) == [1.0, 1.5]
    assert sorted(set(simulate(at_once(4, pool)).requests["finish_s"])) == [1.0]


def test_padding_is_counted_and_paid_for() -> None:
    """Prompts of 2 and 6 tokens together: 12 computed for 8, and both take as long as the long one."""
    lengths = {"kind": "empirical", "rows": [[2, 1], [6, 1]]}
    pool = pool_of({"kind": "static", "batch_size": 60}, {"kind": "batch_affine", "per_prompt_token_s": 0.1})
    result = simulate(at_once(60, pool, prompt_tokens=None, output_tokens=None, lengths=lengths))
    frame = result.requests
    mean = frame["prompt_tokens"].mean()
    assert set(frame["prompt_tokens"]) == {2, 6}
    assert result.summary["pools"]["pool"]["padding"] == pytest.approx(6 / mean - 1)
    np.testing.assert_allclose(frame["e2e_s"], 60 * 6 * 0.1)
    np.testing.assert_allclose(frame["own_compute_s"], 0.1 * frame["prompt_tokens"])


def test_a_whole_batch_is_generated_to_its_longest() -> None:
    """Two sequences of 3 prompt and 1 and 4 output tokens: a prefill and three decode steps of two places."""
    lengths = {"kind": "empirical", "rows": [[3, 1], [3, 4]]}
    pool = pool_of({"kind": "static", "batch_size": 40}, STEPS)
    result = simulate(at_once(40, pool, prompt_tokens=None, output_tokens=None, lengths=lengths))
    assert set(result.requests["output_tokens"]) == {1, 4}
    prefill = 0.1 + 40 * 0.01 + 40 * 3 * 0.002
    decode = sum(0.1 + 40 * 0.01 + 1e-4 * 40 * (3 + j) for j in range(3))
    np.testing.assert_allclose(result.requests["e2e_s"], prefill + decode)


def test_what_can_never_be_served_is_rejected_with_a_reason() -> None:
    pool = pool_of({"kind": "static", "batch_size": 4}, BATCH_TIME)
    result = simulate(at_once(10, pool))
    everything = result.summary["classes"]["all"]
    assert (everything["completed"], everything["rejected"]) == (8, 2)
    assert (
        "rejected 2: the static batcher waited for a batch that nothing more could fill" in result.summary["warnings"]
    )


def test_a_closed_loop_too_small_for_its_batch_ends() -> None:
    pool = pool_of({"kind": "static", "batch_size": 8}, BATCH_TIME)
    scenario = at_once(10, pool, arrivals={"kind": "closed_loop", "max_concurrency": 3})
    assert simulate(scenario).summary["classes"]["all"]["rejected"] == 10
    forever = at_once(10, pool, arrivals={"kind": "closed_loop", "max_concurrency": 3}, duration_s=5.0)
    data = forever.model_dump()
    data["workload"]["num_requests"] = None
    data["limits"]["max_events_per_instant"] = 1000
    with pytest.raises(LimitReached):
        simulate(Scenario.model_validate(data))


def test_a_cancelled_request_leaves_its_batch_as_it_is() -> None:
    """All time out after 0.5 s; the first batch of 1 s runs to its end in vain, the rest never starts."""
    pool = pool_of({"kind": "take_all", "max_batch_size": 4}, {"kind": "constant", "mean_s": 1.0})
    result = simulate(at_once(6, pool, timeout_s=0.5))
    assert set(result.requests["outcome"]) == {"timed_out"}
    assert set(result.requests["finish_s"]) == {0.5}
    (sizes,) = result.record.pools[0].replicas[0].runs.column("prefill_seqs")
    assert sizes.tolist() == [4]
    assert result.record.end_s == 1.0
    assert result.summary["pools"]["pool"]["output_tokens"] == 0


def test_a_full_queue_refuses() -> None:
    pool = pool_of({"kind": "take_all", "max_batch_size": 1}, {"kind": "constant", "mean_s": 1.0}, max_queue_size=3)
    result = simulate(at_once(10, pool))
    assert result.summary["classes"]["all"]["rejected"] == 6  # one is served at once, three wait
    assert "rejected 6: max_queue_size requests wait" in result.summary["warnings"]


def test_an_idle_instance_takes_its_batch_before_the_queue_is_full() -> None:
    pool = pool_of({"kind": "take_all", "max_batch_size": 8}, {"kind": "constant", "mean_s": 1.0}, max_queue_size=2)
    assert simulate(at_once(8, pool)).summary["classes"]["all"]["completed"] == 8
    closed = at_once(80, pool, arrivals={"kind": "closed_loop", "max_concurrency": 8})
    assert simulate(closed).summary["classes"]["all"]["completed"] == 80


def test_a_deadline_leaves_time_for_the_network_and_for_the_other_instance() -> None:
    times = {"kind": "batch_affine", "base_s": 0.1, "per_item_s": 0.05}
    pool = pool_of({"kind": "deadline", "max_batch_size": 8}, times, instances=2, instance_contention=0.3)
    data = at_once(16, pool, slo={"e2e_s": 0.5}).model_dump()
    data["client"] = {"clock": "client", "request_network_s": 0.02, "response_network_s": 0.02}
    frame = simulate(Scenario.model_validate(data)).requests
    first = frame["finish_s"] <= 0.5  # who was scheduled at once was promised to be in time
    assert first.sum() >= 8
    assert (frame.loc[first, "e2e_s"] <= 0.5).all()


def test_an_interrupted_session_asks_again_though_the_batch_goes_on() -> None:
    arrivals = {
        "kind": "sessions",
        "starts": {"kind": "all_at_once"},
        "num_sessions": 1,
        "turns": 2,
        "interrupt": {"probability": 1.0, "after_s": 1.0, "after": "constant", "then": "at_once"},
    }
    pool = pool_of({"kind": "take_all", "max_batch_size": 1}, {"kind": "constant", "mean_s": 10.0})
    data = at_once(2, pool, arrivals=arrivals).model_dump()
    frame = simulate(Scenario.model_validate(data)).requests
    assert frame["arrival_s"].tolist() == [0.0, 1.0]


def test_waiting_for_company_is_formation_and_waiting_for_an_instance_is_queue() -> None:
    """One comes at 0 and waits 2 s for a second, until the timer; the rest waits behind that batch."""
    pool = pool_of({"kind": "static", "batch_size": 2, "timeout_s": 2.0}, {"kind": "constant", "mean_s": 10.0})
    result = simulate(at_once(3, pool, arrivals={"kind": "constant", "request_rate_rps": 1 / 3}))
    frame = result.requests
    assert frame["formation_s"].tolist() == pytest.approx([2.0, 0.0, 0.0])
    assert frame["queue_s"].tolist() == pytest.approx([0.0, 9.0, 6.0])
    why = result.summary["why"]
    assert why["p99_e2e"]["queue_s"]["servers"] == pytest.approx(9.0)
    assert why["p99_e2e"]["bottleneck"] == "compute"
    assert sum(why["time_at_limit"]["pool"].values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("batcher", "seconds", "bottleneck"),
    [
        ({"kind": "take_all", "max_batch_size": 1}, 0.3, "servers"),
        ({"kind": "static", "batch_size": 40}, 0.001, "batch_formation"),
        ({"kind": "take_all"}, 0.001, "compute"),
    ],
)
def test_the_bottleneck_of_runs_made_for_it(batcher: dict[str, Any], seconds: float, bottleneck: str) -> None:
    found = simulate(two_classes(pool_of(batcher, {"kind": "batch_affine", "base_s": seconds}))).summary["why"]
    assert found["p99_e2e"]["bottleneck"] == bottleneck


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        (pool_of({"kind": "deadline", "max_batch_size": 2}, {"kind": "constant", "mean_s": 1.0}), "is random"),
        (pool_of({"kind": "take_all"}, {"kind": "per_token", "base_s": 1.0}), "it takes: affine, batch_affine"),
        (pool_of({"kind": "take_all"}, {"kind": "batch_calibrated", "name": "bert-large/a30/x"}), "did you mean"),
        (
            {**pool_of({"kind": "take_all"}, {"kind": "batch_calibrated", "name": "bert-large/a30/trt-fp16"}),
             "gpu": "h100"},
            "was measured on a30",
        ),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(pool: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        simulate(two_classes(pool))


def test_no_pace_is_promised_of_whole_answers() -> None:
    with pytest.raises(InputError, match="gives whole answers"):
        simulate(at_once(3, pool_of({"kind": "take_all"}, BATCH_TIME), slo={"tpot_s": 0.1}))


def test_batches_beyond_the_largest_measured_are_warned_of() -> None:
    times = {"kind": "batch_calibrated", "name": "bert-large/a30/trt-fp16"}
    assert simulate(at_once(16, pool_of({"kind": "take_all"}, times))).summary["warnings"] == []
    (warning,) = simulate(at_once(20, pool_of({"kind": "take_all"}, times))).summary["warnings"]
    assert "up to 20 requests in one batch (checked to 16)" in warning
