"""`servesim validate live`: a real server under real traffic, predicted by the simulator from another part of it.

A small transformer serves Poisson traffic with continuous batching (`servesim.calibrate.torch_server`, or vLLM's engine
where it is installed: `servesim.calibrate.vllm_live`). One part of
the traffic calibrates the iteration times; another one, of another load and with other lengths, is predicted before it
runs, and then runs twice: the difference between the two runs is the noise that no prediction can beat.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from servesim.calibrate.calibration_file import Source, calibration_of, reach
from servesim.calibrate.iteration_fit import Fitted, fit_iterations
from servesim.calibrate.iterations import Iterations, joined
from servesim.calibrate.torch_clock import Arrival, LiveClock
from servesim.calibrate.torch_server import Computer, Progress, Served, Server, ServerSettings
from servesim.catalog.calibrations import Calibration, Key
from servesim.engine.settings import EngineSettings
from servesim.policies.scheduling.fcfs import Fcfs
from servesim.service_time.base import IterationTime
from servesim.service_time.calibrated import CalibratedIterationTime
from servesim.service_time.stretched import StretchedIterationTime
from servesim.validation.drive import drive
from servesim.validation.errors import statistics
from servesim.validation.runs import Run

LATENCIES = ("ttft_s", "tpot_s", "e2e_s")
STATISTICS = ("mean", "p50", "p99")
_WORK = ("prefill_tokens", "prefill_seqs", "prefill_pairs", "decode_seqs", "decode_context")
_WARM_UP_SHARE = 0.05  # of a run's requests, the first ones: an empty server is not what is asked about


@dataclass(frozen=True, slots=True)
class Error:
    """One statistic: measured in both runs of the trace (mean), their difference, and predictions, in seconds.

    `noise` is |first / second - 1| of the two runs. `blind` was predicted before the runs; `with_speed` with one
    factor on all iteration times, taken from the run's own iterations; `own_times` with the factor of every single
    iteration of the first run, so that mostly scheduling is left to be predicted.
    """

    name: str
    measured_s: float
    noise: float
    blind: float
    with_speed: float
    own_times: float


@dataclass(frozen=True, slots=True)
class Live:
    """What a live validation found; `speed` is measured / predicted iteration time summed over both runs."""

    errors: list[Error]
    calibration: Calibration
    fitted: Fitted
    rows: Iterations
    measured: tuple[Run, Run]
    predicted: Run
    speed: float
    utilisation: float
    clock: str

    def typical(self, of: str) -> float:
        """Return the median of `blind`, `with_speed`, `own_times` or `noise` over the statistics, absolute."""
        return float(np.median([abs(getattr(error, of)) for error in self.errors]))

    def explanation(self) -> str:
        """Return which assumption explains the gap, in words."""
        blind, speed, own, noise = (self.typical(of) for of in ("blind", "with_speed", "own_times", "noise"))
        if blind <= max(noise, 0.02):
            return f"nothing to explain: the blind error ({_share(blind)}) is within the repeat noise ({_share(noise)})"
        if speed <= 0.6 * blind:
            return (
                f"machine speed: this run's iterations took {self.speed:.3f} times the calibrated ones; with that one "
                f"factor the error is {_share(speed)} instead of {_share(blind)}"
            )
        if own <= 0.6 * min(speed, blind):
            return (
                f"iteration times: with the run's own ones the error is {_share(own)}, with the calibrated ones "
                f"{_share(blind)} (one speed factor: {_share(speed)})"
            )
        return f"scheduling or the clock: even with the run's own iteration times the error is {_share(own)}"

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "clock": self.clock,
            "requests": len(self.predicted),
            "speed_factor": self.speed,
            "utilisation": self.utilisation,
            "errors": {
                error.name: {
                    "measured_s": error.measured_s, "repeat_noise": error.noise, "blind": error.blind,
                    "with_speed_factor": error.with_speed, "with_own_iteration_times": error.own_times,
                }
                for error in self.errors
            },
            "median": {of: self.typical(of) for of in ("noise", "blind", "with_speed", "own_times")},
            "explanation": self.explanation(),
            "calibration": self.calibration.model_dump(mode="json"),
        }  # fmt: skip


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


class _WithResiduals(IterationTime):
    """Calibrated times, each with the factor by which the n-th iteration of a real run missed them.

    Factors and not the times themselves: an arrival on the other side of a boundary shifts the count by one, and then
    a prompt would take the time of a single token.
    """

    def __init__(self, times: IterationTime, factors: Sequence[float]) -> None:
        self._times, self._factors = times, iter(factors)
        self._rest = float(np.median(factors))

    def decode_line(self, decode_seqs: int, context_tokens: int) -> tuple[float, float, float]:
        """Return the next iteration's time; it holds for one iteration."""
        base_s, slope_s, _ = self._times.decode_line(decode_seqs, context_tokens)
        return (base_s + slope_s * context_tokens) * next(self._factors, self._rest), 0.0, context_tokens

    def mixed_s(
        self, decode_seqs: int, context_tokens: int, prefill_seqs: int, prefill_tokens: int, prefill_pairs: int
    ) -> float:
        """Return the next iteration's time."""
        seconds = self._times.mixed_s(decode_seqs, context_tokens, prefill_seqs, prefill_tokens, prefill_pairs)
        return seconds * next(self._factors, self._rest)


class RealServer(Protocol):
    """A server that is warm: this project's own, or an engine that is installed."""

    @property
    def settings(self) -> ServerSettings:
        """Return its limits."""

    @property
    def clock_name(self) -> str:
        """Return what people call the clock it lives by."""

    def serve(self, what: str, trace: Sequence[Arrival]) -> Served:
        """Return what it makes of `trace`; `what` names it to whoever watches."""


@dataclass(frozen=True, slots=True)
class LiveServer:
    """A computer that is warm, its vocabulary, limits, and what makes the clocks its servers live by."""

    computer: Computer
    vocab: int
    settings: ServerSettings
    clock: Callable[[], LiveClock]
    progress: Progress | None = None

    @property
    def clock_name(self) -> str:
        """What people call the clock."""
        return self.clock().name

    def serve(self, what: str, trace: Sequence[Arrival]) -> Served:
        """Return what a fresh server makes of `trace`; `what` names it to whoever watches."""
        server = Server(self.computer, self.settings, Fcfs().live(), self.clock(), self.vocab)
        progress = self.progress
        return server.serve(trace, None if progress is None else lambda done, of: progress(what, done, of))


def calibrated(server: RealServer, calibrate_on: Sequence[Sequence[Arrival]], key: Key) -> Calibrated:
    """Serve each trace and fit the iteration times of all of them together."""
    parts = [server.serve(f"calibrating, part {i}", trace) for i, trace in enumerate(calibrate_on, 1)]
    rows = joined([part.iterations for part in parts])
    fitted = fit_iterations(rows)
    source = Source("servesim validate live", "live", [], "every iteration of a live server under Poisson traffic")
    admission_s = float(np.median([part.admission_s for part in parts]))
    calibration = calibration_of(fitted, len(rows), reach(rows), key, source, admission_s=admission_s)
    settings = server.settings
    times = CalibratedIterationTime(calibration, settings.max_num_batched_tokens, settings.max_num_seqs)
    return Calibrated(rows, fitted, calibration, times, _engine(settings, fitted, admission_s))


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Iterations measured, their fit, and a simulated engine that lives by it."""

    rows: Iterations
    fitted: Fitted
    calibration: Calibration
    times: IterationTime
    engine: EngineSettings

    def predict(self, trace: Sequence[Arrival]) -> Run:
        """Return the trace as the simulator says it will be served."""
        return drive(_run("predicted", trace), self.engine, self.times)


def validated(server: RealServer, known: Calibrated, trace: Sequence[Arrival]) -> Live:
    """Predict `trace`, serve it twice, and compare; also with what the runs say of their own iteration times."""
    predicted = known.predict(trace)  # before the trace runs
    served = [server.serve(f"predicted, run {i}", trace) for i in (1, 2)]
    factors = [_factors(run.iterations, known.times, known.engine) for run in served]
    speed = float(np.sum([f @ seconds for f, seconds in factors]) / np.sum([seconds.sum() for _, seconds in factors]))
    host_s = {name: getattr(known.engine, name) * speed for name in ("host_time_s", "host_time_per_seq_s")}
    with_speed = drive(predicted, replace(known.engine, **host_s), StretchedIterationTime(known.times, speed))
    own_times = drive(predicted, known.engine, _WithResiduals(known.times, factors[0][0].tolist()))
    measured = (_measured("first run", served[0]), _measured("second run", served[1]))
    first = served[0].iterations
    busy = float(np.sum(first.device_s + first.host_s)) / measured[0].makespan_s
    errors = _errors(measured, predicted, with_speed, own_times)
    return Live(
        errors, known.calibration, known.fitted, known.rows, measured, predicted, speed, busy, server.clock_name
    )


def _engine(settings: ServerSettings, fitted: Fitted, admission_s: float) -> EngineSettings:
    host = fitted.host
    return EngineSettings(
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        max_model_len=settings.max_model_len,
        async_scheduling=False,
        admission_time_s=admission_s,
        host_time_s=0.0 if host is None else host.iteration_s,
        host_time_per_seq_s=0.0 if host is None else host.per_seq_s,
    )


def _factors(rows: Iterations, times: IterationTime, engine: EngineSettings) -> tuple[np.ndarray, np.ndarray]:
    """Return (measured / predicted, predicted seconds) of every iteration that a run really had, host time included."""
    predicted_s = []
    for tokens, prompts, pairs, seqs, context in zip(
        *(getattr(rows, name).astype(int).tolist() for name in _WORK), strict=True
    ):
        if prompts:
            seconds = times.mixed_s(seqs, context, prompts, tokens, pairs)
        else:
            base_s, slope_s, _ = times.decode_line(seqs, context)
            seconds = base_s + slope_s * context
        predicted_s.append(seconds + engine.host_time_s + engine.host_time_per_seq_s * (seqs + prompts))
    found = np.array(predicted_s)
    return (rows.device_s + rows.host_s) / found, found


def _run(name: str, trace: Sequence[Arrival]) -> Run:
    missing = np.full(len(trace), np.nan)
    return Run(
        name,
        np.array([one.time_s for one in trace]),
        np.array([one.prompt_tokens for one in trace]),
        np.array([one.output_tokens for one in trace]),
        missing,
        missing,
    )


def _measured(name: str, served: Served) -> Run:
    return Run(name, served.arrival_s, served.prompt_tokens, served.output_tokens, served.ttft_s, served.e2e_s)


def _errors(measured: tuple[Run, Run], blind: Run, with_speed: Run, own_times: Run) -> list[Error]:
    """Return every statistic of the requests after the warm-up; own times are compared with the run they are of."""
    skip = slice(int(_WARM_UP_SHARE * len(blind)), None)
    first, second, *predictions = (
        statistics(run.select(skip)) for run in (*measured, blind, with_speed, own_times)
    )  # fmt: skip
    found = []
    for name in (f"{latency}.{statistic}" for latency in LATENCIES for statistic in STATISTICS):
        mean = 0.5 * (first[name] + second[name])
        noise = abs(first[name] / second[name] - 1.0)
        blind_error, speed_error = (one[name] / mean - 1.0 for one in predictions[:2])
        own_error = predictions[2][name] / first[name] - 1.0
        found.append(Error(name, mean, noise, blind_error, speed_error, own_error))
    return found
