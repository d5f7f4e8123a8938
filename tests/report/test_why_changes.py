"""What `--why` tries, what it refuses, and that its reruns are the runs a user would make."""

from bisect import bisect_left

import pytest

from servesim.experiment import why_verify
from servesim.experiment.simulate import simulate
from servesim.experiment.why_changes import changes
from servesim.experiment.why_verify import verify
from servesim.scenario.load import parse
from tests.report.conftest import ONE_POOL, TWO_POOLS

LLAMA = """\
name: llama
workload:
  num_requests: 300
  classes: {chat: {arrivals: {kind: poisson, request_rate_rps: 4}, prompt_tokens: 500, output_tokens: 100}}
pools: {a100: {model: llama-3.1-8b, gpu: a100_sxm}}
"""


def settings(text: str, *overrides: str) -> dict[str, str]:
    """Return every change by its setting with the reason why it cannot be tried, "" where it can."""
    found = changes(parse(text, overrides=overrides))
    assert all((change.scenario is None) == bool(change.why_not) for change in found)
    assert len({change.setting for change in found}) == len(found)
    return {change.setting: change.why_not for change in found}


def test_what_is_tried_for_a_calibrated_deployment() -> None:
    tried = {setting for setting, why_not in settings(LLAMA).items() if not why_not}
    engine = "pools.a100.engine."
    assert {
        "pools.a100.replicas=2",
        f"{engine}max_num_batched_tokens=4096",
        f"{engine}max_num_batched_tokens=1024",
        f"{engine}max_num_seqs=512",
        f"{engine}gpu_memory_utilization=0.95",
        f"{engine}tensor_parallel_size=2",
        f"{engine}scheduler=shortest_prompt",
        f"{engine}async_scheduling=false",
    } <= tried


def test_every_change_can_be_set_by_hand_to_the_same_scenario() -> None:
    for text in (LLAMA, TWO_POOLS):
        for change in changes(parse(text)):
            if change.scenario is not None:
                assert parse(text, overrides=[change.setting]) == change.scenario


@pytest.mark.parametrize(("text", "overrides", "setting", "reason"), [
    (ONE_POOL, (), "engine.gpu_memory_utilization", "without `gpu` and `model`"),
    (ONE_POOL, (), "engine.tensor_parallel_size", "of this parallelism only"),
    (ONE_POOL, (), "engine.scheduler=priority", "same priority"),
    (ONE_POOL, ("pools.main.engine.max_num_batched_tokens=100",), "engine.max_num_batched_tokens=50",
     "below max_num_seqs"),
    (LLAMA, ("pools.a100.engine.gpu_memory_utilization=0.96",), "engine.gpu_memory_utilization", "is 0.96 already"),
    (LLAMA, ("pools.a100.engine.num_gpu_blocks=unlimited",), "engine.gpu_memory_utilization", "is unlimited"),
    (LLAMA, ("pools.a100.engine.num_gpu_blocks=999999",), "engine.num_gpu_blocks=null", "blocks fit the GPU"),
    (LLAMA, ("pools.a100.engine.tensor_parallel_size=2",), "engine.tensor_parallel_size", "no calibration above 2"),
    (LLAMA, ("pools.a100.engine.enable_chunked_prefill=false", "pools.a100.engine.max_model_len=2000",
             "pools.a100.engine.max_num_batched_tokens=2048"), "engine.max_num_batched_tokens=1024",
     "below max_model_len"),
])  # fmt: skip
def test_what_is_refused_has_its_reason(text: str, overrides: tuple[str, ...], setting: str, reason: str) -> None:
    found = {name.split(".", 2)[2]: why_not for name, why_not in settings(text, *overrides).items()}
    assert reason in found[setting]


def test_given_blocks_are_replaced_by_what_fits_and_roofline_doubles_parallelism() -> None:
    found = settings(LLAMA, "pools.a100.engine.num_gpu_blocks=500", "pools.a100.service_time=roofline")
    assert found["pools.a100.engine.num_gpu_blocks=null"] == ""
    assert found["pools.a100.engine.tensor_parallel_size=2"] == ""


def test_every_pool_has_its_changes_and_its_own_router() -> None:
    found = settings(TWO_POOLS)
    assert found["pools.first.router=least_outstanding"] == ""
    assert "pools.second.router=least_outstanding" not in found
    assert found["pools.second.replicas=2"] == ""


def test_reruns_are_the_runs_a_user_would_make() -> None:
    result = simulate(parse(ONE_POOL))
    found = verify(parse(ONE_POOL), result)
    assert found["whole_workload"]
    assert found["requests"] == 400
    assert found["base"]["p99_ttft_s"] == result.summary["classes"]["all"]["ttft_s"]["p99"]
    for one in found["tried"]:
        by_hand = simulate(parse(ONE_POOL, overrides=[one["set"]])).summary["classes"]["all"]
        assert one["p99_ttft_s"] == by_hand["ttft_s"]["p99"]
        assert one["goodput_rps"] == by_hand["goodput_rps"]
        assert one["p99_e2e_s_change"] == pytest.approx(by_hand["e2e_s"]["p99"] / found["base"]["p99_e2e_s"] - 1)
    ranked = [one["p99_ttft_s"] for one in found["tried"]]
    assert ranked == sorted(ranked)
    other = simulate(parse(ONE_POOL), seed=1).summary["classes"]["all"]
    assert found["other_seed"]["p99_ttft_s"] == other["ttft_s"]["p99"]


def test_a_long_workload_is_cut_to_its_first_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(why_verify, "REQUESTS_IN_ALL", 0)
    monkeypatch.setattr(why_verify, "LEAST_REQUESTS", 100)
    scenario = parse(TWO_POOLS)
    result = simulate(scenario)
    found = verify(scenario, result)
    first = result.requests.sort_values("arrival_s").head(100)["class"].value_counts()
    cut = [f"workload.classes.{name}.num_requests={count}" for name, count in first.items()]
    assert not found["whole_workload"]
    assert found["requests"] == found["base"]["offered"] == 100
    by_hand = simulate(parse(TWO_POOLS, overrides=cut)).summary["classes"]["all"]
    assert found["base"]["p99_ttft_s"] == by_hand["ttft_s"]["p99"]


@pytest.mark.parametrize(("overrides", "setting"), [
    (("pools.main.engine.max_num_seqs=6",), "pools.main.engine.max_num_seqs=12"),
    (("pools.main.engine.max_num_seqs=64", "pools.main.engine.max_num_batched_tokens=128",
      "workload.classes.chat.arrivals.request_rate_rps=12"), "pools.main.engine.max_num_batched_tokens=256"),
])  # fmt: skip
def test_the_bottleneck_is_the_setting_that_helps_most(overrides: tuple[str, ...], setting: str) -> None:
    scenario = parse(ONE_POOL, overrides=overrides)
    result = simulate(scenario)
    cheap = [one for one in verify(scenario, result)["tried"] if one["gpus"] == 1]
    assert cheap[0]["set"] == setting
    assert result.summary["why"]["p99_ttft"]["bottleneck"] in setting
    assert cheap[0]["p99_ttft_s_change"] < -0.3


def test_a_change_that_reaches_a_limit_is_reported_and_not_fatal() -> None:
    scenario = parse(ONE_POOL, overrides=["pools.main.engine.max_num_seqs=6"])
    events = bisect_left(range(100_000), True, key=_runs)  # the least that the unchanged scenario needs
    scenario = parse(ONE_POOL, overrides=["pools.main.engine.max_num_seqs=6", f"limits.max_events={events}"])
    found = verify(scenario, simulate(scenario))
    assert any("limits.max_events" in one["reason"] for one in found["skipped"])


def _runs(events: int) -> bool:
    from servesim.errors import LimitReached

    try:
        simulate(parse(ONE_POOL, overrides=["pools.main.engine.max_num_seqs=6", f"limits.max_events={events}"]))
    except LimitReached:
        return False
    return True
