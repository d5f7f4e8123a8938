"""Draw the README's picture: latency and goodput against load for the chat scenario (`python docs/make_picture.py`)."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import servesim

DOCS = Path(__file__).parent
RATES_RPS = [1, 2, 3, 4, 5, 6, 7, 7.5, 8, 8.5, 9, 9.5, 10, 11]
SEEDS = range(5)
DURATION_S = 900


def measure(rate_rps: float, seed: int) -> tuple[float, float, float]:
    """Return p50 and p99 TTFT in seconds and goodput in requests/s at one rate."""
    changes = [f"workload.classes.chat.arrivals.request_rate_rps={rate_rps}", f"workload.duration_s={DURATION_S}"]
    summary = servesim.simulate(
        servesim.load(DOCS.parent / "scenarios/chat-llama31-8b-a100.yaml", changes), seed
    ).summary
    chat = summary["classes"]["chat"]
    return chat["ttft_s"]["p50"], chat["ttft_s"]["p99"], chat["goodput_rps"]


def main() -> None:
    """Simulate every rate under five seeds and draw means with the range of the seeds."""
    data = np.array([[measure(rate, seed) for seed in SEEDS] for rate in RATES_RPS])
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for column, label, style in ((1, "p99", "-"), (0, "p50", "--")):
        values = data[:, :, column]
        left.plot(RATES_RPS, values.mean(axis=1), style, color="tab:blue", label=label)
        left.fill_between(RATES_RPS, values.min(axis=1), values.max(axis=1), color="tab:blue", alpha=0.2)
    left.axhline(1.0, color="black", linewidth=0.8, linestyle=":")
    left.text(RATES_RPS[0], 1.08, "SLO 1 s", fontsize=8)
    left.set(yscale="log", xlabel="offered load (requests/s)", ylabel="time to first token (s)", title="Latency")
    left.legend(frameon=False)
    values = data[:, :, 2]
    right.plot(RATES_RPS, RATES_RPS, color="black", linewidth=0.8, linestyle=":", label="offered")
    right.plot(RATES_RPS, values.mean(axis=1), color="tab:green", label="within the SLO")
    right.fill_between(RATES_RPS, values.min(axis=1), values.max(axis=1), color="tab:green", alpha=0.2)
    right.set(xlabel="offered load (requests/s)", ylabel="goodput (requests/s)", title="Goodput", ylim=(0, None))
    right.legend(frameon=False)
    figure.suptitle(
        "Llama-3.1-8B on one A100, chat traffic: a quarter of an hour simulated, range over five seeds", fontsize=10
    )
    figure.savefig(DOCS / "throughput-latency.png", dpi=130, metadata={"Software": None})


if __name__ == "__main__":
    main()
