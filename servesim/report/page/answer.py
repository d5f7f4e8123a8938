"""The first screen in words: does it meet the SLO, how sure is that, what limits it, and what would help."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from servesim.report.intervals import calibration_words
from servesim.report.numbers import listed, number, percent, seconds
from servesim.report.page.screen import Screen, Tile, Tone
from servesim.report.validation import validation_lines
from servesim.report.why import BOTTLENECK_WORDS, best_changes, cause_sentences

# From worst to best: the worst of all objectives is the answer.
Verdict = Literal["missed", "missed here", "overloaded", "unclear", "met here", "met", "not asked"]
ORDER: tuple[Verdict, ...] = ("missed", "missed here", "overloaded", "unclear", "met here", "met", "not asked")
_HEADLINES: dict[Verdict, str] = {
    "missed": "No: it misses its SLO",
    "missed here": "No, as far as {runs} can tell",
    "overloaded": "Overloaded: a longer run would give another answer",
    "unclear": "Too close to call",
    "met here": "Yes, as far as {runs} can tell",
    "met": "Yes: it meets its SLO",
    "not asked": "No attainment is asked for",
}
_TONES: dict[Verdict, Tone] = {
    "missed": "bad",
    "missed here": "bad",
    "overloaded": "bad",
    "unclear": "open",
    "met here": "good",
    "met": "good",
    "not asked": "plain",
}
_OVERLOADED = "overloaded"  # how the reason begins that an overloaded run has no intervals
_LIMITS = {"ttft_s": "TTFT", "tpot_s": "TPOT", "e2e_s": "E2E"}


@dataclass(frozen=True, slots=True)
class Judged:
    """One objective of the class called `name`: whether it was met, in a word and in a sentence."""

    name: str
    verdict: Verdict
    words: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the first screen says: a verdict and sentences."""

    verdict: Verdict
    headline: str
    objectives: list[str]
    sure: list[str]
    limits: list[str]
    helps: list[str]
    tiles: list[Tile]

    @property
    def screen(self) -> Screen:
        """The first screen."""
        columns = (
            ("How sure?", self.sure),
            ("What limits it?", self.limits),
            ("What would help?", self.helps),
        )
        question = "Does it meet its service-level objective?"
        return Screen(_TONES[self.verdict], question, self.headline, self.objectives, self.tiles, columns)


def answer(summary: dict[str, Any], scenario: dict[str, Any]) -> Answer:
    """Return the answer that a summary gives to the objectives of its scenario (parsed scenario.resolved.yaml)."""
    judged = list(_judged(summary, scenario["workload"]["classes"]))
    worst = min(judged, key=lambda one: ORDER.index(one.verdict), default=None)
    verdict: Verdict = "not asked" if worst is None else worst.verdict
    found = summary["intervals"]["replications"]
    runs = "this one run" if found == 1 else f"these {found} replications"
    return Answer(
        verdict=verdict,
        headline=_HEADLINES[verdict].format(runs=runs),
        objectives=[one.words for one in judged] or _unasked(summary),
        sure=_sure(summary),
        limits=_limits(summary),
        helps=_helps(summary["why"]),
        tiles=list(_tiles(summary, "all" if worst is None else worst.name)),
    )


def judge(value: float, asked: float, interval: dict[str, Any], *, at_least: bool) -> Verdict:
    """Compare a figure with what is asked; where an interval is given, all of it has to be on one side.

    What an overloaded system still met would be missed in a longer run; its interval is refused for that reason.
    """
    met = value >= asked if at_least else value <= asked
    if "low" not in interval:
        if met and interval.get("reason", "").startswith(_OVERLOADED):
            return "overloaded"
        return "met here" if met else "missed here"
    low, high = interval["low"], interval["high"]
    if (low >= asked) if at_least else (high <= asked):
        return "met"
    return "missed" if ((high < asked) if at_least else (low > asked)) else "unclear"


def _judged(summary: dict[str, Any], classes: dict[str, Any]) -> Iterator[Judged]:
    intervals = summary["intervals"]["classes"]
    for name, spec in classes.items():
        slo, found, around = spec.get("slo") or {}, summary["classes"][name], intervals.get(name, {})
        asked, attained = slo.get("attainment"), found["slo_attainment"]
        if asked is not None and attained is not None:
            interval = around.get("slo_attainment", {})
            limits = [f"{title} at most {seconds(slo[kind])}" for kind, title in _LIMITS.items() if kind in slo]
            told = f"{name}: {percent(attained)} of requests had {listed(limits)}, {100 * asked:g} % asked for"
            verdict = judge(attained, asked, interval, at_least=True)
            yield Judged(name, verdict, told + _interval_words(interval, percent))
        if slo.get("itl_s") is not None and found["itl_s"]["p99"] is not None:
            value, interval = found["itl_s"]["p99"], around.get("itl_s", {}).get("p99", {})
            told = f"{name}: p99 of ITL {seconds(value)}, at most {seconds(slo['itl_s'])} asked for"
            verdict = judge(value, slo["itl_s"], interval, at_least=False)
            yield Judged(name, verdict, told + _interval_words(interval, seconds))


def _interval_words(interval: dict[str, Any], words: Callable[[float | None], str]) -> str:
    if "low" in interval:
        return f" (95 % interval {words(interval['low'])} to {words(interval['high'])})"
    return f" (no interval: {interval['reason']})" if "reason" in interval else ""


def _unasked(summary: dict[str, Any]) -> list[str]:
    every = summary["classes"]["all"]
    lines = ["The scenario's classes have no slo.attainment, so there is nothing to meet or miss."]
    if every["slo_attainment"] is not None:
        lines.append(f"{percent(every['slo_attainment'])} of requests met all of their thresholds.")
    return lines


def _sure(summary: dict[str, Any]) -> list[str]:
    """Return what the numbers rest on: chance, the calibration's own error, and what was never checked."""
    intervals = summary["intervals"]
    number_ = intervals["replications"]
    runs = "one run; `--replications` says more" if number_ == 1 else f"{number_} independent replications"
    words = calibration_words(intervals.get("calibration"))
    return [f"Chance: 95 % intervals of {runs}.", f"Model: {words}.", *(f"{s}." for s in validation_lines(summary))]


def _limits(summary: dict[str, Any]) -> list[str]:
    """Return the bottlenecks, and what the slowest requests and the pools spent their time at."""
    why = summary["why"]
    named: dict[str, list[str]] = {}
    for key, title in (("p99_ttft", "p99 TTFT"), ("p99_e2e", "p99 E2E")):
        if why.get(key) is not None:
            bottleneck = why[key]["bottleneck"]
            named.setdefault(BOTTLENECK_WORDS.get(bottleneck, bottleneck), []).append(title)
    if not named:
        return cause_sentences(why)
    whose = " of all classes" if len(summary["classes"]) > 2 else ""
    whose += " in replication 0" if summary["intervals"]["replications"] > 1 else ""
    # The last of the sentences names the bottlenecks: here they come first.
    return [*(f"{listed(titles)}{whose}: {words}." for words, titles in named.items()), *cause_sentences(why)[:-1]]


def _helps(why: dict[str, Any]) -> list[str]:
    if "changes" in why:
        return best_changes(why["changes"])
    return ["Not tried: `servesim run SCENARIO --why -o DIR` runs the scenario again with one change at a time."]


def _tiles(summary: dict[str, Any], worst: str) -> Iterator[Tile]:
    """Yield the figures: latencies of the class that decides the answer, all else of the whole."""
    slowest, around_slowest = summary["classes"][worst], summary["intervals"]["classes"].get(worst, {})
    whose = f", {worst}" if worst != "all" and len(summary["classes"]) > 2 else ""
    every, around = summary["classes"]["all"], summary["intervals"]["classes"]["all"]

    def note(interval: dict[str, Any], words: Callable[[float | None], str]) -> str:
        return f"{words(interval['low'])} to {words(interval['high'])}" if "low" in interval else "no interval"

    for title, key in (("goodput", "goodput_rps"), ("throughput", "request_throughput_rps")):
        if every[key] is not None:
            yield Tile(title, f"{number(every[key])} requests/s", note(around.get(key, {}), number))
            break
    for kind, title in _LIMITS.items():
        if slowest[kind]["p99"] is not None and kind != "tpot_s":
            interval = around_slowest.get(kind, {}).get("p99", {})
            yield Tile(f"p99 {title}{whose}", seconds(slowest[kind]["p99"]), note(interval, seconds))
    costs = [pool["cost_usd_per_hour"] for pool in summary["pools"].values()]
    gpus = sum(pool["gpus"] for pool in summary["pools"].values())
    if costs and None not in costs:
        yield Tile("cost", f"${sum(costs):,.2f} per hour", f"{gpus} GPU{'s' if gpus != 1 else ''}")
    else:
        yield Tile("size", f"{gpus} GPU{'s' if gpus != 1 else ''}", "no price given")
