"""The words of the book's section on closed-loop runs, and its figures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from servesim.catalog.deployments import fitted_deployments
from servesim.catalog.layout import in_order
from servesim.catalog.model_errors import DeploymentError
from servesim.validation.book import Section, metric_error
from servesim.validation.closed_loop import Loop, Replayed, read_loops
from servesim.validation.closed_loop_study import Group
from servesim.validation.closed_loop_tables import (
    EVERY,
    UNLIMITED,
    ablation,
    deployment_lines,
    errors_of,
    figures_of,
    fitted_lines,
    held_out_figures,
    replay_or_reason,
    run_lines,
    summary_lines,
    targets_of,
)

_TEXT = """\
Mean TTFT and TPOT of real runs of vLLM and TensorRT-LLM on H100, H200, B200 and B300 (aiconfigurator 0.12.0,
Apache-2.0; settings read from the public benchmark scripts): so many clients, each sending its next request when it
has its answer, all starting at once and counted in the mean; about ten requests per client, lengths uniform in 0.8 to
1.0 of the nominal ones. Each row is a scenario of its own with the run's parallelism, precision, KV format and engine
settings; iteration times are the operator database's for that very deployment, KV blocks follow from the GPU's
memory. E2E measured is TTFT + TPOT * (mean output length - 1).

Three numbers per engine, GPU and model are tuned on these rows by `python -m
servesim.validation.closed_loop_catalog` and stored in `servesim/catalog/deployments`, where every scenario finds
them: time per layer for each further GPU, a factor on prefill, and the least time per layer of an iteration with
prefill. The same for all deployments of an engine, as round numbers that were chosen once on the same rows: what
the context adds to an iteration counts 1.2 times (contexts of one batch differ, operators were timed on equal
ones), what further sequences add in a mixture of experts 0.85 times (requests wake fewer experts than tokens dealt
out at random), receiving a prompt takes 2 µs per token, and under vLLM NVFP4 takes 10 µs per layer and iteration
(activations are quantised by kernels of their own). The operator tables are levelled (docs/calibration.md). Runs of
few requests are replayed with several seeds. A GPU of which no run was seen gets the medians of its engine, of the
prefill numbers those of the same model where two GPUs have it, else those of models of its kind (dense, or mixtures
of experts) where two GPUs have one.

Errors are |simulated / measured - 1|, median (90th percentile), in percent. What is left out is replayed with what the
rest says of it, and nothing of it has reached the numbers tuned on the rest. Single runs are left out to first order
around the whole fit (fitting anew moves the medians by less than a point, as a nightly test holds); all runs of one
layout (number formats and parallelism), by fitting anew to the other layouts of the same engine, GPU and model; a GPU
or a model, by the medians of the engine's others. A scenario is told the error that is its own: of runs left out if
its layout was measured, of layouts left out if only others were, else of GPUs or models left out. One dense model per
engine was measured, so that leaving it out tells what mixtures of experts say of it; for dense models that nobody
measured, the error of all the engine's models left out in turn is told instead.

Runs that fill the KV blocks were neither fitted nor left out in turn; their error is told to scenarios that turn out
to fill them, where it is wider.

The form of the correction, its weights, the engine-wide numbers and the levelling of the tables were chosen with all
these runs in view, so that what was left out of a fit was not left out of these choices: errors on runs that nobody has
seen yet will be somewhat larger.

Runs named "left out: ..." in the table below were neither fitted nor counted in any figure above; of 26 of them the
operator data (MiniMax-M2.5 in FP8 on B200 and B300) are about twice too slow. Scenarios of theirs run, are too slow by
as much, and are told the error of these runs.
"""
_DATA_TOO_SLOW = "operator data about 2x too slow"


def closed_loop_section(path: Path) -> Section:
    """Return the section made from the rows of `path`."""
    loops = read_loops(path)
    replayed: list[Replayed] = []
    failed: list[tuple[Loop, str]] = []
    for loop in loops:
        found = replay_or_reason(loop)
        if isinstance(found, Replayed):
            replayed.append(found)
        else:
            failed.append((loop, found))
    kept = [one for one in replayed if not one.loop.exclude]
    figures: dict[str, float] = {}
    parts = {}
    splits = sorted({one.loop.split for one in kept})
    for split in splits:
        free = [one for one in kept if one.loop.split == split and not one.saturated]
        parts[f"{split}, KV blocks to spare"] = errors_of(free)
        figures |= figures_of(split, errors_of(free))
    parts["KV-saturated"] = errors_of(one for one in kept if one.saturated)
    figures |= figures_of("saturated", parts["KV-saturated"])
    for reason in sorted({one.loop.exclude for one in replayed if one.loop.exclude}):
        parts[f"left out: {reason}"] = errors_of(one for one in replayed if one.loop.exclude == reason)
    figures |= held_out_figures()
    rows = ablation([one.loop for one in kept][::EVERY])
    full = ablation([one.loop for one in kept if one.saturated])
    rows += [(f"KV-saturated runs: {name}", errors) for name, errors in full if name in ("as replayed", UNLIMITED)]
    text = [
        _TEXT,
        *summary_lines(parts),
        "",
        *_failed(failed),
        "What was tuned, with the errors of runs left out of the fit in turn (in the lines without a GPU, of whole",
        "GPUs, without a model, of whole models), and of layouts left out where there are two:",
        "",
        *fitted_lines(fitted_deployments()),
        "",
        f"What each part of the simulation is worth, on every {EVERY}th run, with one thing left out at a",
        "time (no visible run had TensorRT-LLM wait for batches):",
        "",
        *summary_lines(dict(rows)),
        "",
        "### Closed-loop runs by deployment",
        "",
        *deployment_lines(kept),
        "",
        "### Every closed-loop run",
        "",
        *run_lines(replayed),
    ]
    targets = targets_of((*splits, "saturated", "unseen", "run_left_out", "layout_left_out"))
    told = [_of_full_blocks(one for one in kept if one.saturated), *errors_of_slow_data(replayed)]
    return Section("Closed-loop runs on H100, H200, B200 and B300", "\n".join(text), figures, targets, errors=told)


def _of_full_blocks(replayed: Iterable[Replayed]) -> DeploymentError:
    """Return the error of runs that fill the KV blocks, whose deployments were fitted to other runs."""
    runs = list(replayed)
    (backend,) = {one.loop.backend for one in runs}
    ttft, tpot, e2e = map(metric_error, errors_of(runs).T.tolist())
    source = "closed-loop runs that fill the KV blocks; their deployments were tuned on other runs"
    return DeploymentError(
        backend=backend, kv_saturated=True, rows=len(runs), source=source, ttft_s=ttft, tpot_s=tpot, e2e_s=e2e
    )


def errors_of_slow_data(replayed: Iterable[Replayed]) -> list[DeploymentError]:
    """Return the errors of runs whose operator data are too slow, which no fit of three numbers mends.

    Scenarios of their deployments are told them, in every layout of their precision: the data are the precision's.
    """
    groups: dict[Group, list[Replayed]] = {}
    for one in replayed:
        if one.loop.exclude == _DATA_TOO_SLOW:
            groups.setdefault(one.loop.group, []).append(one)
    return [_of_slow_data(group, runs) for group, runs in sorted(groups.items(), key=lambda pair: pair[0])]


def _of_slow_data(group: Group, runs: list[Replayed]) -> DeploymentError:
    backend, gpu, model = group
    ttft, tpot, e2e = map(metric_error, errors_of(runs).T.tolist())
    return DeploymentError(
        backend=backend,
        gpu=gpu,
        model=model,
        layouts=in_order(one.loop.layout for one in runs),
        of_precision=True,
        tuned=True,
        rows=len(runs),
        source=f"closed-loop runs left out of every fit: {_DATA_TOO_SLOW}",
        ttft_s=ttft,
        tpot_s=tpot,
        e2e_s=e2e,
    )


def _failed(failed: list[tuple[Loop, str]]) -> list[str]:
    if not failed:
        return []
    return [*(f"- not replayed: {loop.name}: {reason}" for loop, reason in failed), ""]
