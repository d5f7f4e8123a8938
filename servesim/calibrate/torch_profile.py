"""A whole profile: build the model, measure the design, fit, and write calibration, raw points and picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from servesim.calibrate.batch_latency import held_back, summary
from servesim.calibrate.batch_latency import to_yaml as batch_yaml
from servesim.calibrate.calibration_file import (
    Source,
    calibration_of,
    engine_lines,
    in_yaml,
    reach,
    report_lines,
    write,
)
from servesim.calibrate.iteration_fit import LEAST_ITERATIONS, fit_iterations
from servesim.calibrate.iterations import Iterations
from servesim.calibrate.terms import choose
from servesim.calibrate.torch_device import check_precision
from servesim.calibrate.torch_measure import Backend, Campaign, Measured, OutOfMemory, distinct, repeat_scatter
from servesim.calibrate.torch_plan import Outcome, Plan
from servesim.calibrate.torch_points import BatchPoint, IterationPoint, Limits, batch_points, iteration_points
from servesim.calibrate.torch_store import RawPoints, limit_of
from servesim.calibrate.torch_subjects import DECODER
from servesim.catalog.batch_calibrations import BatchCalibration
from servesim.catalog.calibrations import Calibration, Key
from servesim.errors import InputError, ServesimError

if TYPE_CHECKING:
    from servesim.calibrate.torch_ranks import Ranks

LEAST_ROWS = 8  # of a design on each side of a knot: every row is the median of many runs
LEAST_SIZES = 3
LICENCE = "measured by the user"
_MAX_SEQS, _MAX_CONTEXT, _MAX_PREFILL = (256, 32), (8192, 1024), (8192, 1024)  # on CUDA, on a processor
_MAX_BATCH = (256, 32)


Progress = Callable[[int, int, Any], None]
Bar = Callable[[], AbstractContextManager[Progress | None]]


def profile(plan: Plan, bar: Bar = nullcontext) -> Outcome | None:
    """Measure and write everything; InputError for what cannot be measured. A batch that does not fit is an answer.

    `bar` makes what is told of every point; it is made where the measuring is done, which is another process for a
    model that is split. Returns None in a process that torchrun started, unless it is the first one.
    """
    check_precision(plan.device, plan.dtype, plan.quantization)
    if plan.tensor_parallel_size > 1:
        from servesim.calibrate.torch_ranks import launched

        return launched(plan.tensor_parallel_size, plan.device.kind, _in_rank, plan, bar)
    with bar() as progress:
        return _profiled(plan, progress)


def _in_rank(ranks: Ranks, plan: Plan, bar: Bar) -> Outcome | None:
    plan.device.use()
    plan = replace(plan, ranks=ranks.each(plan.device.name()))
    with bar() if ranks.rank == 0 else nullcontext() as progress:
        return _profiled(plan, progress, ranks)


def _profiled(plan: Plan, progress: Progress | None, ranks: Ranks | None = None) -> Outcome | None:
    try:
        if plan.subject.task == DECODER:
            return _profile_decoder(plan, progress, ranks)
        return _profile_batches(plan, progress)
    except OutOfMemory:
        on = f"{plan.tensor_parallel_size} x {plan.gpu}" if plan.ranks else plan.gpu
        raise InputError(f"{plan.subject.name} in {plan.precision} does not fit the memory of {on}") from None


def _profile_decoder(plan: Plan, progress: Progress | None, ranks: Ranks | None) -> Outcome | None:
    from servesim.calibrate.torch_decoder import Decoder, DecoderBackend
    from servesim.calibrate.torch_lockstep import follow, leading
    from servesim.calibrate.torch_ranks import ALONE

    entry = plan.subject.entry
    assert entry is not None
    on_cpu = not plan.device.is_cuda
    seqs = plan.max_num_seqs or _MAX_SEQS[on_cpu]
    context = min(plan.max_context or _MAX_CONTEXT[on_cpu], entry.max_context)
    prefill = min(plan.max_prefill_tokens or _MAX_PREFILL[on_cpu], 16 * context)
    wanted = seqs * (context + 1) + prefill + context
    ranks = ranks or ALONE
    decoder = Decoder(plan.subject, plan.device, plan.dtype, plan.quantization, plan.compiled, wanted, ranks)
    limits = Limits(seqs, context, prefill, decoder.cache.tokens)
    points = iteration_points(limits, plan.points, plan.seed)
    backend = DecoderBackend(decoder)
    if ranks.rank > 0:
        follow(backend, ranks)
        return None
    with leading(backend, ranks) as lead:
        found, left = measured(plan, IterationPoint, lead, points, _needs_more, progress)
    notes = [*_notes(found, left), *_memory_notes(found, decoder.cache.tokens, wanted), *_parallel_notes(plan)]
    if backend.without_graph:
        notes.append(f"{len(backend.without_graph)} decode points ran without a CUDA graph: {backend.without_graph[0]}")
    return decoder_outcome(plan, found, notes)


def measured(
    plan: Plan, kind: Any, backend: Backend[Any], points: Sequence[Any], needs_more: Any, progress: Progress | None
) -> tuple[list[Measured[Any]], int]:
    """Run the campaign, with raw points stored as they finish; return them and how many points the budget left out."""
    store = RawPoints(plan.raw_path, kind, plan.identity())
    if plan.compiled:  # compiling takes minutes; that is not what the budget is for
        for point in {one.kind: one for one in reversed(points)}.values():
            with suppress(OutOfMemory):
                backend.prepare(point)()
    done = store.read() if plan.resume else []
    if not plan.resume:
        store.start()
    campaign = Campaign(backend, points, plan.rule, store.add, plan.budget_s, needs_more, done, progress=progress)
    return campaign.run()


def _needs_more(small: IterationPoint, large: IterationPoint) -> bool:
    return large.kv_tokens >= small.kv_tokens and large.scheduled_tokens >= small.scheduled_tokens


def rows_of(found: Sequence[Measured[IterationPoint]]) -> Iterations:
    """Return the points as iterations, in the order of measurement."""
    rows = [
        (p.prefill_seqs * p.prefill_tokens, p.prefill_seqs, p.prefill_pairs, p.decode_seqs,
         p.decode_seqs * p.decode_context, one.seconds, math.nan)
        for one in distinct(found) for p in (one.point,)
    ]  # fmt: skip
    return Iterations.of_rows(rows)


def decoder_outcome(plan: Plan, found: Sequence[Measured[IterationPoint]], notes: Sequence[str]) -> Outcome:
    """Fit the points and write calibration and picture; ServesimError where there are too few."""
    rows = rows_of(found)
    if len(rows) < LEAST_ITERATIONS:
        raise ServesimError(
            f"{len(rows)} points measured, a fit needs {LEAST_ITERATIONS}: they are kept in {plan.raw_path}; go on "
            "with --resume"
        )
    model = plan.subject.entry
    fitted = fit_iterations(rows, model, choose(rows, model, LEAST_ROWS))
    parallel = plan.tensor_parallel_size
    key = Key(plan.subject.name, plan.gpu, "torch", parallel, plan.precision, plan.dtype)
    source = Source(
        "servesim calibrate torch", plan.device.software(), [plan.raw_path], plan.method(), LICENCE, plan.date
    )
    host = "not in the data: the model alone was run, without an engine around it"
    entry = calibration_of(fitted, len(rows), reach(rows), key, source, model, host)
    between, visits = repeat_scatter(found)
    within = float(np.median([one.spread for one in distinct(found)])) / 1.349  # quartiles to standard deviation
    noise = {"sigma": float(f"{within:.4g}"), "iterations": 1}
    scatter = f"repeated runs of a point scatter by {100 * within:.2g} % (standard deviation, from the quartiles)"
    if visits:
        scatter += f"; medians of a point visited again later by {100 * between:.2g} % ({visits} visits)"
    entry = Calibration.model_validate({**entry.model_dump(), "scatter": scatter, "noise": noise})
    if plan.picture is not None:
        from servesim.calibrate.residual_picture import residual_picture

        residual_picture(rows, fitted, plan.picture, f"{entry.name}: {len(rows)} points")
    write(entry, plan.output)
    text = [*report_lines(entry, fitted, notes), "to use it, in a scenario's pool:"]
    more = {"tensor_parallel_size": parallel} if parallel > 1 else {}
    text += [f"  {line}" for line in engine_lines(entry, plan.output, more)]
    return Outcome(entry, text, {**entry.model_dump(mode="json"), "notes": list(notes)})


def _profile_batches(plan: Plan, progress: Progress | None) -> Outcome:
    from servesim.calibrate.torch_batches import BatchBackend

    most = plan.max_batch_size or _MAX_BATCH[not plan.device.is_cuda]
    backend = BatchBackend(plan.subject, plan.device, plan.dtype, plan.quantization, plan.compiled)
    points = batch_points(most, plan.seed)
    found, left = measured(plan, BatchPoint, backend, points, lambda a, b: b.batch_size >= a.batch_size, progress)
    notes = _notes(found, left)
    largest = limit_of(found)
    if largest is not None:
        notes.append(f"out of memory above batch size {largest}: that is the batch limit")
    return batch_outcome(plan, found, notes)


def batch_outcome(plan: Plan, found: Sequence[Measured[BatchPoint]], notes: Sequence[str]) -> Outcome:
    """Write the batch calibration of the points and its picture; ServesimError where there are too few."""
    sizes = sorted(distinct(found), key=lambda one: one.point.batch_size)
    if len(sizes) < LEAST_SIZES:
        raise ServesimError(f"{len(sizes)} batch sizes measured, {LEAST_SIZES} are needed; go on with --resume")
    points = [(one.point.batch_size, float(f"{one.seconds:.6g}")) for one in sizes]
    between, visits = repeat_scatter(found)
    again = f"; visited again: {100 * between:.2g} % ({visits} visits)" if visits else ""
    within = float(np.median([one.spread for one in sizes])) / 1.349
    store = RawPoints(plan.raw_path, BatchPoint, plan.identity())
    compiled = "-compile" if plan.compiled else ""
    item = "".join(f"-{value}{name[0]}" for name, value in plan.subject.item.items())
    entry = BatchCalibration.model_validate(
        {
            "schema_version": 1,
            "model": plan.subject.name,
            "task": plan.subject.task,
            "gpu": plan.gpu,
            "variant": f"torch-{plan.precision}{item}{compiled}",
            "provenance": {
                "source": "servesim calibrate torch",
                "version": plan.device.software(),
                "licence": LICENCE,
                "date": plan.date,
                "method": f"{plan.method()}; repeat scatter {100 * within:.2g} %{again}; straight lines between sizes",
                "input_file": plan.raw_path.name,
                "input_sha256": store.sha256(),
                "rows": len(points),
            },
            "held_back": summary(held_back(points)).model_dump(),
            "points": points,
        }
    )
    if plan.picture is not None:
        from servesim.calibrate.torch_picture import batch_picture

        batch_picture(sizes, plan.picture, entry.name)
    part = plan.output.with_name(f".{plan.output.name}.part")
    part.write_text(batch_yaml(entry), encoding="utf-8")
    part.replace(plan.output)
    error = entry.held_back
    text = [
        f"{one.point.batch_size:6d} items  {1e3 * one.seconds:10.4g} ms  "
        f"{one.point.batch_size / one.seconds:10.4g} items/s" for one in sizes
    ]  # fmt: skip
    text += [
        f"error held back, median / p90 in %: {100 * error.median:.1f} / {100 * error.p90:.1f} ({error.n} sizes)",
        f"repeat scatter: {100 * within:.2g} %{again}",
        *(f"note: {note}" for note in notes),
        "to use it, in a scenario's pool:",
        f"  service_time: {{kind: batch_calibrated, file: {in_yaml(plan.output)}}}",
    ]
    return Outcome(entry, text, {**entry.model_dump(mode="json"), "notes": list(notes)})


def _notes(found: Sequence[Measured[Any]], left: int) -> list[str]:
    notes = []
    if left:
        notes.append(f"the budget left {left} points out; --resume measures them")
    unstable = sum(not one.is_stable for one in distinct(found))
    if unstable:
        notes.append(f"{unstable} of {len(distinct(found))} points did not become stable: see the CSV's is_stable")
    clocks = [one.state["sm_clock_mhz"] for one in found if "sm_clock_mhz" in one.state]
    if clocks:
        notes.append(f"clock {min(clocks):g} to {max(clocks):g} MHz while measuring")
    powers = [one.state["power_w"] for one in found if "power_w" in one.state]
    if powers:
        notes.append(f"power {min(powers):g} to {max(powers):g} W")
    return notes


def _memory_notes(found: Sequence[Measured[IterationPoint]], kv_tokens: int, wanted: int) -> list[str]:
    notes = [f"the KV cache holds {kv_tokens} tokens: larger iterations were left out"] if kv_tokens < wanted else []
    full = [one.point for one in found if not one.fits]
    if full:
        least = min(point.scheduled_tokens for point in full)
        notes.append(f"{len(full)} points ran out of memory, the smallest with {least} scheduled tokens")
    return notes


def _parallel_notes(plan: Plan) -> list[str]:
    """Return who shared the model, and what that is worth."""
    if not plan.ranks:
        return []
    notes = [f"tensor parallel over {len(plan.ranks)} ranks: {', '.join(plan.ranks)}"]
    if not plan.device.is_cuda:
        notes.append("ranks on one processor speak through gloo and its memory: an example that says nothing of NVLink")
    elif len(set(plan.ranks)) > 1:
        notes.append("the ranks' devices differ: the slowest of them was measured")
    return notes
