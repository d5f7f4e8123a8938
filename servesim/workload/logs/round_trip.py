"""Does a fitted workload load a system as the log does? `python -m servesim.workload.logs.round_trip DATA_DIR`.

For every recorded trace below DATA_DIR/traces the replay and the fitted workload are simulated with `servesim run`, at
a speed at which tokens arrive at 60 % of the rate at which the pool serves them when all requests wait at the start.
Prints p50 and p99 of TTFT and E2E of the replay (± their standard error by a block bootstrap: one log is one draw), how
far the median over several seeds of the fit is off (± the seeds' standard deviation), and what the fit says it could
not keep. Exits with 1 if a figure is off by more than 10 % and by more than noise while the fit claims to have lost
nothing.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from servesim import rng as random_streams
from servesim.errors import InputError, ServesimError
from servesim.workload.base import FloatArray
from servesim.workload.logs.fit import fit_requests
from servesim.workload.logs.fit_yaml import part_yaml
from servesim.workload.logs.log_file import LogFile
from servesim.workload.logs.not_kept import not_kept
from servesim.workload.logs.read import Log, read_log

if TYPE_CHECKING:
    import pandas as pd

FIGURES = ("TTFT p50", "TTFT p99", "E2E p50", "E2E p99")
TOLERANCE = 0.1
_BLOCKS = 20
_POOL = """\
pools:
  main:
    model: llama-3.1-8b
    gpu: h100_sxm
    engine: {kind: continuous, host_time_s: 0.002}
"""
_TRACES = (
    ("Azure conversation", "azure2023/AzureLLMInferenceTrace_conv.csv", math.inf),
    ("Azure code", "azure2023/AzureLLMInferenceTrace_code.csv", math.inf),
    ("Mooncake conversation", "mooncake/conversation_trace.jsonl", math.inf),
    ("Mooncake synthetic", "mooncake/synthetic_trace.jsonl", math.inf),
    ("ServeGen m-small, 2 h", "servegen/m-small", 7200.0),
)


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """Seconds, in the order of FIGURES, of the replay, shape (4,), and of the fit by seed, shape (seeds, 4).

    `replay_noise` is the replay's standard error relative to it, shape (4,), by `bootstrap_noise`.
    """

    name: str
    requests: int
    rate_scale: float
    replay_s: FloatArray
    replay_noise: FloatArray
    fit_s: FloatArray
    lost: tuple[str, ...]

    @property
    def error(self) -> FloatArray:
        """Relative error of the median over the seeds, shape (4,); tails near saturation are skewed between seeds."""
        return np.asarray(np.median(self.fit_s, axis=0) / self.replay_s - 1)

    @property
    def scatter(self) -> FloatArray:
        """Standard deviation between seeds, relative to the replay, shape (4,): what one realisation is worth."""
        return np.asarray(self.fit_s.std(axis=0, ddof=1) / self.replay_s)

    @property
    def within(self) -> list[bool]:
        """Whether each figure is within the tolerance."""
        return [bool(abs(error) <= TOLERANCE) for error in self.error]

    @property
    def noise(self) -> FloatArray:
        """Standard error of `error`, shape (4,): of the one replay, and of the median over the seeds.

        The median of n normal values scatters by 1.2533 / sqrt(n) times one value's standard deviation.
        """
        return np.asarray(np.hypot(self.replay_noise, 1.2533 * self.scatter / math.sqrt(len(self.fit_s))))

    @property
    def beyond_noise(self) -> list[str]:
        """The figures outside the tolerance by more than two standard errors."""
        rows = zip(FIGURES, self.within, self.error, self.noise, strict=True)
        return [name for name, good, error, noise in rows if not good and abs(error) > 2 * noise]


def main() -> None:
    """Run all traces of the directory named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="directory with traces/")
    parser.add_argument("--seeds", type=int, default=10, help="realisations of each fit, at least 5")
    parser.add_argument("--load", type=float, default=0.6, help="token rate over that of a full system")
    parser.add_argument("--only", default="", help="traces whose name contains this")
    options = parser.parse_args()
    if options.seeds < 5:
        parser.error("--seeds must be at least 5: of fewer the spread is not known")
    print(header())
    failed = False
    try:
        for name, place, end_s in _TRACES:
            if options.only in name:
                log = read_log(LogFile(path=str(options.data / "traces" / place)), end_s=end_s)
                trip = round_trip(name, log, load=options.load, seeds=options.seeds)
                print("\n".join(lines_of(trip)), flush=True)
                failed |= bool(trip.beyond_noise) and not trip.lost
    except ServesimError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    sys.exit(1 if failed else 0)


def round_trip(name: str, log: Log, *, load: float = 0.6, seeds: int = 5, pool: str = _POOL) -> RoundTrip:
    """Return how the fit's latencies compare with those of the replay at `load`, in (0, 1)."""
    requests = log.requests
    fit = fit_requests(requests)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _write_csv(place / "log.csv", log)
        full_s = float(_simulated(place, _replay(1e6), pool, 0)["finish_s"].max())
        rate_scale = load * fit.span_s / full_s
        replay = _simulated(place, _replay(rate_scale), pool, 0)
        latencies_s = replay.sort_values("arrival_s")[["ttft_s", "e2e_s"]].dropna().to_numpy()
        part = part_yaml(fit.at_speed(rate_scale), [])
        drawn = (_simulated(place, part, pool, seed) for seed in range(1, seeds + 1))
        fit_s = np.array([figures(result[["ttft_s", "e2e_s"]].dropna().to_numpy()) for result in drawn])
    return RoundTrip(
        name,
        len(requests[0]),
        rate_scale,
        figures(latencies_s),
        bootstrap_noise(latencies_s),
        fit_s,
        tuple(not_kept(log, fit)),
    )


def figures(latencies_s: FloatArray) -> FloatArray:
    """Return FIGURES of TTFT and E2E in seconds, given by request, shape (n, 2)."""
    return np.asarray(np.quantile(latencies_s, (0.5, 0.99), axis=0).T.ravel())


def bootstrap_noise(latencies_s: FloatArray, draws: int = 400) -> FloatArray:
    """Return the relative standard error of FIGURES of latencies in order of arrival, shape (n, 2).

    A circular block bootstrap: blocks of a twentieth of the requests, since latencies of neighbours depend on each
    other (Politis and Romano, "A circular block-resampling procedure for stationary data", 1992). What varies more
    slowly than that, a log cannot tell about itself.
    """
    n = len(latencies_s)
    length = max(1, n // _BLOCKS)
    rng = random_streams.stream(0, "bootstrap")
    found = []
    for _ in range(draws):
        starts = rng.integers(n, size=-(-n // length))
        chosen = (starts[:, None] + np.arange(length)).ravel()[:n] % n
        found.append(figures(latencies_s[chosen]))
    return np.asarray(np.std(found, axis=0, ddof=1) / figures(latencies_s))


def _write_csv(path: Path, log: Log) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("arrival_s", "prompt_tokens", "output_tokens"))
        writer.writerows(zip(*(column.tolist() for column in log.requests), strict=True))


def _replay(rate_scale: float) -> str:
    arrivals = {"kind": "log", "path": "log.csv", "format": "csv", "rate_scale": rate_scale}
    return f"workload: {{classes: {{replay: {{arrivals: {json.dumps(arrivals)}}}}}}}\n"


def _simulated(folder: Path, workload: str, pool: str, seed: int) -> pd.DataFrame:
    """Return the requests' arrival, TTFT, E2E and finish in seconds, of a run in a process of its own."""
    import pandas as pd

    scenario, result = folder / "scenario.yaml", folder / "result"
    scenario.write_text(f"name: round-trip\nseed: {seed}\n{workload}{pool}", encoding="utf-8")
    command = [sys.executable, "-m", "servesim", "run", str(scenario), "-o", str(result), "--format", "json", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"servesim run: {done.stderr.strip()}")
    return pd.read_parquet(result / "requests.parquet", columns=["arrival_s", "ttft_s", "e2e_s", "finish_s"])


def header() -> str:
    """Return the head of the table that `lines_of` fills."""
    return "| Trace | Requests | Speed | " + " | ".join(FIGURES) + " |\n" + "|---" * (3 + len(FIGURES)) + "|"


def lines_of(trip: RoundTrip) -> Sequence[str]:
    """Return the table's row of one trace, and what its fit lacks: replay ± its noise, then fit ± between seeds."""
    cells = [
        f"{seconds:.3g} s ± {100 * own:.0f} %, {100 * error:+.1f} ± {100 * scatter:.0f} %"
        for seconds, own, error, scatter in zip(trip.replay_s, trip.replay_noise, trip.error, trip.scatter, strict=True)
    ]
    outside = [name for name, good in zip(FIGURES, trip.within, strict=True) if not good]
    verdict = f"all within {100 * TOLERANCE:.0f} %"
    if outside:
        unlike = ", ".join(trip.beyond_noise)
        verdict = f"not within {100 * TOLERANCE:.0f} %: {', '.join(outside)}; "
        verdict += f"beyond noise: {unlike}" if unlike else "none by more than two standard errors: noise"
    verdict += f" (medians of {len(trip.fit_s)} seeds)"
    return [
        f"| {trip.name} | {trip.requests} | {trip.rate_scale:.3g} | {' | '.join(cells)} |",
        f"  {verdict}; not kept: {'; '.join(trip.lost) or 'nothing found'}",
    ]


if __name__ == "__main__":
    main()
