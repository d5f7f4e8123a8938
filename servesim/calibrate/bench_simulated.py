"""Coefficients with which a simulation of the same loads gives the latencies that a load generator reported.

For results without the time of every token. Few numbers cannot tell many coefficients: each starts from an estimate
(the roofline of GPU and model, where both are known) and is drawn to it by a weak prior, a factor of e either way; how
far the measurements narrow that down is said, and which coefficients they do not tell at all.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares  # type: ignore[import-untyped]

from servesim.calibrate.calibration_file import Source, calibration_of, engine_lines, report_lines, write
from servesim.calibrate.iteration_fit import INCLUDED, Fitted
from servesim.calibrate.loads import Load, Requests
from servesim.calibrate.robust import Combination, Uncertainty
from servesim.calibrate.roofline_start import ADMISSION_S, roofline_start
from servesim.calibrate.server import Server
from servesim.calibrate.target import Target
from servesim.calibrate.terms import Form
from servesim.catalog.calibrations import Range
from servesim.errors import InputError
from servesim.experiment.simulate import simulate
from servesim.scenario.load import parse
from servesim.scenario.schema import Scenario

Floats = NDArray[np.float64]

NAMES = ("base", "dense_0", "context_0", "per_prefill_pair", "admission")
_KEYS = ("base_s", "per_token_s", "per_context_token_s", "per_prefill_pair_s")
_GENERIC = (0.01, 3e-5, 3e-8, 1e-9)
_PRIOR = 1.0  # standard deviation of the logarithm: a factor e
_MEASURED = 0.03  # of a measured latency, until the fit shows more
_LEAST_ERROR = 0.003
_STEP = 0.03  # of a logarithm, for slopes: a simulation is not smooth in the small
_TOLD = 0.25  # an estimate is told if its 95 % interval is within this share
_TIED = 0.9
_MOST_REQUESTS = 2000
_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
_SHORTEST_S = 1e-4


def calibrate_simulated(
    loads: Sequence[Load], files: Sequence[Path], target: Target, server: Server, notes: list[str]
) -> tuple[list[str], dict[str, Any]]:
    """Fit coefficients to latencies by simulation and write the file; return lines to print and the same as data."""
    if target.picture is not None:
        raise InputError("--picture draws single iterations, and these files have no token times")
    with tempfile.TemporaryDirectory() as folder:
        cases = [_Case(load, Path(folder) / f"load-{i}.csv") for i, load in enumerate(loads)]
        start = roofline_start(target)
        fitted = fit_loads(cases, server, np.array([*_GENERIC, ADMISSION_S]) if start is None else start)
    validity = Range(
        max_decode_seqs=float(max(case.concurrency() for case in cases)),
        max_mean_context_tokens=float(max(case.longest for case in cases)),
        max_prefill_tokens=float(server.max_num_batched_tokens),
    )
    method = f"latencies of {len(cases)} loads matched by simulation of the same loads (least squares of logarithms)"
    if len(cases) == 1:
        method += "; nothing was held back: there is one load"
    source = Source("load generator", f"{len(cases)} loads", files, method, date=target.date)
    measured = sum(len(case.measured) for case in cases)
    note = "in the base term: from outside, host and device time of an iteration are one"
    entry = calibration_of(fitted, measured, validity, target.key, source, target.model, note)
    notes = [*notes, "no token times in these files: detailed ones (--save-detailed) tell far more"]
    notes += [
        f"{name} is not told by these files; it stays near its estimate"
        for name in fitted.uncertainty.poor(fitted.values)
    ]
    write(entry, target.output)
    text = [*report_lines(entry, fitted, notes, "measured latencies"), "to use it, in a scenario's pool:"]
    text += [f"  {line}" for line in engine_lines(entry, target.output, server.given())]
    return text, {**entry.model_dump(mode="json"), "notes": notes, "engine": server.given()}


class _Case:
    """One load: its workload as a scenario says it, and what was measured of it."""

    def __init__(self, load: Load, file: Path) -> None:
        self.load = load
        self._file = file
        if isinstance(load, Requests):
            rows = zip(load.start_s, load.prompt_tokens, load.output_tokens, strict=True)
            text = "".join(f"{s:.6f},{int(p)},{int(o)}\n" for s, p, o in rows)
            file.write_text("arrival_s,prompt_tokens,output_tokens\n" + text, encoding="utf-8")
            self.measured = _statistics(load.ttft_s, load.tpot_s)
            self.longest = float((load.prompt_tokens + load.output_tokens).max())
        else:
            kept = {k: v for k, v in load.measured.items() if k[1] in ("mean", "p50") and k[0] != "e2e_s"}
            self.measured = kept or load.measured
            self.longest = load.prompt_tokens + load.output_tokens

    def concurrency(self) -> float:
        """Return about how many requests were in the system at most."""
        load = self.load
        if isinstance(load, Requests):
            steps = np.concatenate([load.start_s, load.start_s + load.e2e_s])
            change = np.repeat([1, -1], len(load.start_s))[np.argsort(steps, kind="stable")]
            return float(np.cumsum(change).max())
        return float(load.max_concurrency or load.num_requests)

    def workload(self) -> str:
        """Return the `workload:` part."""
        load = self.load
        if isinstance(load, Requests):
            return (
                f"workload: {{classes: {{one: {{arrivals: {{kind: log, path: {self._file.name}, format: csv}}}}}}}}\n"
            )
        if load.request_rate_rps is not None:
            law = f"{{kind: gamma, request_rate_rps: {load.request_rate_rps}, burstiness: {load.burstiness}}}"
        elif load.max_concurrency is not None:
            law = f"{{kind: closed_loop, max_concurrency: {load.max_concurrency}}}"
        else:
            law = "{kind: all_at_once}"
        count = min(max(load.num_requests, 1), _MOST_REQUESTS)
        prompt, output = max(round(load.prompt_tokens), 1), max(round(load.output_tokens), 1)
        lengths = f"prompt_tokens: {{kind: fixed, tokens: {prompt}}}, output_tokens: {{kind: fixed, tokens: {output}}}"
        return f"workload: {{num_requests: {count}, classes: {{one: {{arrivals: {law}, {lengths}}}}}}}\n"

    def scenario(self, server: Server, coefficients: Sequence[float]) -> Scenario:
        """Return the scenario with these coefficients."""
        law = ", ".join(f"{key}: {value:.12g}" for key, value in zip(_KEYS, coefficients, strict=False))
        blocks = "unlimited" if server.num_gpu_blocks is None else server.num_gpu_blocks
        engine = (
            f"max_num_batched_tokens: {server.max_num_batched_tokens}, max_num_seqs: {server.max_num_seqs}, "
            f"num_gpu_blocks: {blocks}, block_size: {server.block_size}, host_time_s: 0, "
            f"async_scheduling: {str(server.async_scheduling).lower()}, admission_time_s: {coefficients[4]:.12g}"
        )
        text = (
            f"name: calibrate\n{self.workload()}measurement: {{warmup: none}}\n"
            f"pools: {{main: {{service_time: {{kind: affine, {law}}}, engine: {{kind: continuous, {engine}}}}}}}\n"
        )
        return parse(text, folder=self._file.parent)

    def simulated(self, server: Server, coefficients: Sequence[float]) -> Floats:
        """Return the measured statistics as a simulation with these coefficients gives them, in seconds."""
        frame = simulate(self.scenario(server, coefficients), seed=0).requests
        several = frame["output_tokens"].to_numpy() > 1
        found = _statistics(frame["ttft_s"].to_numpy(), frame["tpot_s"].to_numpy()[several])
        found |= {("e2e_s", "mean"): float(frame["e2e_s"].mean()), ("e2e_s", "p50"): float(frame["e2e_s"].median())}
        found |= {(m, "p99"): float(frame[m].quantile(0.99)) for m in ("ttft_s", "tpot_s", "e2e_s")}
        return np.array([max(found[name], _SHORTEST_S) for name in self.measured])


def _statistics(ttft_s: Floats, tpot_s: Floats) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    for metric, values in (("ttft_s", ttft_s), ("tpot_s", tpot_s)):
        values = values[np.isfinite(values)]
        if len(values):
            found[metric, "mean"] = float(values.mean())
            for q in _QUANTILES:
                found[metric, f"p{100 * q:.0f}"] = float(np.quantile(values, q))
    return found


def fit_loads(cases: Sequence[_Case], server: Server, start: Floats) -> Fitted:
    """Return the coefficients that make simulated latencies those measured.

    Least squares of the logarithms of simulated / measured over those of the coefficients (trust region, soft-L1 loss),
    all simulations with the same random numbers; once more with the error that the first fit left.
    """
    measured = np.concatenate([np.array([*case.measured.values()]) for case in cases])
    if (measured <= 0).any():
        raise InputError("a measured latency is 0: the files hold no streamed results")
    of_case = np.repeat(np.arange(len(cases)), [len(case.measured) for case in cases])

    def gaps(coefficients: Floats) -> Floats:
        simulated = np.concatenate([case.simulated(server, list(map(float, coefficients))) for case in cases])
        found: Floats = np.log(simulated / measured)
        return found

    solution, jacobian, left = _solve(gaps, start, np.ones(len(measured), dtype=np.bool_))
    held = []
    for i in range(len(cases) if len(cases) > 1 else 0):
        other, _, _ = _solve(gaps, start, of_case != i)  # not from the solution, which has seen the load
        held.append(np.abs(np.expm1(gaps(other)[of_case == i])))
    interior = np.concatenate(held) if held else np.zeros(0)
    errors = {"in_sample": np.abs(np.expm1(left)), "edge": np.zeros(0), "interior": interior}
    return Fitted(
        Form(),
        dict(zip(NAMES, map(float, solution), strict=True)),
        _known(solution, jacobian, left),
        errors,
        {where: ["all"] * len(found) for where, found in errors.items()},
        np.exp(-left),
        None,
        1,
        INCLUDED,
        measured * np.exp(left),
    )


def _solve(gaps: Callable[[Floats], Floats], start: Floats, used: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Return (coefficients, d gaps / d log coefficients, gaps) at the least squares of the `used` gaps and prior."""

    def slopes(logs: Floats) -> Floats:
        at = gaps(np.exp(logs))
        return np.column_stack([(gaps(np.exp(logs + _STEP * unit)) - at) / _STEP for unit in np.eye(len(logs))])

    error, logs = _MEASURED, np.log(start)
    prior = np.eye(len(start)) / _PRIOR
    for steps in (15, 10):
        logs = least_squares(
            lambda x, error=error: np.concatenate([gaps(np.exp(x))[used] / error, (x - np.log(start)) / _PRIOR]),
            logs,
            jac=lambda x, error=error: np.vstack([slopes(x)[used] / error, prior]),
            loss="soft_l1",
            f_scale=3.0,
            max_nfev=steps,
            xtol=1e-4,
        ).x
        error = max(float(np.median(np.abs(gaps(np.exp(logs))[used]))), _LEAST_ERROR)
    return np.exp(logs), slopes(logs), gaps(np.exp(logs))


def _known(solution: Floats, jacobian: Floats, left: Floats) -> Uncertainty:
    """Return how well logarithms of the coefficients are known: the prior's width at most, less where data tell them.

    The measurements' error is what the fit leaves over, no less than 1 %: simulated and measured requests differ.
    """
    error = max(float(np.sqrt((left**2).sum() / max(len(left) - len(solution), 1))), 0.01)
    information = jacobian.T @ jacobian / error**2
    covariance = np.linalg.inv(information + np.eye(len(solution)) / _PRIOR**2)
    spread = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(spread, spread)
    poor = 2.0 * spread > _TOLD
    groups: list[list[int]] = []
    for i in np.flatnonzero(poor):
        tied = [int(j) for j in np.flatnonzero(np.abs(correlation[i]) > _TIED) if poor[j]]
        if len(tied) > 1 and sorted(tied) not in groups:
            groups.append(sorted(tied))
    singular = np.linalg.svd(jacobian, compute_uv=False)
    condition = float(singular[0] / singular[-1]) if singular[-1] > 0 else math.inf
    return Uncertainty(
        {name: float(value * s) for name, value, s in zip(NAMES, solution, spread, strict=True)},
        2.0,
        condition,
        [
            Combination(
                [NAMES[i] for i in group], float(solution[group].sum()), float((solution * spread)[group].max())
            )
            for group in groups
        ],
    )
