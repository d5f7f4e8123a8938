"""The claims about batching on one GPU: what it gives, what it costs, and within which targets."""

from __future__ import annotations

from collections.abc import Iterator

from tests.claims.finding import Attainment, Band, Finding, Inverse, Ratio, RatioOfRises, ShareOfMost
from tests.claims.lab import Lab, Runs

_ALONE = "one at a time"


def throughput(lab: Lab) -> list[Finding]:
    """Find the factor of throughput that each size of a batch gives."""
    return [
        Finding(series, case, "throughput, times", Ratio(alone, runs, "request_throughput_rps"), Band(2, 4))
        for series, case, alone, runs in _batched(lab)
    ]


def latency(lab: Lab) -> list[Finding]:
    """Find the factor of latency over that of throughput."""
    found = []
    for series, case, alone, runs in _batched(lab):
        figure = RatioOfRises(alone, runs, "request_throughput_rps", "e2e_s.mean", by_part=False)
        found.append(Finding(series, case, "factor of latency / factor of throughput", figure, Band(0.5, 2)))
    return found


def _batched(lab: Lab) -> Iterator[tuple[str, str, Runs, Runs]]:
    """Yield every size of a batch, with the runs one at a time that it is compared with."""
    for name in ("batching-encoders", "batching-llm"):
        points = {variant: runs for (variant, _), runs in lab.points(name).items()}
        for variant, runs in points.items():
            series, case = variant.split("; ")
            if case != _ALONE:
                yield series, case, points[f"{series}; {_ALONE}"], runs


def continuous(lab: Lab) -> list[Finding]:
    """Find what continuous batching keeps up near the maximum, and its latency over that of fixed batches."""
    points = {variant: runs for (variant, _), runs in lab.points("continuous-or-fixed").items()}
    loads = {variant: load for (variant, _), load in lab.largest("load-within-target").items()}
    found = []
    for gpu in ("H100", "A100"):
        for part in ("80 %", "90 %"):
            runs, case = points[f"{gpu}; continuous at {part}"], f"{part} of the most"
            for size in (8, 16):
                fixed = points[f"{gpu}; fixed batches of {size}"]
                for metric, said in (("ttft_s.p99", "p99 TTFT"), ("e2e_s.mean", "mean E2E"), ("e2e_s.p99", "p99 E2E")):
                    ratio = Ratio(fixed, runs, metric)
                    found.append(Finding(gpu, case, f"{said}, over fixed {size}'s", ratio, Band(high=1)))
        for variant, load in loads.items():
            series, case = variant.split("; ")
            if series == gpu:
                figure = ShareOfMost(load, lab.points("load-within-target", "backlog")[f"{gpu}; backlog", None])
                found.append(Finding(f"{gpu} within", case, "of the most", figure, Band(low=0.8), percent=True))
    return found


def per_dollar(lab: Lab) -> list[Finding]:
    """Find what a GPU does without a target over what it does within one."""
    found = []
    for (variant, _), load in lab.largest("load-within-target").items():
        gpu, case = variant.split("; ")
        figure = Inverse(ShareOfMost(load, lab.points("load-within-target", "backlog")[f"{gpu}; backlog", None]))
        found.append(Finding(gpu, case, "requests per dollar, times", figure, Band(2, 3)))
    return found


def targets(lab: Lab) -> list[Finding]:
    """Find the share of requests within the target, with small and with large batches."""
    found = []
    for name, of, series in (("targets-encoder", "encode", "BERT-large"), ("targets-llm", "voice", "Llama-3.1-8B")):
        for (variant, target_s), runs in lab.points(name).items():
            gpu, setting = variant.split("; ")
            small = setting in ("small", _ALONE)
            if setting == "middle":
                continue
            band = Band(low=0.99) if small else Band(high=0.99)
            what = f"within the target, {setting}"
            kind = " in whole batches" if setting in ("whole batches of 16", _ALONE) else ""
            where = f"{series} on {gpu}{kind}", f"{1000 * target_s:g} ms"
            found.append(Finding(*where, what, Attainment(runs, of), band, percent=True))
    return found
