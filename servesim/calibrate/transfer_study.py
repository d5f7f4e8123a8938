"""How far a carried-over calibration misses: `python -m servesim.calibrate.transfer_study`.

Every calibrated deployment of the catalog is left out in turn and predicted from the nearest other one: of another
model on the same GPU, of the same model on another GPU, of both. GPUs that are one chip with other memory (H100 and
H200, B200 and GB200) are not predicted from each other: nobody's new GPU has such a twin in the catalog.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click
import numpy as np
from numpy.typing import NDArray

from servesim.catalog import gpu, model
from servesim.catalog.calibrations import Key, calibrations, read_key
from servesim.errors import InputError
from servesim.service_time.base import Deployment, IterationTime
from servesim.service_time.calibrated import FormIterationTime
from servesim.service_time.roofline import Roofline
from servesim.service_time.transferred import TransferredIterationTime, candidates, step

Floats = NDArray[np.float64]

_DECODE = [(seqs, context) for seqs in (1, 8, 32, 128) for context in (256, 1024, 4096)]
_PREFILL = (128, 512, 2048, 8192)
_MIXED = [(seqs, tokens) for seqs in (8, 64) for tokens in (512, 2048)]
_TWIN = 1.05  # ratio of bf16 throughput within which two GPUs are one chip


def iterations_s(times: IterationTime) -> Floats:
    """Return the seconds of a fixed set of decode, prefill and mixed iterations."""
    found = []
    for seqs, context in _DECODE:
        base_s, slope_s, _ = times.decode_line(seqs, seqs * context)
        found.append(base_s + slope_s * seqs * context)
    found += [times.mixed_s(0, 0, 1, n, n * (n + 1) // 2) for n in _PREFILL]
    found += [times.mixed_s(seqs, seqs * 1024, 1, n, n * (n + 1) // 2) for seqs, n in _MIXED]
    return np.array(found)


def study(keys: Sequence[Key]) -> dict[str, Floats]:
    """Return measured / predicted by step (and for the roofline), one row per deployment, a column per iteration."""
    found: dict[str, list[Floats]] = {"model": [], "gpu": [], "gpu and model": [], "roofline": []}
    for key in keys:
        entry = read_key(key)
        if entry.coefficients is None:
            continue
        deployment = _deployment(key)
        true_s = iterations_s(FormIterationTime(entry.coefficients, 8192, 256))
        for name, times in _predictions(deployment):
            found[name].append(true_s / iterations_s(times))
    return {name: np.array(rows) for name, rows in found.items()}


def _deployment(key: Key) -> Deployment:
    return Deployment(
        gpu(key.gpu),
        model(key.model),
        key.backend,
        key.tensor_parallel_size,
        key.precision,
        key.kv_cache_dtype,
        max_num_seqs=256,
    )


def _predictions(deployment: Deployment) -> Iterator[tuple[str, IterationTime]]:
    done = set()
    for key in candidates(deployment):
        what = step(key, deployment)
        if what in done or (what != "model" and _twins(key.gpu, deployment)):
            continue
        entry = read_key(key)
        if entry.coefficients is not None:
            done.add(what)
            yield what, TransferredIterationTime(entry, deployment)
    try:
        yield "roofline", Roofline().build(deployment)
    except InputError:  # no known link between its GPUs
        return


def _twins(name: str, deployment: Deployment) -> bool:
    assert deployment.gpu is not None
    ours, theirs = deployment.gpu.bf16_flops or 1.0, gpu(name).bf16_flops or 1.0
    return max(ours, theirs) / min(ours, theirs) < _TWIN


def report(found: dict[str, Floats]) -> Iterator[str]:
    """Yield a table of measured / predicted."""
    yield "| carried over | deployments | 10 % | median | 90 % | median error | decode | prefill | mixed |"
    yield "|---|---|---|---|---|---|---|---|---|"
    decode, prefill = len(_DECODE), len(_DECODE) + len(_PREFILL)
    for name, ratios in found.items():
        low, middle, high = np.quantile(ratios, [0.1, 0.5, 0.9])
        parts = (ratios, ratios[:, :decode], ratios[:, decode:prefill], ratios[:, prefill:])
        errors = " | ".join(f"{100 * np.median(np.abs(part - 1.0)):.1f} %" for part in parts)
        yield f"| {name} | {len(ratios)} | {low:.2f} | {middle:.2f} | {high:.2f} | {errors} |"


@click.command()
def main() -> None:
    """Print the table of docs/calibrate.md."""
    keys = [key for key in calibrations() if not key.expert_parallel and key.data_parallel_size == 1]
    click.echo("\n".join(report(study(keys))))


if __name__ == "__main__":
    main()
