"""Clients that leave, interrupt and try again: nothing is lost, both engines agree, comparisons stay paired."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servesim import Scenario, simulate
from servesim.errors import InputError, LimitReached, ServesimError
from servesim.experiment.result import Result
from servesim.metrics.checks import check
from servesim.metrics.record import RunRecord
from servesim.metrics.split import PARTS
from servesim.metrics.spool import Spool
from servesim.request import ABANDONED, COMPLETED, REJECTED, Request
from servesim.system.clock import Clock
from servesim.system.gateway import Gateway
from servesim.system.lives import LivelyDoor
from servesim.workload.lives import Clients, RetryBudget, RetryBudgetSpec, RetrySpec

TIMES = {"kind": "affine", "base_s": 0.01, "per_token_s": 1e-4, "per_context_token_s": 1e-6}
ENGINE = {"max_num_seqs": 4, "max_num_batched_tokens": 64, "max_model_len": 400}
POISSON = {"kind": "poisson", "request_rate_rps": 8.0}


def scenario(
    engine: dict[str, Any] | None = None,
    arrivals: dict[str, Any] | None = None,
    num_requests: int = 80,
    limits: dict[str, Any] | None = None,
    client: dict[str, Any] | None = None,
    others: dict[str, Any] | None = None,
    **lives: Any,
) -> Scenario:
    """Return one lively class (and others) on one small pool."""
    chat = {
        "arrivals": arrivals or POISSON,
        "prompt_tokens": {"kind": "geometric", "mean_tokens": 40.0},
        "output_tokens": {"kind": "geometric", "mean_tokens": 30.0},
        **lives,
    }
    return Scenario.model_validate(
        {
            "name": "lives",
            "workload": {"num_requests": num_requests, "classes": {"chat": chat, **(others or {})}},
            "pools": {"main": {"engine": {**ENGINE, **(engine or {})}, "service_time": TIMES}},
            "limits": {"max_events": 2_000_000, **(limits or {})},
            "client": client or {},
        }
    )


PATIENCE = st.fixed_dictionaries(
    {"mean_s": st.sampled_from([0.03125, 0.1, 0.4, 2.0])},
    optional={
        "distribution": st.sampled_from(["fixed", "exponential"]),
        "until": st.sampled_from(["scheduled", "first_token"]),
    },
)
CANCEL = st.one_of(
    st.fixed_dictionaries(
        {
            "probability": st.sampled_from([0.3, 1.0]),
            "after_tokens": st.sampled_from([1, 5, {"kind": "geometric", "mean_tokens": 8.0}]),
        }
    ),
    st.fixed_dictionaries({"probability": st.sampled_from([0.3, 1.0]), "after_mean_s": st.sampled_from([0.05, 0.5])}),
)
RETRY = st.fixed_dictionaries(
    {
        "on": st.sampled_from([["timed_out"], ["abandoned", "timed_out"], ["rejected", "abandoned", "failed"]]),
        "max_attempts": st.sampled_from([2, 5]),
        "backoff_s": st.sampled_from([0.03125, 0.2]),
        "multiplier": st.sampled_from([1.0, 2.0]),
        "jitter": st.sampled_from(["none", "full", "equal", "exponential"]),
    },
    optional={
        "budget": st.fixed_dictionaries(
            {
                "ratio": st.sampled_from([0.0, 0.3]),
                "min_retries_rps": st.sampled_from([0.0, 0.5]),
                "window_s": st.sampled_from([1.0, 10.0]),
            }
        )
    },
)


@st.composite
def cases(draw: st.DrawFn) -> Scenario:
    lives = {"patience": draw(PATIENCE), "retry": draw(RETRY)}
    if draw(st.booleans()):
        lives["cancel"] = draw(CANCEL)
    if draw(st.booleans()):
        lives["timeout_s"] = draw(st.sampled_from([2.5, 4.0]))
    return scenario(
        {
            "async_scheduling": draw(st.booleans()),
            "num_gpu_blocks": draw(st.sampled_from(["unlimited", 30])),
            "host_time_s": draw(st.sampled_from([0.0, 0.002])),
            "admission_time_s": draw(st.sampled_from([0.0, 0.01])),
            "scheduler": draw(st.sampled_from(["fcfs", "shortest_prompt"])),
        },
        draw(st.sampled_from([POISSON, {"kind": "closed_loop", "max_concurrency": 9, "think_time_s": 0.1}])),
        num_requests=draw(st.integers(1, 60)),
        client={"clock": "client", "request_network_s": draw(st.sampled_from([0.0, 0.01]))},
        others={"plain": {"arrivals": POISSON, "prompt_tokens": 30, "output_tokens": 9, "num_requests": 10}},
        **lives,
    )


@settings(max_examples=120, deadline=None)
@given(case=cases(), seed=st.integers(0, 1000))
def test_span_engine_equals_the_reference_and_nothing_is_lost(case: Scenario, seed: int) -> None:
    spans, steps = simulate(case, seed), simulate(case, seed, reference=True)
    pd.testing.assert_frame_equal(spans.attempts, steps.attempts, rtol=1e-9)
    pd.testing.assert_frame_equal(spans.requests, steps.requests, rtol=1e-9, atol=1e-9)
    books_hold(spans, case)


def books_hold(result: Result, case: Scenario) -> None:
    """Assert the conservation laws on the tables, without the code that makes the summary."""
    check(result.record)
    attempts, requests = result.attempts, result.requests
    retry = case.workload.classes["chat"].retry
    assert retry is not None
    assert len(requests) == sum(result.record.offered)
    assert attempts["attempt_id"].tolist() == list(range(len(attempts)))
    tried = attempts.groupby("request_id", sort=True)
    assert tried.size().tolist() == requests["attempts"].tolist()
    assert tried.size().max() <= retry.attempts
    for name, group in (("outcome", tried.last()), ("finish_s", tried.last()), ("arrival_s", tried.first())):
        assert group[name].tolist() == requests[name].tolist()
    for _, one in tried:
        assert one["attempt"].tolist() == list(range(1, len(one) + 1))
        assert (one["arrival_s"].to_numpy()[1:] >= one["finish_s"].to_numpy()[:-1]).all()
        assert set(one["outcome"][:-1]) <= set(retry.on)
    done = requests[requests["outcome"] == "completed"]
    np.testing.assert_allclose(done[list(PARTS)].sum(axis=1), done["e2e_s"], rtol=0, atol=1e-9)
    assert (done["generated_tokens"] == done["output_tokens"]).all()
    waited = tried.last()["arrival_s"] - tried.first()["arrival_s"]
    np.testing.assert_allclose(done["retry_s"], waited[done["request_id"]], rtol=0, atol=1e-9)
    if retry.budget is not None:
        budget_holds(attempts, retry.budget)
    one = result.summary["classes"]["all"]
    assert one["attempts"] == len(attempts) == one["offered"] + one["retries"]
    assert one["wasted_output_tokens"] == attempts["generated_tokens"][attempts["outcome"] != "completed"].sum()
    assert one["partial_output_tokens"] == delivered(result)


def budget_holds(attempts: pd.DataFrame, budget: RetryBudgetSpec) -> None:
    """Assert that in no window were more retries decided than the budget says; one is decided when an attempt ends."""
    chat = attempts[attempts["class"] == "chat"].sort_values(["request_id", "attempt"])
    firsts = np.sort(chat["arrival_s"][chat["attempt"] == 1])
    later = chat["attempt"].to_numpy() > 1
    decided = np.sort(chat["finish_s"].to_numpy()[:-1][later[1:]])
    for end_s in decided:
        retries = ((decided > end_s - budget.window_s) & (decided <= end_s)).sum()
        sent = ((firsts > end_s - budget.window_s) & (firsts <= end_s)).sum()
        assert retries <= budget.ratio * sent + budget.min_retries_rps * budget.window_s


def delivered(result: Result) -> int:
    """Return the tokens that were out when their attempt ended badly, one attempt at a time."""
    lost = result.attempts[result.attempts["outcome"] != "completed"]
    return sum(len(result.token_times(row.request_id, row.attempt)) for row in lost.itertuples())


def test_the_cases_do_all_that_can_be_done() -> None:
    """What the property above is about does happen, in one run."""
    case = scenario(
        {"num_gpu_blocks": 12, "max_model_len": 150},
        num_requests=400,
        patience={"mean_s": 1.5},
        timeout_s=1.0,
        cancel={"probability": 0.5, "after_tokens": 10},
        retry={"on": ["abandoned", "timed_out", "rejected"], "max_attempts": 4},
    )
    result = simulate(case, 1)
    books_hold(result, case)
    assert set(result.attempts["outcome"]) == {"completed", "rejected", "timed_out", "abandoned", "cancelled"}
    assert result.requests["attempts"].max() == 4
    assert result.requests["preemptions"].max() > 0
    one = result.summary["classes"]["chat"]
    assert 0 < one["partial_output_tokens"] < one["wasted_output_tokens"]
    assert one["retry_amplification"] == pytest.approx(one["attempts"] / 400)
    assert one["split"]["e2e_s"]["retry_s"] > 0


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    case = scenario(
        patience={"mean_s": 0.5}, retry={"on": ["abandoned"]}, cancel={"probability": 0.2, "after_mean_s": 1.0}
    )
    for name in ("a", "b"):
        simulate(case, 3).write(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert "attempts.parquet" in files
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    stored = pd.read_parquet(tmp_path / "a" / "attempts.parquet").sort_values("attempt_id", ignore_index=True)
    assert stored["arrival_s"].tolist() == simulate(case, 3).attempts["arrival_s"].tolist()


def test_the_same_client_is_as_patient_on_another_system() -> None:
    """Where both abandon a request, they do so after the same time; also with the class alone or beside another."""
    lives = {"patience": {"mean_s": 0.5}}
    small, large = (simulate(scenario({"max_num_seqs": seqs}, num_requests=300, **lives), 5) for seqs in (1, 2))
    waits = [r.requests["finish_s"] - r.requests["arrival_s"] for r in (small, large)]
    both = (small.requests["outcome"] == "abandoned") & (large.requests["outcome"] == "abandoned")
    assert both.sum() > 50
    np.testing.assert_allclose(waits[0][both], waits[1][both], atol=1e-9)
    assert len(set(waits[0][both].round(6))) == both.sum()


def test_patience_of_one_class_shifts_no_draw_of_another() -> None:
    plain = {"arrivals": POISSON, "prompt_tokens": {"kind": "geometric", "mean_tokens": 9.0}, "output_tokens": 3}
    runs = [simulate(scenario(others={"plain": plain}, **lives), 2) for lives in ({}, {"patience": {"mean_s": 0.1}})]
    for name in ("chat", "plain"):
        drawn = [r.requests[r.requests["class"] == name][["arrival_s", "prompt_tokens", "output_tokens"]] for r in runs]
        pd.testing.assert_frame_equal(*(one.reset_index(drop=True) for one in drawn))


def test_who_interrupts_stops_at_the_token_drawn_for_it() -> None:
    case = scenario(num_requests=200, cancel={"probability": 0.5, "after_tokens": 7})
    requests = simulate(case, 1).requests
    left = requests[requests["outcome"] == "cancelled"]
    assert 40 < len(left) < 160
    assert (left["generated_tokens"] == 7).all()
    assert (left["output_tokens"] > 7).all()
    assert (requests["output_tokens"] <= 7).any()
    stays = simulate(scenario(num_requests=200), 1).requests
    assert stays["output_tokens"].tolist() == requests["output_tokens"].tolist()


def test_more_interruptions_are_those_there_were_and_others() -> None:
    few, many = (
        simulate(scenario(num_requests=300, cancel={"probability": p, "after_tokens": 3}), 1).requests
        for p in (0.2, 0.6)
    )
    cancelled = [set(r["request_id"][r["outcome"] == "cancelled"]) for r in (few, many)]
    assert cancelled[0] < cancelled[1]


def test_a_request_that_can_never_fit_is_not_tried_again() -> None:
    case = scenario({"max_model_len": 60}, retry={"on": ["rejected"], "max_attempts": "unlimited"})
    result = simulate(case, 1)
    assert (result.requests["outcome"] == "rejected").any()
    assert result.requests["attempts"].max() == 1


class BusyOrFree:
    """A pool with room for one request at a time, which takes `service_s`; others are refused at once."""

    first_replica = 0
    ended = None

    def __init__(self, gateway: Gateway, service_s: float) -> None:
        self.gateway, self.service_s, self.busy = gateway, service_s, False

    def submit(self, request: Request) -> None:
        now_s = self.gateway.clock.now_s
        if self.busy:
            request.refuse("the server is busy", now_s)
            request.done(request)
            self.gateway.record(request)
            return
        self.busy = True
        request.first_scheduled_s = now_s
        self.gateway.clock.call_at(now_s + self.service_s, lambda: self.complete(request))

    def complete(self, request: Request) -> None:
        self.busy = False
        request.fill()
        request.first_token_s = request.finish_s = self.gateway.clock.now_s
        request.outcome = COMPLETED
        request.done(request)
        self.gateway.record(request)

    def cancel(self, request: Request, outcome: int) -> None:
        raise NotImplementedError


def test_who_is_refused_comes_back_until_there_is_room() -> None:
    """The first is served until 1; the second is refused at 0.25 and 0.65 and served from 1.05 on."""
    clock = Clock()
    gateway = Gateway(clock)
    spec = {"on": ["rejected"], "max_attempts": "unlimited", "backoff_s": 0.4, "multiplier": 1.0, "jitter": "none"}
    clients = Clients(1, "chat", retry=RetrySpec.model_validate(spec))
    door = LivelyDoor(gateway, BusyOrFree(gateway, 1.0), 0, 0, None, clients, 0.0)  # type: ignore[arg-type]
    ended: list[tuple[float, int]] = []

    def done(request: Request) -> None:
        door.leave(request)
        ended.append((clock.now_s, request.request_id))

    for time_s in (0.0, 0.25):
        clock.call_at(time_s, lambda: door.send(5, 1, done))
    clock.run_until_empty()
    assert [time_s for time_s, _ in ended] == pytest.approx([1.0, 2.05])
    outcome, arrival = gateway.records.column("outcome", "arrival_s")
    assert sorted(arrival) == pytest.approx([0.0, 0.25, 0.65, 1.05])
    assert sorted(outcome) == [COMPLETED, COMPLETED, REJECTED, REJECTED]
    first, later = gateway.retries.column("first_request_id", "request_id")
    assert (first.tolist(), later.tolist()) == ([1, 1], [2, 3])
    assert gateway.occupancy_s == pytest.approx(2.0)


def test_retries_without_end_are_stopped_by_the_cap_on_events() -> None:
    retry = {"on": ["timed_out"], "max_attempts": "unlimited", "backoff_s": 0.1, "multiplier": 1.0}
    case = scenario(num_requests=5, timeout_s=0.001, retry=retry, limits={"max_events": 5000})
    with pytest.raises(LimitReached, match="max_events"):
        simulate(case, 1)


def test_a_closed_loop_goes_on_when_the_logical_request_has_ended() -> None:
    loop = {"kind": "closed_loop", "max_concurrency": 2, "think_time_s": 0.25}
    retry = {"on": ["timed_out"], "max_attempts": 3, "backoff_s": 0.5, "multiplier": 1.0, "jitter": "none"}
    result = simulate(scenario(arrivals=loop, num_requests=8, timeout_s=0.005, retry=retry), 1)
    assert Counter(result.requests["attempts"]) == {3: 8}
    np.testing.assert_allclose(result.requests["finish_s"] - result.requests["arrival_s"], 3 * 0.005 + 2 * 0.5)
    starts = np.sort(result.requests["arrival_s"])
    np.testing.assert_allclose(starts, np.repeat(np.arange(4) * (1.015 + 0.25), 2))


def test_an_abandoned_request_of_a_closed_loop_is_followed_by_the_next() -> None:
    loop = {"kind": "closed_loop", "max_concurrency": 1, "think_time_s": 1.0}
    patience = {"mean_s": 0.005, "distribution": "fixed"}
    result = simulate(scenario(arrivals=loop, num_requests=4, patience=patience), 1)
    assert set(result.requests["outcome"]) == {"abandoned"}
    np.testing.assert_allclose(result.requests["arrival_s"], np.arange(4) * 1.005)


def test_the_network_shortens_patience_and_delays_retries() -> None:
    retry = {"on": ["abandoned"], "max_attempts": 2, "backoff_s": 0.5, "jitter": "none"}
    patience = {"mean_s": 0.3, "distribution": "fixed"}
    far = {"clock": "client", "request_network_s": 0.1, "response_network_s": 0.15}
    result = simulate(
        scenario({"admission_time_s": 9.0}, num_requests=1, patience=patience, retry=retry, client=far), 1
    )
    first, second = result.attempts.itertuples()
    assert first.finish_s - first.arrival_s == pytest.approx(0.05)
    assert second.arrival_s - first.finish_s == pytest.approx(0.5 + 0.25)


def test_token_times_of_earlier_attempts() -> None:
    case = scenario(num_requests=60, timeout_s=0.4, retry={"on": ["timed_out"], "max_attempts": 2})
    result = simulate(case, 4)
    row = result.requests[(result.requests["attempts"] == 2) & (result.requests["outcome"] == "completed")].iloc[0]
    assert len(result.token_times(row.request_id)) == row.output_tokens
    assert result.token_times(row.request_id, 2) == result.token_times(row.request_id)
    assert len(result.token_times(row.request_id, 1)) < row.output_tokens
    with pytest.raises(InputError, match="has no attempt 3; it has 2"):
        result.token_times(row.request_id, 3)


@pytest.mark.parametrize(
    ("jitter", "low", "high"), [("none", 4.0, 4.0), ("full", 0.0, 4.0), ("equal", 2.0, 4.0), ("exponential", 0.0, 40.0)]
)
def test_waits_double_up_to_the_longest_and_jitter_spreads_them(jitter: str, low: float, high: float) -> None:
    retry = RetrySpec.model_validate({"backoff_s": 1.0, "multiplier": 2.0, "max_backoff_s": 10.0, "jitter": jitter})
    draws = np.random.default_rng(1).random(4000)
    waits = [retry.wait_s(3, float(u)) for u in draws]
    assert low <= min(waits) <= max(waits) <= high
    mean = {"none": 4.0, "full": 2.0, "equal": 3.0, "exponential": 4.0}[jitter]
    assert np.mean(waits) == pytest.approx(mean, rel=0.05)
    steady = retry.model_copy(update={"jitter": "none"})
    assert [steady.wait_s(n, 0.5) for n in (1, 2, 3, 4, 5, 10_000)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_a_budget_forgets_what_is_older_than_its_window() -> None:
    budget = RetryBudget(RetryBudgetSpec.model_validate({"ratio": 0.5, "min_retries_rps": 0.0, "window_s": 10.0}))
    for time_s in (0.0, 1.0, 2.0, 3.0):
        budget.first_attempt(time_s)
    assert [budget.allows(4.0) for _ in range(3)] == [True, True, False]
    assert not budget.allows(13.5)
    assert budget.refused == 2


def test_an_attempt_is_forgotten_when_the_window_ends() -> None:
    spec = RetryBudgetSpec.model_validate({"ratio": 1.0, "min_retries_rps": 0.0, "window_s": 10.0})
    for now_s, allowed in ((9.75, True), (10.0, False)):
        budget = RetryBudget(spec)
        budget.first_attempt(0.0)
        assert budget.allows(now_s) is allowed


def test_pools_whose_clients_abandon_are_warned_about() -> None:
    result = simulate(scenario({"max_num_seqs": 1}, num_requests=300, patience={"mean_s": 0.5}), 1)
    assert result.overloaded
    assert any("arrivals were abandoned, which keeps" in text for text in result.summary["warnings"])


def moved(record: RunRecord, column: str, request_id: float, change: float) -> None:
    """Change one number of an attempt's record."""
    table = np.vstack(list(record.requests.chunks()))
    table[table[:, 0] == request_id, record.requests.columns.index(column)] += change
    copy = Spool(record.requests.columns)
    for row in table.tolist():
        copy.add(row)
    record.requests = copy


def first_of(record: RunRecord) -> float:
    return float(record.retries.column("first_request_id")[0][0])


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda record, later: moved(record, "arrival_s", later, -1e-3), "begins before the one before it ended"),
        (lambda record, later: moved(record, "class_index", later, 1), "changes its class"),
        (lambda record, later: record.retries.add((0.0, later)), "belongs to two requests"),
        (lambda record, later: moved(record, "outcome", first_of(record), -ABANDONED), "completed is tried again"),
        (lambda record, later: record.offered.__setitem__(0, 81), "class chat: 81 requests offered, 80 recorded"),
        (lambda record, later: record.retries.add((0.0, 1e9)), "an attempt has no record"),
    ],
)
def test_records_that_contradict_themselves_about_retries_are_refused(damage: Any, text: str) -> None:
    retry = {"on": ["abandoned"], "jitter": "none", "backoff_s": 1e-6, "multiplier": 1.0}
    plain = {"arrivals": POISSON, "prompt_tokens": 30, "output_tokens": 9}
    record = simulate(scenario(patience={"mean_s": 0.05}, retry=retry, others={"plain": plain}), 1).record
    check(record)
    damage(record, record.retries.column("request_id")[0][0])
    with pytest.raises(ServesimError, match=text):
        check(record)


def test_a_preempted_request_has_been_taken_into_service_and_does_not_abandon_the_queue() -> None:
    patience = {"mean_s": 0.6, "distribution": "fixed", "until": "scheduled"}
    case = scenario({"num_gpu_blocks": 12, "max_model_len": 150}, num_requests=300, patience=patience)
    result = simulate(case, 1)
    abandoned = result.attempts["outcome"] == "abandoned"
    assert abandoned.any()
    assert result.requests["preemptions"].max() > 0
    assert result.attempts["first_scheduled_s"][abandoned].isna().all()
