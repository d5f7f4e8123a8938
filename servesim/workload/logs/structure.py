"""Conversations and shared prefixes of a log, in figures that a model of them can be built from.

Everything is a count or a table of quantiles, so it can be shared like a fit: no identifier and no request of the log
is in it. docs/logs.md says what each key means.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from servesim.workload.base import FloatArray, IntArray
from servesim.workload.logs.read import Log
from servesim.workload.logs.rows import LogRows

SCHEMA_VERSION = 1
_PROBABILITIES = (0.0, 0.01, 0.05, *(n / 10 for n in range(1, 10)), 0.95, 0.99, 1.0)
_CHUNK = 2048
_MAX_CAPACITIES = 24
_MIN_VALUES = 50  # of fewer, a table of quantiles would be the values themselves


def structure_of(log: Log) -> dict[str, Any]:
    """Return the side file of a fit: what conversations and shared prefixes of the log its workload does not have."""
    return {
        "schema_version": SCHEMA_VERSION,
        "format": log.format,
        "requests": len(log.rows.line),
        "sessions": sessions(log.rows),
        "prefixes": prefixes(log.rows, log.layout.prefix_block_tokens) if log.layout is not None else None,
    }


def sessions(rows: LogRows) -> dict[str, Any] | None:
    """Return how requests group into conversations, or None where the log does not say.

    Rows without a session are left out. Gaps are from a turn's arrival to the next one's, answer and thinking included.
    """
    turns: dict[Any, list[int]] = {}
    for place, value in enumerate(rows.session or ()):
        if value not in (None, ""):
            turns.setdefault(value, []).append(place)
    if not turns:
        return None
    counts = np.array([len(places) for places in turns.values()])
    before = np.array([place for places in turns.values() for place in places[:-1]], dtype=np.int64)
    after = np.array([place for places in turns.values() for place in places[1:]], dtype=np.int64)
    growth = rows.prompt_tokens[after] - rows.prompt_tokens[before] - rows.output_tokens[before]
    return {
        "sessions": len(counts),
        "requests_in_sessions": int(counts.sum()),
        "mean_turns": float(counts.mean()),
        "max_turns": int(counts.max()),
        "turns": quantile_table(counts),
        "gap_between_turns_s": quantile_table(rows.time_s[after] - rows.time_s[before]),
        "new_prompt_tokens_per_turn": quantile_table(growth),
    }


def prefixes(rows: LogRows, block_tokens: int) -> dict[str, Any] | None:
    """Return what a prefix cache would find, or None where the log has no block identifiers.

    A block counts as reused where it and all before it in its prompt were in earlier prompts: an upper bound, which a
    cache that never evicts reaches. The reuse distance is the number of distinct blocks used since its last use: a
    cache of more blocks, evicting the least recently used, still has it (Mattson et al., "Evaluation techniques for
    storage hierarchies", IBM Systems Journal 9(2), 1970).
    """
    if rows.prefix is None:
        return None
    last: dict[Any, int] = {}
    previous, reused, leading, gaps_s = [], [], [], []
    last_s: dict[Any, float] = {}
    for ids, time_s in zip(rows.prefix, rows.time_s.tolist(), strict=True):
        own = list(ids or ())
        hit = next((place for place, block in enumerate(own) if block not in last), len(own))
        leading.append(hit)
        gaps_s += [time_s - last_s[block] for block in own[:hit]]
        for place, block in enumerate(own):
            previous.append(last.get(block, -1))
            reused.append(place < hit)
            last[block] = len(previous) - 1
            last_s[block] = time_s
    hits = np.array(leading, dtype=np.int64)
    distance = reuse_distances(np.array(previous, dtype=np.int64))[np.array(reused, dtype=bool)]
    tokens = np.minimum(hits * block_tokens, rows.prompt_tokens)
    return {
        "block_tokens": block_tokens,
        "blocks": len(previous),
        "distinct_blocks": len(last),
        "reusable_share_of_prompt_tokens": float(tokens.sum() / max(1, rows.prompt_tokens.sum())),
        "requests_with_reuse": float(np.mean(hits > 0)),
        "reused_blocks_per_request": quantile_table(hits),
        "reuse_distance_blocks": quantile_table(distance),
        "reuse_gap_s": quantile_table(np.array(gaps_s)),
        "hit_share_by_cache_blocks": _hit_shares(distance, len(previous), len(last)),
    }


def reuse_distances(previous: IntArray) -> IntArray:
    """Return for every use of a block how many distinct others were used since its last use, -1 at its first.

    `previous` holds the position of the block's last use, -1 for none, shape (n,). Of the uses before i, those whose
    own last use is not after previous[i] are the first within (previous[i], i) of their block, or before it; the latter
    are all uses up to previous[i]. So the distance is a rank, counted here chunk by chunk.
    """
    distance = np.full(len(previous), -1, dtype=np.int64)
    earlier = np.empty(0, dtype=np.int64)
    for start in range(0, len(previous), _CHUNK):
        chunk = previous[start : start + _CHUNK]
        rank = np.searchsorted(earlier, chunk, side="right")
        rank += np.tril(chunk[None, :] <= chunk[:, None], -1).sum(axis=1)
        distance[start : start + _CHUNK] = np.where(chunk >= 0, rank - chunk - 1, -1)
        earlier = np.sort(np.concatenate((earlier, chunk)), kind="stable")
    return distance


def _hit_shares(distance: IntArray, blocks: int, distinct: int) -> list[list[float]]:
    """Return points [blocks of the cache, share of all prompt blocks found in it], doubling up to all distinct ones."""
    ordered = np.sort(distance)
    sizes = [min(2**power, distinct) for power in range(_MAX_CAPACITIES + 1) if 2 ** (power - 1) < distinct]
    return [[size, round(float(np.searchsorted(ordered, size)) / max(1, blocks), 4)] for size in sizes]


def quantile_table(values: IntArray | FloatArray) -> list[list[float]] | None:
    """Return points [value, P(at most value)], at most 15 of them; None for fewer than 50 values."""
    if len(values) < _MIN_VALUES:
        return None
    found = np.quantile(values, _PROBABILITIES, method="inverted_cdf")
    points: dict[float, float] = {}
    for value, probability in zip(found.tolist(), _PROBABILITIES, strict=True):
        points[float(f"{value:.4g}")] = probability
    return [[value, probability] for value, probability in points.items()]
