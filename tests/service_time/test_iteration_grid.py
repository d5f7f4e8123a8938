from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from servesim.calibrate.iteration_grid import calibrate, jobs, main, to_yaml
from servesim.calibrate.iteration_grid_fit import (
    Rows,
    batch_only_blocks,
    coefficients_of,
    fit,
    held_back,
    predict,
    slices,
)
from servesim.catalog import model
from servesim.catalog.calibrations import Calibration, Key, calibration, calibrations, read_key
from servesim.catalog.entries import parse_yaml
from servesim.catalog.gpu import gpu
from servesim.errors import InputError
from servesim.service_time.base import Deployment
from servesim.service_time.calibrated import Calibrated, CalibratedIterationTime
from tests.data import shared_data

HEADER = "model,system,backend,tp,gemm_quant,kind,prefill_tokens,prefill_isl,decode_batch,decode_ctx,latency_ms"


def truth_s(prefill: float, prompt: float, batch: float, context: float) -> float:
    """A made-up machine: flat to 256 tokens, then linear, with attention in context and in pairs."""
    tokens = prefill + batch
    pairs = prefill * (prompt + 1) / 2
    return 0.005 + 2e-5 * max(0.0, tokens - 256) + 1e-6 * tokens + 5e-8 * batch * context + 7e-10 * pairs


def grid() -> list[tuple[str, int, int, int, int]]:
    """The points of a small grid: (kind, prefill tokens, prompt tokens, decode batch, decode context)."""
    contexts = (128, 512, 2048, 8192, 16384)
    decode = [("decode", 0, 0, b, c) for b in (1, 2, 4, 8, 16, 32, 64, 128, 256) for c in contexts]
    sizes = (16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
    prefill = [("prefill", p, min(p, isl), 0, 0) for p in sizes for isl in (1024, 16384)]
    mixed = [("mixed", p, p, b, c) for p in sizes[3:9] for b in (1, 8, 64, 128) for c in (512, 2048)]
    return decode + prefill + mixed


def write_grid(path: Path, name: str = "Qwen/Qwen3-32B") -> None:
    rows = [
        f"{name},h100_sxm,vllm,1,default,{kind},{p},{isl},{b},{c},{1e3 * truth_s(p, isl, b, c):.6f}"
        for kind, p, isl, b, c in grid()
    ]
    path.write_text("\n".join([HEADER, *rows]) + "\n")


def made_up_rows() -> Rows:
    kind, p, isl, b, c = (np.array(column) for column in zip(*grid(), strict=True))
    seconds = np.array([truth_s(*row) for row in zip(p, isl, b, c, strict=True)])
    return Rows(kind.astype(np.str_), *(x.astype(np.float64) for x in (p, isl, b, c)), seconds)


def test_a_known_machine_is_recovered_from_its_grid() -> None:
    rows, entry = made_up_rows(), model("qwen3-32b")
    _, coefficients = fit(rows, entry)
    assert np.abs(predict(rows, entry, coefficients) / rows.seconds - 1).max() < 0.01


def test_one_wild_row_does_not_move_the_fit() -> None:
    rows, entry = made_up_rows(), model("qwen3-32b")
    seconds = rows.seconds.copy()
    seconds[40] *= 3
    _, coefficients = fit(Rows(*(getattr(rows, n) for n in Rows.__slots__[:-1]), seconds), entry)
    others = np.arange(len(seconds)) != 40
    assert np.abs(predict(rows, entry, coefficients) / rows.seconds - 1)[others].max() < 0.03


def test_stored_coefficients_predict_what_the_fit_does() -> None:
    rows, entry = made_up_rows(), model("qwen3-32b")
    parts, values = fit(rows, entry)
    coefficients = coefficients_of(parts, values, entry)
    table = coefficients.token_seconds(20_000)
    _, mixed = coefficients.prefill_seconds(20_000)
    for i in range(len(rows.seconds)):
        p, b = int(rows.prefill_tokens[i]), int(rows.decode_seqs[i])
        context = int(b * rows.decode_context[i])
        lines = coefficients.decode_pieces(b, table[b] + coefficients.per_seq_s * b)
        base_s, slope_s, _ = next(line for line in lines if context <= line[2])
        if not p:
            seconds = base_s + slope_s * context
        else:
            alone, _ = coefficients.prefill_seconds(p + 1)
            seconds = table[p + b] + coefficients.per_prefill_pair_s * rows.prefill_pairs[i]
            seconds += coefficients.per_seq_s * rows.prefill_seqs[i]
            seconds += mixed[p] + base_s - table[b] + slope_s * context if b else alone[p]
        assert seconds == pytest.approx(predict(rows, entry, values)[i], rel=1e-4)


def test_slices_cover_every_row_and_mark_the_ends() -> None:
    rows = made_up_rows()
    covered = np.zeros(len(rows.seconds), dtype=bool)
    edges = 0
    for is_edge, mask in slices(rows):
        covered |= mask
        edges += is_edge
    assert covered.all()
    assert edges == 2 * 4  # smallest and largest of batch, context, prefill tokens and prompt length


def test_a_form_without_context_misses_the_target() -> None:
    rows, entry = made_up_rows(), model("qwen3-32b")
    good, poor = held_back(rows, entry), held_back(rows, entry, batch_only_blocks)
    assert np.median(good["interior"]["all"]) < 0.02
    assert np.median(poor["interior"]["all"]) > 0.06


def test_the_command_writes_the_same_bytes_twice_and_files_that_load(tmp_path: Path) -> None:
    write_grid(tmp_path / "aic_iteration_grid.csv")
    outputs = []
    for name in ("a", "b"):
        out, report = tmp_path / name, tmp_path / f"{name}.md"
        result = CliRunner().invoke(main, [str(tmp_path), "--out", str(out), "--report", str(report)])
        assert result.exit_code == 0, result.output
        assert "qwen3-32b/h100_sxm/vllm-tp1-bf16" in result.output
        outputs.append(((out / "qwen3-32b/h100_sxm/vllm-tp1-bf16.yaml").read_bytes(), report.read_bytes()))
    assert outputs[0] == outputs[1]
    assert b"{{" not in outputs[0][1]
    time = Calibrated(file=str(tmp_path / "a/qwen3-32b/h100_sxm/vllm-tp1-bf16.yaml")).build(Deployment())
    assert time.mixed_s(8, 8 * 2048, 1, 1024, 1024 * 1025 // 2) == pytest.approx(truth_s(1024, 1024, 8, 2048), rel=0.01)


def test_a_time_that_is_not_positive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "aic_iteration_grid.csv"
    write_grid(path)
    path.write_text(path.read_text().replace("1,128,5.", "1,128,-5.", 1))
    with pytest.raises(InputError, match="positive"):
        jobs(path)


REFITTED = [
    Key("llama-3.1-8b", "h100_sxm", "vllm", 1, "bf16", "bf16"),
    Key("qwen3-30b-a3b", "b200_sxm", "sglang", 2, "bf16", "bf16"),
    Key("llama-3.1-70b", "h200_sxm", "trtllm", 4, "fp8", "bf16"),
]


@pytest.fixture(scope="module")
def shared_jobs() -> dict[Key, object]:
    return {job.key: job for job in jobs(shared_data("gpu-iterations", "aic_iteration_grid.csv"))}


@pytest.mark.parametrize("key", REFITTED)
def test_refitting_the_grid_gives_the_stored_calibration(key: Key, shared_jobs: dict[Key, object]) -> None:
    job = shared_jobs[key]
    stored = calibration(
        model(key.model), gpu(key.gpu), key.backend, key.tensor_parallel_size, key.precision, key.kv_cache_dtype
    )
    again = calibrate(job)  # type: ignore[arg-type]
    assert again.provenance.input_sha256 == stored.provenance.input_sha256
    for group in ("interior", "edge", "in_sample"):
        ours, theirs = getattr(again.error, group)["all"], getattr(stored.error, group)["all"]
        assert (ours.median, ours.p90, ours.n) == pytest.approx((theirs.median, theirs.p90, theirs.n), rel=0.02)
    old, new = CalibratedIterationTime(stored, 8192, 256), CalibratedIterationTime(again, 8192, 256)
    for arguments in ((0, 0, 1, 900, 405_450), (17, 30_000, 1, 512, 131_328), (200, 400_000, 2, 4096, 4_000_000)):
        assert new.mixed_s(*arguments) == pytest.approx(old.mixed_s(*arguments), rel=1e-3)


@pytest.mark.parametrize("key", REFITTED)
def test_a_form_without_context_misses_the_target_on_measured_iterations(
    key: Key, shared_jobs: dict[Key, object]
) -> None:
    poor = held_back(shared_jobs[key].rows, model(key.model), batch_only_blocks)  # type: ignore[attr-defined]
    assert np.median(poor["interior"]["all"]) > 0.06


TABULATED = [
    Key("llama-3.1-70b", "h200_sxm", "trtllm", 4, "fp8", "fp8"),
    Key("minimax-m2.5", "b200_sxm", "vllm", 1, "nvfp4", "fp8", 4, True),
]


@pytest.mark.parametrize("key", TABULATED)
def test_a_table_made_again_is_the_stored_one(key: Key, shared_jobs: dict[Key, object]) -> None:
    again, stored = calibrate(shared_jobs[key]), read_key(key)  # type: ignore[arg-type]
    assert again.table == stored.table
    assert again.error == stored.error


def test_the_exact_deployments_are_all_there(shared_jobs: dict[Key, object]) -> None:
    exact = {key for key, job in shared_jobs.items() if job.tabulate}  # type: ignore[attr-defined]
    assert len(exact) == 78
    assert exact <= set(calibrations())


def test_a_calibration_survives_its_file() -> None:
    stored = calibration(model("gpt-oss-20b"), gpu("h100_sxm"), "vllm")
    assert Calibration.model_validate(parse_yaml(to_yaml(stored))) == stored
