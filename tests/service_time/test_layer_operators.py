"""Iterations composed of single layers: small tables of our own, and the shipped RTX 4090 calibration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from servesim.calibrate.layer_operators import calibrate, compose
from servesim.catalog import model
from servesim.catalog.calibrations import Key, read_key
from servesim.catalog.examples import example
from servesim.engine.spec import ContinuousBatching
from servesim.errors import InputError
from servesim.scenario.load import parse
from servesim.scenario.resolve import resolve
from tests.data import shared_data

LAYERS = ("qkv_proj", "rotary_emb", "o_proj", "gate_up_proj", "act_fn", "down_proj", "layernorm")


def tables(folder: Path) -> Path:
    """Write tables in which every operator takes a known time: 1 us a layer and token, 2 us a sequence."""
    folder.mkdir(parents=True)
    dense = [f"{layer},{n},{n}" for layer in (*LAYERS, "embedding", "final_layernorm") for n in (1, 64, 4096)]
    (folder / "dense.csv").write_text("\n".join(["layer,tokens,time_us", *dense]))
    heads = [f"{layer},{n},{n}" for layer in ("lm_head", "sampler") for n in (1, 256)]
    (folder / "per_sequence.csv").write_text("\n".join(["layer,sequences,time_us", *heads]))
    attention = ["0,0,4,1024,10", "64,0,0,0,20", "64,1024,0,0,30", "64,0,4,1024,40"]
    (folder / "attention.csv").write_text(
        "\n".join(["prefill_chunk,kv_prefill,n_decode,kv_decode,time_us", *attention])
    )
    return folder


def test_an_iteration_is_the_sum_of_its_layers(tmp_path: Path) -> None:
    rows = compose(tables(tmp_path / "tp1"), "llama-3.1-8b")
    layers = model("llama-3.1-8b").layers
    tokens, seqs, attention = np.array([4, 64, 64, 68]), np.array([4, 1, 1, 5]), np.array([10, 20, 30, 40])
    expected = layers * (8 * tokens + attention) + 2 * tokens + 2 * seqs  # two norms a layer
    np.testing.assert_allclose(rows.seconds, expected / 1e6)
    assert rows.kind.tolist() == ["decode", "prefill", "prefill", "mixed"]
    assert rows.prefill_pairs.tolist() == [0, 64 * 65 / 2, 64 * 1024 + 64 * 65 / 2, 64 * 65 / 2]


def test_a_table_without_a_layer_is_refused(tmp_path: Path) -> None:
    folder = tables(tmp_path / "tp1")
    text = (folder / "dense.csv").read_text()
    (folder / "dense.csv").write_text("\n".join(line for line in text.splitlines() if "o_proj" not in line))
    with pytest.raises(InputError, match="no layer o_proj"):
        compose(folder, "llama-3.1-8b")


def test_the_shipped_calibration_is_what_the_tables_give() -> None:
    tables_4090 = shared_data("gpu-operators", "llmservingsim", "perf", "RTX4090", "meta-llama", "Llama-3.1-8B")
    fresh = calibrate(tables_4090 / "bf16" / "tp1")
    shipped = read_key(Key("llama-3.1-8b", "rtx_4090", "vllm", 1, "bf16", "bf16"))
    assert fresh.provenance == shipped.provenance
    assert fresh.coefficients.base_s == pytest.approx(shipped.coefficients.base_s, rel=1e-4)
    assert fresh.error.interior["decode"].median == pytest.approx(shipped.error.interior["decode"].median, rel=0.05)
    assert shipped.error.interior["decode"].median < 0.01


def test_corrections_of_other_tables_are_not_applied_to_it() -> None:
    """What closed-loop runs corrected in another source's times made this run's TTFT 12 % worse."""
    engine = resolve(parse(example("sharegpt-llama31-8b-rtx4090"))).scenario.pools["rtx4090"].engine
    assert isinstance(engine, ContinuousBatching)
    assert engine.prefill_factor == 1.0
    assert engine.prefill_floor_per_layer_s == 0.0
