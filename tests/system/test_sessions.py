"""Conversations: what a turn sends, when, and how sessions end; and that two systems see the same ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import servesim
from servesim.registry import kinds


def scenario(base_s: float = 0.01, classes: dict[str, Any] | None = None, **arrivals: Any) -> servesim.Scenario:
    """Return one class of sessions (and `classes`) on one server."""
    sessions = {
        "kind": "sessions",
        "starts": {"kind": "poisson", "request_rate_rps": 2.0},
        "turns": {"kind": "geometric", "mean": 5.0},
        "think_time_s": 2.0,
        "think": "exponential",
        "num_sessions": 60,
        **arrivals,
    }
    users = {
        "arrivals": sessions,
        "prompt_tokens": {"kind": "lognormal", "median_tokens": 80, "sigma": 0.7},
        "output_tokens": {"kind": "geometric", "mean_tokens": 60.0},
    }
    return servesim.Scenario.model_validate(
        {
            "name": "sessions",
            "workload": {"classes": {"users": users, **(classes or {})}},
            "pools": {
                "p": {
                    "engine": {"max_num_seqs": 32, "max_num_batched_tokens": 512, "num_gpu_blocks": 4000},
                    "service_time": {"kind": "affine", "base_s": base_s, "per_token_s": 5e-5},
                }
            },
        }
    )


def turns(case: servesim.Scenario, seed: int = 1) -> pd.DataFrame:
    """Return the requests by session and turn."""
    frame = servesim.simulate(case, seed).requests
    return frame.sort_values(["session_id", "turn"]).reset_index(drop=True)


def pairs(frame: pd.DataFrame) -> pd.DataFrame:
    """Return each turn beside the one before it (`_x`)."""
    before = frame.assign(turn=frame["turn"] + 1)
    return before.merge(frame, on=["session_id", "turn"])


def test_each_turn_sends_the_conversation_so_far_after_thinking() -> None:
    frame = turns(scenario())
    assert frame["session_id"].nunique() == 60
    assert (frame.groupby("session_id")["turn"].max() == frame.groupby("session_id").size()).all()
    both = pairs(frame)
    assert len(both) == len(frame) - 60
    assert (both["prompt_tokens_y"] > both["prompt_tokens_x"] + both["output_tokens_x"]).all()
    think = both["arrival_s_y"] - both["finish_s_x"]
    assert think.min() > 0
    assert abs(think.mean() - 2.0) <= 4 * 2.0 / np.sqrt(len(think))
    many = frame.groupby("session_id").size()
    assert abs(many.mean() - 5.0) <= 4 * np.sqrt(20 / 60)


@pytest.mark.parametrize(
    "interrupt",
    [
        None,
        {"probability": 0.4, "after_s": 0.3, "after": "exponential"},
        {"probability": 0.4, "after_s": 0.3, "then": "think"},
        {"probability": 0.4, "after_tokens": {"kind": "geometric", "mean_tokens": 20.0}},
    ],
)
def test_both_engines_give_the_same_sessions(interrupt: Any) -> None:
    case = scenario(interrupt=interrupt)
    spans, steps = servesim.simulate(case, 2), servesim.simulate(case, 2, reference=True)
    pd.testing.assert_frame_equal(spans.requests, steps.requests, rtol=1e-9)
    assert spans.summary["classes"]["users"]["offered"] == len(spans.requests)  # and the record's checks hold
    assert bool((spans.requests["outcome"] == "cancelled").any()) is (interrupt is not None)


def test_two_systems_under_one_seed_see_the_same_sessions() -> None:
    """However slow the answers, and beside another class, whose requests are part of no session."""
    other = {
        "arrivals": {"kind": "poisson", "request_rate_rps": 5.0},
        "prompt_tokens": 50,
        "output_tokens": 20,
        "num_requests": 100,
    }
    fast, slow, beside = turns(scenario()), turns(scenario(0.04)), turns(scenario(0.04, {"other": other}))
    asked = ["session_id", "turn", "prompt_tokens", "output_tokens"]
    pd.testing.assert_frame_equal(fast[asked], slow[asked])
    mine = beside["class"] == "users"
    pd.testing.assert_frame_equal(beside[mine][asked].reset_index(drop=True), fast[asked])
    assert (beside[~mine]["session_id"] == -1).all()
    assert (beside[~mine]["turn"] == 0).all()
    gaps = [pairs(frame).eval("arrival_s_y - finish_s_x") for frame in (fast, slow)]
    assert gaps[0].to_numpy() == pytest.approx(gaps[1].to_numpy(), abs=1e-9)
    starts = [frame[frame["turn"] == 1]["arrival_s"].to_numpy() for frame in (fast, slow)]
    assert (starts[0] == starts[1]).all()


def test_other_turns_or_thoughts_leave_the_messages_alone() -> None:
    few, many = turns(scenario(turns=2)), turns(scenario(turns=20, think_time_s=0.5))
    assert (many.groupby("session_id").size() == 20).all()
    both = few.merge(many, on=["session_id", "turn"])
    assert len(both) == len(few) == 120
    assert (both["prompt_tokens_x"] == both["prompt_tokens_y"]).all()


def test_at_the_cap_a_session_ends_or_forgets() -> None:
    free, ended = turns(scenario(turns=8)), turns(scenario(turns=8, max_context_tokens=700))
    total = free["prompt_tokens"] + free["output_tokens"]
    pd.testing.assert_frame_equal(
        ended[["session_id", "turn", "prompt_tokens"]],
        free[(total <= 700).groupby(free["session_id"]).cummin()][["session_id", "turn", "prompt_tokens"]].reset_index(
            drop=True
        ),
    )
    forgetful = turns(scenario(turns=8, max_context_tokens=700, at_max_context="truncate"))
    assert (forgetful.groupby("session_id").size() == 8).all()
    assert (forgetful["prompt_tokens"] + forgetful["output_tokens"]).max() == 700
    tiny = turns(scenario(turns=2, max_context_tokens=40))
    assert (tiny[tiny["turn"] == 1].groupby("session_id").size() == 1).all()
    assert tiny["session_id"].nunique() == 60


def test_who_stops_by_time_keeps_what_came_and_asks_again_at_once() -> None:
    frame = turns(scenario(turns=6, interrupt={"probability": 0.5, "after_s": 0.2}))
    stopped = frame["outcome"] == "cancelled"
    assert 0.2 < stopped.mean() < 0.5  # short answers are over before
    assert (frame[stopped]["generated_tokens"] < frame[stopped]["output_tokens"]).any()
    assert frame[stopped].eval("finish_s - arrival_s").to_numpy() == pytest.approx(0.2, abs=1e-9)
    both = pairs(frame)
    both = both[both["outcome_x"] == "cancelled"]
    assert (both["prompt_tokens_y"] > both["prompt_tokens_x"] + both["generated_tokens_x"]).all()
    waited = both.eval("arrival_s_y - finish_s_x")
    assert waited.min() >= 0
    assert waited.max() < 0.1  # until the iteration under way is over
    thinking = turns(scenario(turns=6, interrupt={"probability": 0.5, "after_s": 0.2, "then": "think"}))
    assert pairs(thinking).eval("arrival_s_y - finish_s_x").mean() > 1.0


def test_who_stops_after_tokens_gets_exactly_so_many() -> None:
    frame = turns(scenario(turns=6, interrupt={"probability": 1.0, "after_tokens": {"kind": "fixed", "tokens": 30}}))
    stopped = frame["outcome"] == "cancelled"
    assert (stopped == (frame["output_tokens"] > 30)).all()
    assert (frame[stopped]["generated_tokens"] == 30).all()
    both = pairs(frame)
    whole = turns(scenario(turns=6))
    assert (frame["output_tokens"] == whole["output_tokens"]).all()
    assert (both["prompt_tokens_y"] > both["prompt_tokens_x"] + both["generated_tokens_x"]).all()


def test_a_rejected_turn_ends_its_session() -> None:
    case = scenario(turns=10)
    pool = case.pools["p"]
    small = pool.model_copy(update={"engine": pool.engine.model_copy(update={"max_model_len": 600})})
    frame = turns(case.model_copy(update={"pools": {"p": small}}))
    last = frame.groupby("session_id")["outcome"].last()
    assert (last == "rejected").any()
    assert (frame["outcome"] == "rejected").sum() == (last == "rejected").sum()


@pytest.mark.parametrize("limit", [{"num_requests": 25}, {"duration_s": 6.0}])
def test_limits_end_sessions_half_way(limit: dict[str, Any]) -> None:
    case = scenario()
    users = case.workload.classes["users"].model_copy(update=limit)
    workload = case.workload.model_copy(update={"classes": {"users": users}})
    frame = turns(case.model_copy(update={"workload": workload}))
    if "num_requests" in limit:
        assert len(frame) == 25
    else:
        assert 0 < frame["arrival_s"].max() <= 6.0
        assert len(frame) < len(turns(case))


def test_only_runs_with_sessions_have_their_columns(tmp_path: Any) -> None:
    result = servesim.simulate(scenario(), 1)
    result.write(tmp_path / "with")
    written = pd.read_parquet(tmp_path / "with" / "requests.parquet").sort_values("request_id")
    assert written["session_id"].tolist() == result.requests["session_id"].tolist()
    users = scenario().workload.classes["users"]
    plain = users.model_copy(update={"arrivals": users.arrivals.starts, "num_requests": 5})
    case = scenario()
    case = case.model_copy(update={"workload": case.workload.model_copy(update={"classes": {"users": plain}})})
    assert not {"session_id", "turn"} & set(servesim.simulate(case, 1).requests.columns)


def test_closed_loop_clients_ask_the_same_of_any_system() -> None:
    """Clients are told apart by their first requests here: one after the other by the stagger."""

    def asked(base_s: float) -> dict[tuple[int, int], int]:
        loop = {"kind": "closed_loop", "max_concurrency": 4, "think_time_s": 0.3, "start_stagger_s": 0.01}
        case = scenario(base_s)
        users = case.workload.classes["users"].model_copy(
            update={"arrivals": kinds("arrivals")["closed_loop"](**loop), "num_requests": 80}
        )
        case = case.model_copy(update={"workload": case.workload.model_copy(update={"classes": {"users": users}})})
        frame = servesim.simulate(case, 1).requests.sort_values("arrival_s")
        found: dict[tuple[int, int], int] = {}
        free = [(0.01 * client, client, 0) for client in range(4)]
        for row in frame.itertuples():
            at = min(range(len(free)), key=lambda n: abs(free[n][0] - row.arrival_s))
            _, client, number = free.pop(at)
            found[client, number] = row.prompt_tokens
            free.append((row.finish_s + 0.3, client, number + 1))
        return found

    fast, slow = asked(0.01), asked(0.03)
    common = fast.keys() & slow.keys()
    assert len(common) >= 60
    assert all(fast[key] == slow[key] for key in common)
