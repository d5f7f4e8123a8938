"""What is left out of a fit of closed-loop runs must not reach its own prediction, by whatever detour."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from zlib import crc32

import numpy as np
import pytest
from numpy.typing import NDArray

from servesim.validation import closed_loop_study
from servesim.validation.closed_loop import Loop, read_loops
from servesim.validation.closed_loop_catalog import to_yaml
from servesim.validation.closed_loop_entries import LeftOut, entries
from servesim.validation.closed_loop_fit import Line, line_of
from servesim.validation.closed_loop_study import Group, Study, refits, replay_errors, study
from servesim.validation.closed_loop_subject import NAMES, OF_THE_MODEL, SCALE, START, usable
from tests.data import shared_data

Floats = NDArray[np.float64]

LLAMA, OSS, MINIMAX = "llama-3.1-70b", "gpt-oss-120b", "minimax-m2.5"
GPUS = ("h100_sxm", "h200_sxm", "b200_sxm")
DENSE = tuple(("vllm", gpu, LLAMA) for gpu in GPUS)
GROUPS = (*DENSE, ("vllm", "h100_sxm", OSS), ("vllm", "b200_sxm", OSS), ("vllm", "h200_sxm", MINIMAX))
PLANTED = ("vllm", "h200_sxm", LLAMA)
OTHER = ("vllm", "h100_sxm", LLAMA)


def slopes_of(loop: Loop) -> Floats:
    """How a run's log TTFT, TPOT and E2E change per SCALE of each value: its own, but the same every time."""
    return np.random.default_rng(crc32(loop.name.encode())).uniform(0.02, 0.2, (len(NAMES), 3))


def straight(loops: list[Loop], start: Floats = START, prior: Floats | None = None) -> Line:
    """Stand for `line_of` with replays that are exactly straight lines: bookkeeping without simulation."""
    slopes = np.stack([slopes_of(loop) for loop in loops], axis=1)
    line = Line(loops, start, np.tensordot((start - START) / SCALE, slopes, 1), slopes)
    at = line.solve(np.ones(len(loops), bool), prior)
    return replace(line, at=at, here=line.predicted(at))


def runs(group: Group, steps: float) -> list[Loop]:
    """Four runs in two layouts that behaved as the straight lines do `steps` SCALEs from START, with some noise."""
    made = []
    rng = np.random.default_rng(crc32(repr(group).encode()))
    for tp in (4, 8):
        for load in (256, 8192):
            engine = {"tensor_parallel_size": tp, "data_parallel_size": 1, "enable_expert_parallel": False}
            loop = Loop(f"{group} tp{tp} {load}", *group, "fp8", load, 256, 4, 1.0, 1.0, engine)
            ttft, tpot = np.exp(steps * slopes_of(loop).sum(axis=0)[:2] + rng.normal(0.0, 0.02, 2))
            made.append(replace(loop, ttft_s=float(ttft), tpot_s=float(tpot)))
    return made


def everywhere(groups: tuple[Group, ...] = GROUPS, planted: Group | None = None) -> list[Loop]:
    """All groups' runs; those of the planted group are far off the others'."""
    steps = {group: 1.0 + 0.3 * place for place, group in enumerate(groups)}
    return [loop for group in groups for loop in runs(group, 12.0 if group == planted else steps[group])]


@cache
def studied(planted: Group | None = None) -> Study:
    return study(everywhere(planted=planted))


@pytest.fixture(autouse=True)
def straight_lines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "nightly" not in request.keywords:
        monkeypatch.setattr(closed_loop_study, "line_of", straight)


def test_a_group_says_nothing_of_how_the_others_predict_it() -> None:
    calm, wild = studied(), studied(PLANTED)
    np.testing.assert_array_equal(calm.prediction(PLANTED), wild.prediction(PLANTED))
    np.testing.assert_array_equal(calm.prediction(PLANTED, new_model=True), wild.prediction(PLANTED, new_model=True))
    # Nor do its other GPUs, where the model is new; and the planted one does reach everybody else.
    np.testing.assert_array_equal(calm.prediction(OTHER, new_model=True), wild.prediction(OTHER, new_model=True))
    assert not np.allclose(calm.prediction(OTHER), wild.prediction(OTHER), rtol=1e-3)
    assert not np.allclose(calm.values[OTHER], wild.values[OTHER], rtol=1e-6)


@pytest.mark.parametrize("truly", [False, True])
@pytest.mark.parametrize("key", [lambda loop: loop.name, lambda loop: loop.layout], ids=["run", "layout"])
def test_runs_left_out_say_nothing_of_how_they_are_predicted(key, truly: bool) -> None:
    loops = everywhere(DENSE)
    one = next(loop for loop in loops if loop.group == PLANTED)
    planted = [
        replace(loop, ttft_s=30 * loop.ttft_s, tpot_s=30 * loop.tpot_s)
        if loop.group == PLANTED and key(loop) == key(one)
        else loop
        for loop in loops
    ]
    calm, wild = (refits(study(those), PLANTED, key, truly) for those in (loops, planted))
    which = [loop.name for loop in loops if loop.group == PLANTED].index(one.name)
    np.testing.assert_allclose(calm[which] / SCALE, wild[which] / SCALE, atol=1e-4)
    assert np.abs(calm[-1] - wild[-1]).max() > 0.01 * SCALE.min()  # those left in do say something


def test_a_model_nobody_measured_is_predicted_from_its_kind() -> None:
    found = studied()
    dense, experts = (found.pooled("vllm", name) for name in ("llama-3.1-8b", "qwen3-235b-a22b"))
    np.testing.assert_array_equal(dense[OF_THE_MODEL], found.pooled("vllm", LLAMA)[OF_THE_MODEL])
    both = [found.alone[group] for group in GROUPS if group[2] != LLAMA]
    np.testing.assert_array_equal(experts[OF_THE_MODEL], np.median(both, axis=0)[OF_THE_MODEL])
    np.testing.assert_array_equal(dense[~OF_THE_MODEL], experts[~OF_THE_MODEL])


def test_what_is_told_of_each_entry_is_what_it_was_left_out_of() -> None:
    found = studied()
    sizes = {"run": 0.01, "layout": 0.02, "group": 0.03, "model": 0.04}
    shares = {group: 1.0 if group[2] == LLAMA else 2.0 for group in GROUPS}
    errors = LeftOut(*({group: np.full((4, 3), shares[group] * size) for group in GROUPS} for size in sizes.values()))
    made = {entry.name: entry for entry in entries(found, errors, "0" * 64)}
    own = made["vllm-h200_sxm-llama-3.1-70b"]
    assert own.error_other_layouts is not None
    assert [layout.tensor_parallel_size for layout in own.layouts] == [4, 8]
    assert (own.error_held_out.ttft.median, own.error_other_layouts.ttft.median) == (0.01, 0.02)
    assert made["vllm-llama-3.1-70b"].error_held_out.e2e.p90 == 0.03
    assert made["vllm-moe"].error_held_out.tpot.p90 == 0.08
    assert made["vllm-dense"].error_held_out.runs == made["vllm"].error_held_out.runs == 24
    assert "layouts" not in to_yaml(made["vllm-moe"])


@pytest.mark.nightly
def test_left_out_to_first_order_is_left_out() -> None:
    """Every 16th run truly fitted around: the medians of the errors are those of the refits to first order."""
    found: Study = study(usable(read_loops(shared_data("validation", "closed_loop_gpu_runs.csv"))))
    chosen = [(group, i) for group, line in found.lines.items() for i in range(len(line.loops))][::16]
    first, true = [], []
    for group, i in chosen:
        line = found.lines[group]
        rest = [loop for loop in line.loops if loop is not line.loops[i]]
        one, prior = [line.loops[i]], found.prediction(group)
        first.append(replay_errors(one, refits(found, group, lambda loop: loop.name)[i : i + 1])[0])
        true.append(replay_errors(one, line_of(rest, line.at, prior).at[np.newaxis])[0])
    assert np.abs(np.median(first, axis=0) - np.median(true, axis=0)).max() < 0.01
