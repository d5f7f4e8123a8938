"""A run measured on a simulated server whose settings are known: replayed as it was, and with one assumption wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from servesim import simulate
from servesim.cli import main
from servesim.errors import InputError
from servesim.scenario.load import parse
from servesim.scenario.schema import Scenario
from servesim.validation.aggregates import Aggregate
from servesim.validation.book import compare
from servesim.validation.drive import drive
from servesim.validation.errors import Row, gap, noise, per_request, statistics, table
from servesim.validation.explain import explain
from servesim.validation.measured import read_measured
from servesim.validation.replay import replay
from servesim.validation.runs import Run
from servesim.validation.study import study, under_load
from servesim.validation.units import unit_hints
from servesim.workload.arrivals.all_at_once import AllAtOnceArrivals
from servesim.workload.arrivals.closed_loop import ClosedLoopArrivals
from servesim.workload.arrivals.gamma import GammaArrivals
from servesim.workload.arrivals.poisson import PoissonArrivals
from tests.validation import files

SERVER = """
name: server
workload:
  num_requests: 400
  classes:
    chat:
      arrivals: {kind: poisson, request_rate_rps: 6}
      prompt_tokens: {kind: lognormal, median_tokens: 300, sigma: 0.6, max_tokens: 2000}
      output_tokens: {kind: lognormal, median_tokens: 80, sigma: 0.5, max_tokens: 400}
pools:
  main:
    service_time: {kind: affine, base_s: 0.01, per_token_s: 2.0e-5, per_context_token_s: 2.0e-8}
    engine: {kind: continuous, num_gpu_blocks: 1000, max_num_seqs: 64, async_scheduling: false}
"""


def server(*overrides: str) -> Scenario:
    return parse(SERVER, overrides=overrides)


def measured(scenario: Scenario) -> Run:
    """Return what a server with these settings would have been measured at, by replaying random requests."""
    rng = np.random.default_rng(5)
    count = 400
    nothing = np.full(count, np.nan)
    asked = Run(
        "measured",
        np.concatenate([[0.0], np.cumsum(rng.exponential(1 / 6, count - 1))]),
        rng.integers(50, 800, count),
        rng.integers(2, 200, count),
        nothing,
        nothing,
    )
    return replay(asked, scenario)


def test_the_right_scenario_replays_without_error() -> None:
    run = measured(server())
    again = replay(run, server())
    np.testing.assert_allclose(again.ttft_s, run.ttft_s, rtol=1e-6)
    assert gap(table([run], [again])) < 1e-6
    assert per_request(run, again)["e2e_s"] < 1e-6


def test_one_replica_driven_by_hand_serves_like_the_scenario() -> None:
    from servesim.scenario.resolve import resolve

    run = measured(server())
    plan = resolve(server()).pools[0].plan
    driven = drive(run, plan.settings, plan.times)
    np.testing.assert_allclose(driven.ttft_s, run.ttft_s, rtol=1e-6)
    np.testing.assert_allclose(driven.e2e_s, run.e2e_s, rtol=1e-6)


@pytest.mark.parametrize(
    ("truth", "assumption", "value"),
    [
        ("pools.main.engine.host_time_s=0.004", "host time per iteration", "4 ms"),
        ("pools.main.engine.admission_time_s=0.05", "admission time per request", "50 ms"),
        ("pools.main.engine.num_gpu_blocks=250", "KV blocks", "250 (-"),
    ],
)
def test_the_assumption_that_is_wrong_is_found(truth: str, assumption: str, value: str) -> None:
    run = measured(server(truth))
    believed = server() if assumption != "KV blocks" else server("pools.main.engine.num_gpu_blocks=312")
    found = explain([run], [replay(run, believed)], believed)
    best = found[0]
    assert best.closed > 0.6
    assert best.assumption == assumption
    assert best.value.startswith(value)


def test_noise_of_repeats_is_their_scatter() -> None:
    run = measured(server())
    slower = Run(run.name, run.arrival_s, run.prompt_tokens, run.output_tokens, 1.1 * run.ttft_s, run.e2e_s)
    assert noise([run, slower])["ttft_s.mean"] == pytest.approx(0.1 / np.sqrt(2) / 1.05)


def test_noise_of_one_run_is_what_independent_runs_scatter() -> None:
    """Latencies that do not depend on each other: the standard error of a mean is known."""
    rng = np.random.default_rng(0)
    count = 4000
    run = Run(
        "x",
        np.arange(count) * 1.0,
        np.full(count, 9),
        np.full(count, 2),
        rng.exponential(1.0, count),
        rng.random(count) + 9,
    )
    assert noise([run])["ttft_s.mean"] == pytest.approx(1 / np.sqrt(count), rel=0.2)


def test_closed_loop_clients_wait_for_their_answers() -> None:
    run = measured(server())
    looped = replay(run, server(), users=4)
    busy = [np.sum((looped.arrival_s <= t) & (t < looped.arrival_s + looped.e2e_s)) for t in looped.arrival_s[10:-10]]
    assert max(busy) == 4
    assert statistics(looped)["requests_per_s"] > 0


def test_recorded_prefix_cache_hits_shorten_the_prefill(tmp_path: Path) -> None:
    lines = [f"{0.5 * i},600,20,0.1,0.5,{cached}" for i in range(20) for cached in (512 * (i % 2),)]
    path = tmp_path / "hits.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens,ttft_s,e2e_s,cached_tokens\n" + "\n".join(lines) + "\n")
    run = read_measured(path)
    assert isinstance(run, Run)
    alone = replay(run, server("client={clock: client, request_network_s: 0.01, response_network_s: 0.01}"))
    missed, hit = alone.ttft_s[::2], alone.ttft_s[1::2]
    np.testing.assert_allclose(missed - hit, 512 * 2.0e-5, rtol=1e-6)  # the prefill of what was cached
    np.testing.assert_allclose(hit, 0.01 + 88 * 2.0e-5 + 0.02, rtol=1e-6)  # one iteration, and the network


def test_a_result_of_servesim_validates_itself(tmp_path: Path) -> None:
    simulate(server()).write(tmp_path / "result")
    (found,) = study([tmp_path / "result" / "requests.parquet"], server(), explaining=False)
    assert max(abs(row.error) for row in found.rows) < 1e-6


def test_an_aggregate_row_is_simulated_under_its_load(tmp_path: Path) -> None:
    path = files.vllm_plain(tmp_path / "plain.json")
    (found,) = study([path], server())
    rows = {row.metric: row for row in found.rows}
    assert rows["tpot_s.mean"].measured == 0.01
    assert 0.01 < rows["tpot_s.mean"].simulated < 0.02
    assert any("prompts have" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("load", "arrivals", "said"),
    [
        ({"request_rate": "inf", "max_concurrency": None}, AllAtOnceArrivals(), None),
        ({"request_rate": "inf", "max_concurrency": 4}, ClosedLoopArrivals(max_concurrency=4), None),
        (
            {"request_rate": 3, "max_concurrency": None, "burstiness": 0.5},
            GammaArrivals(request_rate_rps=3, burstiness=0.5),
            None,
        ),
        (
            {"request_rate": 3, "max_concurrency": 4},
            GammaArrivals(request_rate_rps=3),
            "at most 4 at once: they are simulated without",
        ),
        (
            {"request_rate": None, "max_concurrency": None},
            PoissonArrivals(request_rate_rps=6),
            "neither rate nor concurrency",
        ),
    ],
    ids=["all at once", "closed loop", "bursts", "rate and limit", "unknown"],
)
def test_the_load_of_an_aggregate_row_is_the_one_simulated(
    load: dict, arrivals: object, said: str | None, tmp_path: Path
) -> None:
    (row,) = read_measured(files.vllm_plain(tmp_path / "plain.json", **load))
    assert isinstance(row, Aggregate)
    (spec,) = under_load(server(), row).workload.classes.values()
    assert spec.arrivals == arrivals
    assert spec.num_requests == 100
    assert [said in note for note in row.notes if said] == [True] * (said is not None)


@pytest.mark.parametrize(
    ("factor", "asked"),
    [(1e3, "milliseconds in a field of seconds"), (1e-3, "seconds in a field of milliseconds"), (2.0, None)],
)
def test_a_factor_of_1000_is_taken_for_the_unit(factor: float, asked: str | None, tmp_path: Path) -> None:
    run = measured(server())
    log = tmp_path / "run.csv"
    rows = zip(
        run.arrival_s, run.prompt_tokens, run.output_tokens, factor * run.ttft_s, factor * run.e2e_s, strict=True
    )
    head = "arrival_s,prompt_tokens,output_tokens,ttft_s,e2e_s\n"
    log.write_text(head + "".join(f"{','.join(map(str, row))}\n" for row in rows))
    (found,) = study([log], server(), explaining=False)
    hints = [warning for warning in found.warnings if "measured about" in warning]
    assert len(hints) == (asked is not None)
    assert asked is None or (asked in hints[0] and "TPOT and TTFT and E2E" in hints[0])


def test_a_long_queue_is_not_taken_for_a_unit() -> None:
    """TTFT and E2E are 1000 times longer in an overload; the time per token is not."""
    rows = [
        Row(f"{name}.p50", value, 0.01, None) for name, value in (("ttft_s", 10.0), ("tpot_s", 0.01), ("e2e_s", 10.0))
    ]
    assert unit_hints(rows) == []
    assert len(unit_hints([row for row in rows if row.metric != "tpot_s.p50"])) == 1


def test_a_latency_is_compared_over_the_requests_of_which_it_is_known() -> None:
    """Without the latencies of the longest prompts the right server would look 10 % too slow."""
    whole = measured(server())
    hidden = whole.prompt_tokens > np.median(whole.prompt_tokens)
    run = replace(whole, ttft_s=np.where(hidden, np.nan, whole.ttft_s))
    rows = {row.metric: row for row in table([run], [whole])}
    assert rows["ttft_s.mean"].error == 0.0
    assert rows["e2e_s.mean"].error == 0.0


@pytest.mark.parametrize("users", [None, 4], ids=["at their times", "closed loop"])
def test_requests_that_the_simulation_refuses_are_counted_and_not_served(users: int | None, tmp_path: Path) -> None:
    run = measured(server())
    log = tmp_path / "run.csv"
    rows = zip(run.arrival_s, run.prompt_tokens, run.output_tokens, run.ttft_s, run.e2e_s, strict=True)
    head = "arrival_s,prompt_tokens,output_tokens,ttft_s,e2e_s\n"
    log.write_text(head + "".join(f"{','.join(map(str, row))}\n" for row in rows))
    long = int(np.sum(run.prompt_tokens + run.output_tokens > 700))
    assert 0 < long < len(run) / 2
    scenario = server("pools.main.engine.max_model_len=700")
    (found,) = study([log], scenario, users=users, explaining=False)
    assert any(f"did not serve {long} of {len(run)} requests" in warning for warning in found.warnings)
    errors = {row.metric: row.error for row in found.rows}
    assert users is not None or errors["requests_per_s"] == pytest.approx(-long / len(run), abs=0.02)
    assert not study([log], server(), users=users, explaining=False)[0].warnings[1:]


def test_a_repeat_is_another_run(tmp_path: Path) -> None:
    """The same file under another name would have no noise at all."""
    one, two = files.csv_file(tmp_path / "one.csv"), files.csv_file(tmp_path / "two.csv")
    with pytest.raises(InputError, match=r"one\.csv and two\.csv hold the same requests and latencies"):
        study([one, two], server(), explaining=False)


def test_the_command_writes_tables_and_a_picture_and_judges(tmp_path: Path) -> None:
    scenario = tmp_path / "server.yaml"
    scenario.write_text(SERVER)
    log = tmp_path / "run.csv"
    run = measured(server())
    rows = zip(run.arrival_s, run.prompt_tokens, run.output_tokens, run.ttft_s, run.e2e_s, strict=True)
    log.write_text(
        "arrival_s,prompt_tokens,output_tokens,ttft_s,e2e_s\n" + "".join(f"{','.join(map(str, row))}\n" for row in rows)
    )
    wrong = ["--set", "pools.main.service_time.base_s=0.02", "--no-explain", "--max-error", "0.05"]
    asked = ["validate", str(log), "--scenario", str(scenario), "--format", "json"]
    right = CliRunner().invoke(main, [*asked, "--no-explain", "--max-error", "0.05", "-o", str(tmp_path / "out")])
    assert right.exit_code == 0, right.output
    found = json.loads(right.stdout)[0]
    assert found["per_request_median_error"]["ttft_s"] < 1e-4
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "validation.json",
        "validation.md",
        "validation.png",
    }
    assert CliRunner().invoke(main, [*asked, *wrong]).exit_code == 3
    table_of = CliRunner().invoke(main, ["validate", str(log), "--scenario", str(scenario)])
    assert "Furthest off" in table_of.stdout
    assert "no gap is left to explain" in " ".join(table_of.stdout.split())
    assert "closes" not in table_of.stdout
    gap_of = CliRunner().invoke(main, ["validate", str(log), "--scenario", str(scenario), *wrong[:2]])
    assert "service times" in gap_of.stdout
    assert "closes" in gap_of.stdout


def test_a_gate_tells_moved_from_inaccurate() -> None:
    committed = {"figures": {"a": 0.04, "b": 0.2}, "targets": {"a": 0.05, "b": 0.1}}
    same = compare({"a": 0.0401, "b": 0.2}, committed["targets"], committed)
    assert not same.moved
    assert not same.new_misses
    assert list(same.known_misses) == ["b"]
    worse = compare({"a": 0.06, "b": 0.2}, committed["targets"], committed)
    assert list(worse.moved) == ["a"]
    assert list(worse.new_misses) == ["a"]
    assert list(compare({"a": 0.03, "b": 0.2}, committed["targets"], committed).moved) == ["a"]
