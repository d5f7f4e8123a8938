"""How much traffic a live validation sends: loads from the server's capacity, numbers from the time there is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from servesim.calibrate.torch_clock import Arrival
from servesim.calibrate.torch_server import ServerSettings
from servesim.catalog.calibrations import Key
from servesim.validation.live import Live, RealServer, calibrated, validated

CALIBRATION_LOADS = (0.35, 0.8)  # of capacity: rarely more than one request at a time, and a well filled batch
PREDICTED_LOAD = 0.6
_CALIBRATION_SHARE, _RUN_SHARE = 0.2, 0.27  # of the time: two loads to calibrate on, two runs of the trace
_LEAST_REQUESTS = 60


@dataclass(frozen=True, slots=True)
class Traffic:
    """Poisson traffic with log-normal lengths (median tokens and the standard deviation of the logarithm)."""

    request_rate_rps: float
    num_requests: int
    prompt_median: float
    output_median: float
    sigma: float = 0.6

    def draw(self, settings: ServerSettings, seed: int) -> list[Arrival]:
        """Return requests that fit the server, the same for the same seed."""
        rng = np.random.default_rng(seed)
        times = np.cumsum(rng.exponential(1.0 / self.request_rate_rps, self.num_requests))
        half = settings.max_model_len // 2

        def lengths(median: float) -> list[int]:
            drawn = np.exp(rng.normal(np.log(median), self.sigma, self.num_requests))
            return [int(n) for n in np.clip(np.round(drawn), 2, half)]

        prompts, outputs = lengths(self.prompt_median), lengths(self.output_median)
        return [Arrival(float(t), p, o) for t, p, o in zip(times, prompts, outputs, strict=True)]


CALIBRATION = Traffic(1.0, 1, prompt_median=48, output_median=16)
PREDICTED = Traffic(1.0, 1, prompt_median=72, output_median=11)


def burst(traffic: Traffic, settings: ServerSettings, count: int, seed: int) -> list[Arrival]:
    """Return `count` requests of this kind that all come at once."""
    drawn = replace(traffic, num_requests=count).draw(settings, seed)
    return [replace(one, time_s=0.0) for one in drawn]


def live(server: RealServer, seconds: float, key: Key, seed: int = 0) -> Live:
    """Calibrate and validate a server in about `seconds` of traffic.

    A burst shows the capacity for the calibration's requests; that for the requests to be predicted is simulated, so
    that nothing of them is measured before they are predicted.
    """
    settings = server.settings
    rush = server.serve("finding the capacity", burst(CALIBRATION, settings, 4 * settings.max_num_seqs, seed + 1))
    most_rps = len(rush.e2e_s) / float(np.max(rush.e2e_s))
    parts = [_traffic(CALIBRATION, load * most_rps, _CALIBRATION_SHARE * seconds) for load in CALIBRATION_LOADS]
    known = calibrated(server, [part.draw(settings, seed + 2 + i) for i, part in enumerate(parts)], key)
    simulated = known.predict(burst(PREDICTED, settings, 10 * settings.max_num_seqs, seed + 1))
    most_rps = len(simulated) / float(np.max(simulated.e2e_s))
    trace = _traffic(PREDICTED, PREDICTED_LOAD * most_rps, _RUN_SHARE * seconds).draw(settings, seed)
    return validated(server, known, trace)


def _traffic(kind: Traffic, rate_rps: float, duration_s: float) -> Traffic:
    count = max(_LEAST_REQUESTS, round(rate_rps * duration_s))
    return replace(kind, request_rate_rps=rate_rps, num_requests=count)
