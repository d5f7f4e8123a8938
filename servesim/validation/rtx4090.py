"""One real run of vLLM 0.19 on an RTX 4090: 300 conversations, more than the GPU takes, nothing fitted to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from servesim.catalog import model
from servesim.catalog.examples import example
from servesim.catalog.layout import layout_of
from servesim.catalog.model_errors import METRICS, DeploymentError
from servesim.scenario.load import parse
from servesim.validation.book import Section, metric_error
from servesim.validation.errors import Row, per_request, table
from servesim.validation.explain import Explanation, explain
from servesim.validation.measured import read_measured
from servesim.validation.pictures import measured_against_simulated
from servesim.validation.replay import replay
from servesim.validation.runs import Run

SCENARIO = "sharegpt-llama31-8b-rtx4090"
TARGET = 0.05
TARGET_PER_REQUEST = 0.03


def section(data: Path) -> Section:
    """Return the section of the RTX 4090 run."""
    measured = read_measured(data / "validation" / "vllm_rtx4090_llama31_8b" / "requests.jsonl")
    assert isinstance(measured, Run)
    scenario = parse(example(SCENARIO))
    simulated = replay(measured, scenario)
    rows = table([measured], [simulated])
    each = per_request(measured, simulated)
    figures, targets = {}, {}
    for row in rows:
        metric, _, statistic = row.metric.partition(".")
        name = f"rtx4090.{metric.removesuffix('_s')}.{statistic}"
        if statistic:
            figures[name] = abs(row.error)
        if statistic in ("p50", "p99"):
            targets[name] = TARGET
    figures["rtx4090.ttft.per_request_median"] = each["ttft_s"]
    targets["rtx4090.ttft.per_request_median"] = TARGET_PER_REQUEST
    text = "\n".join([_TEXT, *_table(rows, each), "", *_why(explain([measured], [simulated], scenario)), "", _PICTURE])

    def picture(path: Path) -> None:
        measured_against_simulated(measured, simulated, path)

    errors = [
        DeploymentError(
            backend="vllm",
            gpu="rtx_4090",
            model="llama-3.1-8b",
            layouts=[layout_of(model("llama-3.1-8b"), "bf16", "auto", 1, 1, False)],
            rows=4,
            source=_SOURCE,
            **_errors(rows),
        )
    ]
    pictures = {"validation-rtx4090.png": picture}
    return Section("vLLM on an RTX 4090", text, figures, targets, pictures, errors)


_SOURCE = "LLMServingSim's run of 300 ShareGPT conversations, vLLM 0.19; nothing tuned"


def _errors(rows: list[Row]) -> dict[str, Any]:
    return {name: metric_error([row.error for row in rows if row.metric.startswith(name)]) for name in METRICS}


_TEXT = f"""vLLM 0.19 served 300 ShareGPT conversations arriving within half a minute (LLMServingSim, MIT; `queued_ts`
is the arrival). The GPU holds about 45 of them, so that the queue, KV exhaustion and preemption decide. The
replay uses `scenarios/{SCENARIO}.yaml`: the run's own settings and its 2,588 KV blocks, and iteration times
composed from single layers measured on that GPU (`python -m servesim.calibrate.layer_operators`). No number
was fitted to the run.
"""
_PICTURE = "![Measured against simulated, RTX 4090](validation-rtx4090.png)"


def _table(rows: list[Row], each: dict[str, float]) -> list[str]:
    lines = ["| Statistic | Measured | Simulated | Error | Noise |", "|---|---|---|---|---|"]
    for row in rows:
        unit, scale = ("ms", 1e3) if row.metric.startswith(("tpot", "itl")) else ("", 1.0)
        noise = "" if row.noise is None else f"± {100 * row.noise:.1f} %"
        values = f"{scale * row.measured:.4g} {unit} | {scale * row.simulated:.4g} {unit}"
        lines.append(f"| {row.metric} | {values} | {100 * row.error:+.1f} % | {noise} |")
    medians = ", ".join(f"{name.removesuffix('_s').upper()} {100 * value:.1f} %" for name, value in each.items())
    return [*lines, "", f"Each request against itself, median error: {medians}."]


def _why(found: list[Explanation]) -> list[str]:
    lines = ["| One thing changed | To | Mean error left | Closes |", "|---|---|---|---|"]
    for one in found:
        lines.append(f"| {one.assumption} | {one.value} | {100 * one.left:.1f} % | {100 * one.closed:.0f} % |")
    return lines
