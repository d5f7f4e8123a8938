"""The error on a load that was held back is told by the other loads alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from servesim.calibrate.bench_simulated import fit_loads
from servesim.calibrate.calibration_file import Source, calibration_of, report_lines
from servesim.calibrate.server import Server
from servesim.catalog.calibrations import Key, Range

START = np.array([0.01, 3e-5, 3e-8, 1e-9, 0.005])


class Linear:
    """A load whose latencies are sums of the coefficients, so many of each: bookkeeping without simulation."""

    def __init__(self, counts: list[list[float]], slower: float = 1.0) -> None:
        self._counts = np.array(counts)
        truth = self._counts @ (1.5 * START) * slower
        self.measured = {("ttft_s", f"p{i}"): float(value) for i, value in enumerate(truth)}

    def simulated(self, server: Any, coefficients: list[float]) -> np.ndarray:
        return self._counts @ np.array(coefficients)


def plain(slower: float = 1.0) -> Linear:
    return Linear([[1, 10, 0, 0, 0], [2, 400, 0, 0, 0], [1, 0, 0, 0, 1]], slower)


def contexts(slower: float) -> Linear:
    """The only load that tells what a token of context takes."""
    return Linear([[1, 10, 1e6, 0, 0], [1, 10, 3e6, 0, 0], [2, 10, 9e6, 0, 0]], slower)


SERVER = Server(8192, 256, None, 16, True, 1)


def test_a_load_says_nothing_of_how_it_is_predicted() -> None:
    told = []
    for slower in (10.0, 20.0):
        load = contexts(slower)
        errors = fit_loads([plain(), load], SERVER, START).errors["interior"]  # type: ignore[list-item]
        told.append((1.0 - errors[3:]) * np.array([*load.measured.values()]))
    np.testing.assert_allclose(told[0], told[1], rtol=1e-3)


def test_of_one_load_nothing_is_held_back_and_no_error_is_made_up() -> None:
    fitted = fit_loads([plain()], SERVER, START)  # type: ignore[list-item]
    reach = Range(max_decode_seqs=1.0, max_mean_context_tokens=1.0, max_prefill_tokens=1.0)
    key = Key("mine", "mine", "vllm", 1, "bf16", "bf16")
    entry = calibration_of(fitted, 3, reach, key, Source("a tool", "1", [], "by hand"))
    assert entry.facts()["held_back_error_p90"] is None
    (line,) = [line for line in report_lines(entry, fitted) if line.startswith("error")]
    assert "nothing could be held back" in line
