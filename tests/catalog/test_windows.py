"""Layers with a sliding window: what vLLM would keep of a sequence, and that runs say what is counted instead."""

import pytest

from servesim.catalog import model, window_warning
from servesim.catalog.memory import window_share
from servesim.experiment.simulate import simulate
from servesim.scenario.load import parse

SCENARIO = """\
name: windows
workload:
  classes:
    a: {arrivals: all_at_once, num_requests: 2, prompt_tokens: 100, output_tokens: 3}
pools:
  main:
    model: MODEL
    gpu: h100
    service_time: roofline
    engine: {BLOCKS}
"""


def _warnings(name: str, blocks: str = "host_time_s: 0") -> list[str]:
    record = simulate(parse(SCENARIO.replace("MODEL", name).replace("BLOCKS", blocks))).record
    return [warning for warning in record.warnings if "window" in warning]


def test_the_share_by_hand() -> None:
    oss = model("gpt-oss-20b")  # every other layer sees the last 128 tokens
    assert (oss.layers, oss.sliding_window_layers, oss.sliding_window_tokens) == (24, 12, 128)
    assert window_share(oss, 8192, 16) == pytest.approx((12 * 512 + 12 * 9) / (24 * 512))
    assert window_share(oss, 144, 16) == 1.0
    assert window_share(oss, 160, 16) == pytest.approx((12 * 10 + 12 * 9) / (24 * 10))
    assert window_share(model("llama-3.1-8b"), 8192, 16) == 1.0


def test_no_warning_where_windows_change_nothing() -> None:
    assert window_warning(model("llama-3.1-8b"), 16, 8192) is None
    assert window_warning(model("gpt-oss-20b"), 16, 128) is None


def test_runs_say_that_windows_are_counted_in_full() -> None:
    (warning,) = _warnings("gpt-oss-20b")
    assert (
        "pool main: KV blocks count all 24 layers of gpt-oss-20b in full, also the 12 with a window of 128" in warning
    )
    assert "8192 tokens takes 0.51 of that" in warning
    assert _warnings("llama-3.1-8b") == []
    assert _warnings("gpt-oss-20b", "num_gpu_blocks: unlimited") == []
