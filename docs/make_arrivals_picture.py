"""Draw what kinds of arrivals look like at one mean rate (`python docs/make_arrivals_picture.py`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from servesim.registry import kinds
from servesim.rng import stream

DOCS = Path(__file__).parent
RATE_RPS = 10.0
DURATION_S = 300
SEED = 3
POISSON: dict[str, Any] = {"kind": "poisson", "request_rate_rps": RATE_RPS}
SHOWN: list[tuple[str, dict[str, Any]]] = [
    ("constant", {"kind": "constant", "request_rate_rps": RATE_RPS}),
    ("poisson", POISSON),
    ("gamma, burstiness 0.25", {"kind": "gamma", "request_rate_rps": RATE_RPS, "burstiness": 0.25}),
    ("weibull, shape 0.5", {"kind": "weibull", "request_rate_rps": RATE_RPS, "shape": 0.5}),
    ("batch: 10 at a time", {"kind": "batch", "bursts": {**POISSON, "request_rate_rps": RATE_RPS / 10}, "size": 10}),
    ("mmpp: 25/s for 20 s, 2.5/s for 40 s", {"kind": "mmpp", "rates_rps": [25.0, 2.5], "mean_stays_s": [20.0, 40.0]}),
    ("hawkes, branching ratio 0.8", {"kind": "hawkes", "base_rps": 2.0, "jump_rps": 0.4, "decay_per_s": 0.5}),
    (
        "nhpp: sinusoid of amplitude 0.8",
        {"kind": "nhpp", "rate": {"kind": "sinusoid", "mean_rps": RATE_RPS, "amplitude": 0.8, "period_s": 120.0}},
    ),
]


def counts_per_second(arrivals: dict[str, Any]) -> np.ndarray:
    """Return the number of arrivals in each second, shape (DURATION_S,)."""
    spec = kinds("arrivals")[arrivals["kind"]].model_validate(arrivals)
    counts = np.zeros(DURATION_S)
    for times_s in spec.times(stream(SEED, "arrivals", "picture")):
        counts += np.bincount(times_s[times_s < DURATION_S].astype(int), minlength=DURATION_S)
        if times_s[-1] >= DURATION_S:
            break
    return counts


def main() -> None:
    """Draw one row of bars for each kind."""
    figure, axes = plt.subplots(4, 2, figsize=(9, 7.5), sharex=True, sharey=True, layout="constrained")
    for axis, (title, arrivals) in zip(axes.T.flat, SHOWN, strict=True):
        counts = counts_per_second(arrivals)
        axis.bar(np.arange(DURATION_S) + 0.5, counts, width=1.0, color="tab:blue")
        axis.axhline(RATE_RPS, color="black", linewidth=0.8, linestyle=":")
        dispersion = counts.var() / counts.mean()
        axis.set_title(f"{title}   (variance/mean {dispersion:.1f})", fontsize=8.5, loc="left")
        axis.set(xlim=(0, DURATION_S), ylim=(0, 60))
    for axis in axes[-1]:
        axis.set_xlabel("time (s)")
    figure.supylabel("requests in each second (variance/mean: of these counts)", fontsize=10)
    figure.suptitle(f"Arrivals of the same mean rate, {RATE_RPS:g} requests/s", fontsize=11)
    figure.savefig(DOCS / "arrivals.png", dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
