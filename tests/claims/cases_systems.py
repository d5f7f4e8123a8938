"""The claims about loads, pools and choices."""

from __future__ import annotations

from tests.claims.finding import Band, Finding, Ratio, RatioOfLoads, RatioOfRises, Sure
from tests.claims.lab import Key, Lab, Load

_BETTER = Band(high=1)
_NOT_WORSE = Band(high=1.02)
_RATES_RPS = (5.0, 10.0, 20.0, 40.0)
_WORK = {"strategies-chat": "real-time chat", "strategies-documents": "batch documents"}
_CALM, _BUSY = 0.2, (0.5, 0.8)
_TAILS = (
    ("tail-queue", "M/M/1", "e2e_s"),
    ("tail-encoder", "BERT-large, batched as it comes", "e2e_s"),
    ("tail-chat", "chat, TTFT", "ttft_s"),
    ("tail-chat", "chat, E2E", "e2e_s"),
    ("tail-chat-scarce", "chat with 16 places, TTFT", "ttft_s"),
    ("tail-chat-scarce", "chat with 16 places, E2E", "e2e_s"),
)


def separate(lab: Lab) -> list[Finding]:
    """Find what the best split carries over what one pool does."""
    found = []
    for name, chat_rps, patience in (("mixed", 48, "half a minute each"), ("mixed-patient", 32, "a minute each")):
        loads = lab.largest(name)
        for document_rps in dict.fromkeys(value for _, value in loads):
            best, apart = _best_split(loads, document_rps)
            what = f"load of the best split ({best}), times"
            case = f"{document_rps / chat_rps:.3g} to a chat"
            figure = RatioOfLoads(loads["one pool", document_rps], apart)
            found.append(Finding(f"documents, {patience}", case, what, figure, Band(low=1)))
    return found


def _best_split(loads: dict[Key, Load], document_rps: float) -> tuple[str, Load]:
    """Return the division of the GPUs that carries most, as far as is known."""
    apart = {name: load for (name, value), load in loads.items() if value == document_rps and "separate" in name}
    best = max(apart, key=lambda name: _rps(apart[name]))
    return best.removeprefix("separate; "), apart[best]


def _rps(load: Load) -> float:
    return load.found.factor * load.rate_rps


def right_size(lab: Lab) -> list[Finding]:
    """Find what the plan's answer saves over its naive choice."""
    found = []
    plans = lab.plans(
        "right-size", "scenario.workload.classes.chat.arrivals.request_rate_rps", _RATES_RPS[:: lab.effort.every_plan]
    )
    for rate, plan in plans.items():
        best, naive = plan["ranked"][0], plan["naive"]
        unit = best["usd_per_hour"] / best["replicas"]
        least = min([*best["ties"], best["replicas"]]) * unit
        saved, most = 1 - best["usd_per_hour"] / naive["usd_per_hour"], 1 - least / naive["usd_per_hour"]
        what = f"{naive['replicas']} {naive['settings']['gpu']} to {best['replicas']} {best['settings']['gpu']}: saved"
        hangs = bool(plan["doubt"] and plan["doubt"]["hangs_on_it"])
        figure = Sure(saved, saved, most, hangs)
        found.append(Finding("chat", f"{rate:g} requests/s", what, figure, Band(0.3, 0.5), percent=True))
    return found


def adaptive(lab: Lab) -> list[Finding]:
    """Find the latency of each adaptive batcher over that of each fixed one."""
    points = {variant: runs for (variant, _), runs in lab.points("day").items()}
    found = []
    for variant, runs in points.items():
        kind, _, name = variant.partition("; ")
        if kind != "adaptive":
            continue
        for other, fixed in points.items():
            if not other.startswith("adaptive"):
                for metric, said in (("e2e_s.mean", "mean"), ("e2e_s.p99", "p99")):
                    figure = Ratio(fixed, runs, metric, whole_run=True)
                    case = other.replace("fixed; ", "against ")
                    found.append(Finding(name, case, f"{said} latency, over the fixed one's", figure, _BETTER))
    return found


def tail_first(lab: Lab) -> list[Finding]:
    """Find how much more p99 rises with load than the mean does."""
    found = []
    for name, series, latency in _TAILS:
        points = lab.loads(name, (_CALM, *_BUSY))
        for load in _BUSY:
            figure = RatioOfRises(points[_CALM], points[load], f"{latency}.mean", f"{latency}.p99")
            case = f"{load:.0%} of the most".replace("%", " %")
            found.append(Finding(series, case, "rise of p99 over rise of mean", figure, Band(low=1.1)))
    return found


def strategies(lab: Lab) -> list[Finding]:
    """Find how every other strategy does against the recommended one."""
    found = []
    for name, best, metric in (
        ("strategies-chat", "continuous, small steps", "goodput_rps"),
        ("strategies-documents", "continuous, large steps", "request_throughput_rps"),
    ):
        points = {variant: runs for (variant, _), runs in lab.points(name).items()}
        series = f"{_WORK[name]}: {best}"
        for variant, runs in points.items():
            if variant != best:
                figure = Ratio(points[best], runs, metric, whole_run=True)
                found.append(Finding(series, f"against {variant}", f"{metric} of the other", figure, _NOT_WORSE))
    loads = lab.largest("mixed")
    for (variant, document_rps), load in loads.items():
        if "separate" not in variant:
            figure = RatioOfLoads(_best_split(loads, document_rps)[1], load)
            case = f"against {variant}, {document_rps / 48:.3g} documents to a chat"
            found.append(Finding("mixed: separate pools", case, "load of the other", figure, _NOT_WORSE))
    return found
