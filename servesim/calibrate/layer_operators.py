"""Calibration files from times of single layers: `python -m servesim.calibrate.layer_operators DATA_DIR --out DIR`.

DATA_DIR holds LLMServingSim's profiler tables, `<GPU>/<owner>/<model>/<precision>/tp<n>/`: dense.csv (microseconds of
each operator of one layer by scheduled tokens), attention.csv (of one layer by prefill chunk, its earlier context,
decoding sequences and their context) and per_sequence.csv (output head and sampler by sequences). An iteration is
their sum over the model's layers; it holds neither host time nor the gaps between kernels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pandas as pd
import yaml

from servesim.calibrate.iteration_grid import to_yaml
from servesim.calibrate.iteration_grid_fit import (
    Floats,
    Rows,
    blocks_with_mixed_decode,
    coefficients_of,
    fit,
    held_back,
    summary,
)
from servesim.catalog import model
from servesim.catalog.calibrations import Calibration
from servesim.errors import InputError

GPUS = {"RTX4090": "rtx_4090", "RTXPRO6000": "rtx_pro_6000_server"}
PER_LAYER = ("qkv_proj", "rotary_emb", "o_proj", "gate_up_proj", "act_fn", "down_proj")
SOME_HAVE = ("qk_norm",)
NORMS_PER_LAYER = 2
ONCE = ("embedding", "final_layernorm")
PER_SEQUENCE = ("lm_head", "sampler")
# Mixed iterations are ten times as many as the others: every second level of each axis is enough of them.
MIXED_LEVELS = {"prefill_chunk": (16, 64, 256, 1024, 2048), "n_decode": (1, 4, 16, 64, 256), "kv_prefill": (0, 1024)}
MIXED_LEVELS["kv_decode"] = (64, 256, 1024, 4096)
MAX_CONTEXT_TOKENS = 131_072
"""Summed decode context up to which attention times are used: beyond, the KV cache would not fit these GPUs."""
MAX_EARLIER_TOKENS = 4096
METHOD = (
    "Device time per iteration composed from single layers measured with vLLM's kernels (LLMServingSim profiler, one "
    "layer, eager); non-negative robust least squares of relative error; no host time between iterations"
)


@dataclass(frozen=True, slots=True)
class ChunkRows(Rows):
    """Iterations with at most one chunk of a prompt, `earlier_tokens` of which were computed before."""

    earlier_tokens: Floats

    @property
    def prefill_seqs(self) -> Floats:
        """One chunk or none."""
        return (self.prefill_tokens > 0).astype(np.float64)

    @property
    def prefill_pairs(self) -> Floats:
        """Causal (query, key) pairs of the chunk."""
        return self.prefill_tokens * (self.earlier_tokens + (self.prefill_tokens + 1.0) / 2.0)


def compose(folder: Path, model_name: str) -> ChunkRows:
    """Return iterations whose attention was measured, with the other layers interpolated in tokens and sequences."""
    layers = model(model_name).layers
    dense, heads = _dense(folder / "dense.csv", layers), _by(folder / "per_sequence.csv", "sequences", PER_SEQUENCE)
    table = pd.read_csv(folder / "attention.csv")
    mixed = (table.prefill_chunk > 0) & (table.n_decode > 0)
    chosen = table[list(MIXED_LEVELS)].isin(MIXED_LEVELS).all(axis=1)
    small = (table.n_decode * table.kv_decode <= MAX_CONTEXT_TOKENS) & (table.kv_prefill <= MAX_EARLIER_TOKENS)
    table = table[small & (~mixed | chosen)]
    prefill, decode = table.prefill_chunk.to_numpy(np.float64), table.n_decode.to_numpy(np.float64)
    tokens, seqs = prefill + decode, decode + (prefill > 0)
    micros = layers * table.time_us.to_numpy(np.float64) + np.interp(tokens, *dense) + np.interp(seqs, *heads)
    kind = np.where(prefill == 0, "decode", np.where(decode == 0, "prefill", "mixed"))
    context, earlier = table.kv_decode.to_numpy(np.float64), table.kv_prefill.to_numpy(np.float64)
    return ChunkRows(kind, prefill, prefill, decode, context, micros / 1e6, earlier)


def _dense(path: Path, layers: int) -> tuple[Floats, Floats]:
    """Return (tokens, microseconds of all dense operators of the whole model)."""
    with_norms = tuple(name for name in SOME_HAVE if name in set(pd.read_csv(path)["layer"]))
    tokens, inside = _by(path, "tokens", (*PER_LAYER, *with_norms))
    norms, once = _by(path, "tokens", ("layernorm",))[1], _by(path, "tokens", ONCE)[1]
    return tokens, layers * (inside + NORMS_PER_LAYER * norms) + once


def _by(path: Path, axis: str, names: tuple[str, ...]) -> tuple[Floats, Floats]:
    """Return (values of the axis, summed microseconds of the named layers there)."""
    table = pd.read_csv(path).pivot(index=axis, columns="layer", values="time_us")
    missing = [name for name in names if name not in table]
    if missing:
        raise InputError(f"{path}: no layer {', '.join(missing)}; a dense decoder has them all")
    return table.index.to_numpy(np.float64), table[list(names)].sum(axis=1).to_numpy(np.float64)


def calibrate(folder: Path) -> Calibration:
    """Fit the tables in one `tp<n>` folder and measure the fit's errors on held-back slices."""
    precision = folder.parent.name
    name = model(f"{folder.parents[2].name}/{folder.parents[1].name}").name
    meta = yaml.safe_load((folder.parent / "meta.yaml").read_text(encoding="utf-8"))
    entry, rows = model(name), compose(folder, name)
    parts, values = fit(rows, entry, blocks_with_mixed_decode)
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(folder.glob("*.csv")))).hexdigest()
    return Calibration.model_validate(
        {
            "schema_version": 1,
            "model": name,
            "gpu": GPUS[folder.parents[3].name],
            "backend": "vllm",
            "tensor_parallel_size": int(folder.name.removeprefix("tp")),
            "precision": precision,
            "kv_cache_dtype": precision,
            "provenance": {
                "source": "LLMServingSim profiler tables",
                "version": f"profiler {meta['profiler_version']}, vLLM {meta['vllm_version']}",
                "licence": "MIT",
                "date": str(meta["profiled_at"])[:10],
                "method": METHOD,
                "input_file": "dense.csv, attention.csv, per_sequence.csv",
                "input_sha256": digest,
                "rows": len(rows.seconds),
            },
            "validity": {
                "max_decode_seqs": float(rows.decode_seqs.max()),
                "max_mean_context_tokens": float(rows.decode_context.max()),
                "max_prefill_tokens": float(rows.prefill_tokens.max()),
            },
            "error": {
                group: {kind: summary(errors) for kind, errors in by_kind.items()}
                for group, by_kind in held_back(rows, entry, blocks_with_mixed_decode).items()
            },
            "scatter": "unknown: means of three repetitions",
            "host": {"iteration_s": None, "note": "not in the data: layers were timed one by one"},
            "coefficients": coefficients_of(parts, values, entry).model_dump(),
        }
    )


@click.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option("--gpu", default="RTX4090", show_default=True, type=click.Choice(sorted(GPUS)), help="folder under DATA")
@click.option("--out", type=click.Path(path_type=Path), help="where to write <model>/<gpu>/*.yaml")
def main(data: Path, gpu: str, out: Path | None) -> None:
    """Fit the dense models under DATA/GPU, print the held-back errors, and write calibration files."""
    for folder in sorted(data.glob(f"{gpu}/*/*/*/tp1")):  # the tables hold no communication between GPUs
        if (folder / "moe.csv").exists():
            continue
        entry = calibrate(folder)
        error = entry.error.interior["all"]
        click.echo(f"{entry.name}: held back median {100 * error.median:.1f} %, p90 {100 * error.p90:.1f} %")
        if out is not None:
            path = out / f"{entry.name}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(to_yaml(entry), encoding="utf-8")


if __name__ == "__main__":
    main()
