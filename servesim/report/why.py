"""Words for the figures under "why": what makes the slowest requests slow, at which limit, and what would help."""

from __future__ import annotations

from typing import Any

from servesim.report.grids import LEAST_EFFECT, PARTS, has_effect, short_setting
from servesim.report.numbers import change, listed, number, percent, seconds, whole_percent

_LATENCIES = {"p99_ttft": "TTFT", "p99_e2e": "E2E"}
PART_WORDS = {
    "network_s": "network",
    "retry_s": "earlier attempts and the waits after them",
    "admission_s": "admission before the queue",
    "queue_s": "waiting in the queue",
    "formation_s": "waiting for its batch to form",
    "own_compute_s": "its own computation",
    "interference_s": "interference from others in the batch",
    "preemption_s": "preemption",
    "host_s": "the device waiting for the host",
}
QUEUE_WORDS = {
    "max_num_batched_tokens": "for room in the token budget (max_num_batched_tokens)",
    "max_num_seqs": "for one of max_num_seqs places",
    "num_gpu_blocks": "for free KV blocks",
    "iteration_under_way": "for the iteration under way to end",
    "servers": "for an instance to be free",
}
STATE_WORDS = {
    "max_num_batched_tokens": "with a full token budget (max_num_batched_tokens)",
    "max_num_seqs": "at max_num_seqs",
    "num_gpu_blocks": "short of KV blocks",
    "host": "held up by the host",
    "compute": "computing below every limit",
    "servers": "with every instance busy",
    "some_servers": "with some instances busy",
    "idle": "idle",
}
BOTTLENECK_WORDS = {
    "network": "the network",
    "retries": "attempts that failed",
    "admission": "admission before the queue",
    "compute": "compute",
    "max_num_batched_tokens": "the token budget (max_num_batched_tokens)",
    "max_num_seqs": "max_num_seqs",
    "num_gpu_blocks": "KV blocks",
    "host": "the host",
    "servers": "instances, all of them busy",
    "batch_formation": "waiting for batches to form",
}
_MEASURES = {"p99_ttft_s": ("p99 TTFT", -1), "p99_e2e_s": ("p99 E2E", -1), "goodput_rps": ("goodput", 1)}
_WORTH_SAYING = 0.05
_LEAST_NOISE = 0.0005


def with_words(summary: dict[str, Any], changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the summary with `why.words` (sentences) and, if changes were tried, `why.changes` (their figures)."""
    why = {**summary["why"]}
    words = cause_sentences(why)
    if changes is not None:
        why["changes"] = changes
        words += change_sentences(changes)
    return {**summary, "why": {**why, "words": words}}


def cause_sentences(why: dict[str, Any]) -> list[str]:
    """Return what p99 TTFT and p99 E2E are made of, which limits the pools were at, and the bottlenecks."""
    known = {title: why[name] for name, title in _LATENCIES.items() if why[name] is not None}
    if not known:
        return ["No request completed, so there is no latency to explain."]
    told = [sentence for title, one in known.items() for sentence in _made_of(title, one)]
    sentences = list(dict.fromkeys(told))  # of one overloaded queue, both latencies say the same
    sentences += [_at_limits(pool, shares) for pool, shares in why["time_at_limit"].items()]
    bottlenecks = {title: BOTTLENECK_WORDS[one["bottleneck"]] for title, one in known.items()}
    if len(set(bottlenecks.values())) == 1:
        sentences.append(f"Bottleneck of {' and '.join(f'p99 {t}' for t in bottlenecks)}: {bottlenecks.popitem()[1]}.")
    else:
        sentences.append(f"Bottleneck {', '.join(f'of p99 {title}: {name}' for title, name in bottlenecks.items())}.")
    return sentences


def _made_of(title: str, one: dict[str, Any]) -> list[str]:
    """Return a sentence on the parts of a latency, and one on its queue where that matters."""
    parts, total = one["parts_s"], sum(one["parts_s"].values())
    if total <= 0:
        return []
    shares = sorted(((parts[key] / total, PART_WORDS[key]) for key in PARTS), reverse=True)
    named = [f"{whole_percent(share)} is {words}" for share, words in shares if share >= _WORTH_SAYING]
    sentences = [f"p99 {title} ({seconds(one['value_s'])}): {listed(named)}."]
    queue = one["queue_s"]
    waited = sum(queue.values())
    if waited > 0 and parts["queue_s"] / total >= 2 * _WORTH_SAYING:
        reasons = sorted(((seconds_ / waited, QUEUE_WORDS[name]) for name, seconds_ in queue.items()), reverse=True)
        named = [f"{whole_percent(share)} is {words}" for share, words in reasons if share >= _WORTH_SAYING]
        sentences.append(f"Of that queueing, {listed(named)}.")
    return sentences


def _at_limits(pool: str, shares: dict[str, float]) -> str:
    ordered = sorted(((share, STATE_WORDS[name]) for name, share in shares.items()), reverse=True)
    named = [f"{whole_percent(share)} {words}" for share, words in ordered if share >= 0.005]
    return f"Pool {pool} spent its time: {listed(named)}."


def change_sentences(changes: dict[str, Any]) -> list[str]:
    """Return which of the changes tried helped most, each measure with its figures, and how the runs were made."""
    sentences = best_changes(changes)
    runs = f"the whole workload, {changes['requests']:,} requests" if changes["whole_workload"] else ""
    runs = runs or f"the first {changes['requests']:,} requests of the workload"
    sentences.append(f"Verified by running {runs}, again under the same seed with one change at a time.")
    noise = [
        f"{title} by {percent(abs(moved))}"
        for name, (title, _) in _MEASURES.items()
        if (moved := changes["other_seed"][f"{name}_change"]) and abs(moved) >= _LEAST_NOISE
    ]
    if noise:
        sentences.append(f"Another seed alone changes {listed(noise)}: smaller changes say little.")
    idle = [short_setting(one["set"], changes) for one in changes["tried"] if not has_effect(one)]
    if idle:
        sentences.append(f"Less than 1 % from {listed(idle)}.")
    sentences += [f"Not tried: {short_setting(one['set'], changes)} ({one['reason']})." for one in changes["skipped"]]
    return sentences


def best_changes(changes: dict[str, Any]) -> list[str]:
    """Return for each measure which of the changes tried helped it most, with the figures."""
    return [sentence for name in _MEASURES if (sentence := _best(changes, name))]


def _best(changes: dict[str, Any], measure: str) -> str:
    """Say what improves a measure most, and, if that takes more GPUs, what does so without."""
    title, sign = _MEASURES[measure]
    key = f"{measure}_change"
    ranked = sorted((one for one in changes["tried"] if one[key] is not None), key=lambda one: -sign * one[key])
    helpful = [one for one in ranked if sign * one[key] >= LEAST_EFFECT]
    if not ranked:
        return ""
    if not helpful:
        return f"Nothing tried improves {title} by 1 % or more."
    text = number if measure == "goodput_rps" else seconds
    base = changes["base"]

    def told(one: dict[str, Any]) -> str:
        figures = f"{text(base[measure])} -> {text(one[measure])}, {change(one[key])}"
        noise = abs(changes["other_seed"][key] or 0.0)
        return f"{short_setting(one['set'], changes)} ({figures}{', within chance' if abs(one[key]) <= noise else ''})"

    best = helpful[0]
    sentence = f"{title} improves most with {told(best)}"
    if best["gpus"] > base["gpus"]:
        cheap = next((one for one in helpful if one["gpus"] <= base["gpus"]), None)
        sentence += f"; without more GPUs with {told(cheap)}" if cheap else "; without more GPUs by less than 1 %"
    return sentence + "."
