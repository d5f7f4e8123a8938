"""Bars of shares that sum to one: what latencies are made of, and what pools spent their time at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from servesim.report.grids import PARTS
from servesim.report.numbers import percent, seconds
from servesim.report.why import PART_WORDS, QUEUE_WORDS, STATE_WORDS

_LATENCIES = {"ttft_s": "TTFT", "e2e_s": "E2E"}
_QUEUE_COLORS = ("max_num_batched_tokens", "max_num_seqs", "num_gpu_blocks", "iteration_under_way", "servers")
_STATE_COLORS = ("compute", "max_num_batched_tokens", "max_num_seqs", "num_gpu_blocks", "host", "servers",
                 "some_servers", "idle")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Segment:
    """A share of a bar, with its name and figure; `color` counts from 0, the same for the same name."""

    label: str
    share: float
    tip: str
    color: int


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar with its name, what it sums to, and its segments, largest meaning first."""

    title: str
    total: str
    segments: tuple[Segment, ...]


def split_bars(split: dict[str, Any]) -> list[Bar]:
    """Return the parts of mean and slowest TTFT and E2E, from `split` of a class; those without a request left out."""
    tail = split["p99_tail"]
    bars = []
    for key, title in _LATENCIES.items():
        bars.append(_parts(f"Mean {title}", split[key]))
        bars.append(_parts(f"Slowest 1 % by {title}", tail[key]))
    return [bar for bar in bars if bar.segments]


def _parts(title: str, parts: dict[str, float | None]) -> Bar:
    known = {name: max(parts.get(name) or 0.0, 0.0) for name in PARTS}  # below zero only by odd service times
    return _bar(title, known, {name: PARTS[name] for name in PARTS}, tuple(PARTS), PART_WORDS)


def queue_bars(why: dict[str, Any]) -> list[Bar]:
    """Return what the slowest requests' queueing was for, of TTFT and E2E; none where nothing queued."""
    bars = []
    for key, title in (("p99_ttft", "TTFT"), ("p99_e2e", "E2E")):
        one = why.get(key)
        if one is not None:
            words = {name: QUEUE_WORDS.get(name, name) for name in one["queue_s"]}
            bars.append(_bar(f"Queueing of the slowest 1 % by {title}", one["queue_s"], words, _QUEUE_COLORS, words))
    return [bar for bar in bars if bar.segments]


def state_bars(why: dict[str, Any]) -> list[Bar]:
    """Return how each pool's replicas spent their time."""
    bars = []
    for pool, shares in why.get("time_at_limit", {}).items():
        words = {name: STATE_WORDS.get(name, name) for name in shares}
        bar = _bar(f"Pool {pool}", shares, words, _STATE_COLORS, words)
        bars.append(Bar(bar.title, "", bar.segments))
    return [bar for bar in bars if bar.segments]


def _bar(
    title: str, values: dict[str, float], names: dict[str, str], order: tuple[str, ...], tips: dict[str, str]
) -> Bar:
    total = sum(values.values())
    ranked = [*(name for name in order if name in values), *(name for name in values if name not in order)]
    segments = tuple(
        Segment(
            names[name],
            values[name] / total,
            f"{tips[name]}: {percent(values[name] / total)} of {title[0].lower()}{title[1:]}",
            order.index(name) if name in order else len(order),
        )
        for name in ranked
        if total > 0 and values[name] / total >= 0.0005
    )
    return Bar(title, seconds(total), segments)
