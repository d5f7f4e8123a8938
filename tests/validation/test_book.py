"""The book on the whole measurements (where they are): accurate as it stands, and found out where a model is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from servesim.validation import rtx4090, triton, vllm_cpu
from servesim.validation.__main__ import gate
from servesim.validation.book import Section, collect, misses
from servesim.validation.page import page
from servesim.validation.triton_replay import Tuned
from tests.data import ROOT, shared_data

COMMITTED = ROOT / "docs" / "validation.json"


def data() -> Path:
    shared_data("validation", "vllm_cpu")
    return shared_data("validation", "triton_dynamic_batching_online.csv").parent.parent


def new_misses(section: Section) -> set[str]:
    known = json.loads(COMMITTED.read_text(encoding="utf-8"))
    return set(misses(section.figures, section.targets)) - set(misses(known["figures"], known["targets"]))


@pytest.mark.slow
def test_predictions_have_not_moved_and_are_accurate(capsys: pytest.CaptureFixture[str]) -> None:
    sections = dict(collect(data(), ("rtx4090", "vllm_cpu")))
    figures = {name: value for one in sections.values() for name, value in one.figures.items()}
    targets = {name: value for one in sections.values() for name, value in one.targets.items()}
    assert gate(COMMITTED, figures, targets, partly=True) == 0
    said = capsys.readouterr().out
    assert "did predictions move: no" in said
    assert "are they accurate: yes" in said
    for one in sections.values():
        assert one.markdown.strip() in (ROOT / "docs" / "validation.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_gpu_without_memory_limit_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    text = rtx4090.example(rtx4090.SCENARIO)
    assert "num_gpu_blocks: 2588" in text
    monkeypatch.setattr(rtx4090, "example", lambda name: text.replace("2588", "unlimited"))
    assert {"rtx4090.ttft.p50", "rtx4090.ttft.p99", "rtx4090.e2e.p99"} <= new_misses(rtx4090.section(data()))


@pytest.mark.slow
def test_an_engine_a_tenth_too_slow_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    right = vllm_cpu.speed_factor
    monkeypatch.setattr(vllm_cpu, "speed_factor", lambda rows, times: 1.1 * right(rows, times))
    found = new_misses(vllm_cpu.section(data()))
    assert {"vllm_cpu.speed_factor.tpot_mean.average", "vllm_cpu.speed_factor.e2e_mean.average"} <= found


@pytest.mark.slow
def test_batch_times_without_load_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = triton.committed()
    monkeypatch.setattr(triton, "committed", lambda: dict.fromkeys(numbers, Tuned()))
    found, left_out = triton.deployments(data(), {"gpunet-05ms-d/a100_sxm/onnx-fp16", "nnunet/a100_sxm/fp16"})
    assert sum(left_out.values()) > 900
    monkeypatch.setattr(triton, "deployments", lambda *_: (found, left_out))
    assert new_misses(triton.section(data())) == {"triton.latency.median"}


def test_a_page_says_which_targets_are_missed() -> None:
    one = Section("One", "text", {"a.b": 0.04, "a.c": 0.2, "a.d": 0.1}, {"a.b": 0.05, "a.c": 0.1})
    text = page({"one": one})
    assert "| `a.b` | 4.0 % | 5 % | yes |" in text
    assert "| `a.c` | 20.0 % | 10 % | no |" in text
    assert "a.d" not in text
