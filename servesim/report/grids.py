"""The tables of a summary as plain text cells, whatever they are printed on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from servesim.report.numbers import number, percent, seconds, whole_change
from servesim.request import COMPLETED, ENDS, OUTCOMES

PARTS = {
    "network_s": "network",
    "retry_s": "earlier attempts",
    "admission_s": "admission",
    "queue_s": "queue",
    "formation_s": "batch formation",
    "own_compute_s": "own compute",
    "interference_s": "interference",
    "preemption_s": "preemption",
    "host_s": "host",
}
_LATENCIES = {"TTFT": "ttft_s", "TPOT": "tpot_s", "ITL": "itl_s", "E2E": "e2e_s"}
_ALWAYS = ("ttft_s", "e2e_s")
_STATISTICS = ("mean", "p50", "p90", "p95", "p99")
LEAST_EFFECT = 0.01
_LOST = tuple(name for name in ENDS if name != OUTCOMES[COMPLETED])


@dataclass(frozen=True, slots=True)
class Grid:
    """A table: the first column is text, the others numbers. `rows` have as many cells as `headers`.

    `tight` asks for columns close together, where the first one is long.
    """

    headers: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    tight: bool = False


def grids(summary: dict[str, Any]) -> list[Grid]:
    """Return the tables of what `Result.summary` holds: classes, latencies, pools, where the time went."""
    shown = _shown(summary["classes"])
    found = [_classes(shown), _latencies(shown), _pools(summary["pools"]), _split(summary["classes"]["all"]["split"])]
    return [grid for grid in found if grid.rows]


def changes_grid(tried: dict[str, Any]) -> Grid:
    """Return the table of what `--why` tried out: each change that had an effect, with what it did to the measures."""
    base = tried["base"]
    grid = Grid(("one change at a time", "p99 TTFT", "", "p99 E2E", "", "good/s", "", "$/h"), tight=True)
    for one in (base, *(one for one in tried["tried"] if has_effect(one))):
        row = ["as it is" if one is base else short_setting(one["set"], tried)]
        for measure, text in (("p99_ttft_s", seconds), ("p99_e2e_s", seconds), ("goodput_rps", number)):
            row += [text(one[measure]), "" if one is base else whole_change(one[f"{measure}_change"])]
        cost = one["cost_usd_per_hour"]
        grid.rows.append((*row, "-" if cost is None else f"{cost:.2f}"))
    if all(row[5] == "-" for row in grid.rows):
        return _without(grid, (5, 6))
    return grid


def has_effect(one: dict[str, Any]) -> bool:
    """Say whether a change moved any measure by 1 % or more (or from or to nothing)."""
    changes = [one[f"{measure}_change"] for measure in ("p99_ttft_s", "p99_e2e_s", "goodput_rps")]
    known = [abs(change) for change in changes if change is not None]
    return not known or max(known) >= LEAST_EFFECT


def short_setting(setting: str, changes: dict[str, Any]) -> str:
    """Return what `--set` takes without the parts that are clear: `engine`, and the pool where there is one only."""
    pools = {one["pool"] for one in (*changes["tried"], *changes["skipped"])}
    for pool in pools:
        if setting.startswith(f"pools.{pool}."):
            rest = setting.removeprefix(f"pools.{pool}.").removeprefix("engine.")
            return rest if len(pools) == 1 else f"{pool}: {rest}"
    return setting


def _without(grid: Grid, columns: tuple[int, ...]) -> Grid:
    def kept(cells: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(cell for i, cell in enumerate(cells) if i not in columns)

    return Grid(kept(grid.headers), [kept(row) for row in grid.rows], grid.tight)


def _shown(classes: dict[str, Any]) -> dict[str, Any]:
    """Return the classes to show: a single class is the same as all of them."""
    return {name: one for name, one in classes.items() if name != "all" or len(classes) != 2}


def _classes(classes: dict[str, Any]) -> Grid:
    grid = Grid(("class", "offered", "completed", "lost", "attempts", "req/s", "tokens/s", "goodput/s", "SLO met by"))
    for name, one in classes.items():
        met = one["slo_met"]
        verdict = "" if met is None else " (ok)" if met else " (MISSED)"
        grid.rows.append(
            (
                name,
                f"{one['offered']:,}",
                f"{one['completed']:,}",
                f"{sum(one[outcome] for outcome in _LOST):,}",
                f"{one['attempts']:,}",
                number(one["request_throughput_rps"]),
                number(one["output_throughput_tps"]),
                number(one["goodput_rps"]),
                percent(one["slo_attainment"]) + verdict,
            )
        )
    return grid if any(one["retries"] for one in classes.values()) else _without(grid, (4,))


def _latencies(classes: dict[str, Any]) -> Grid:
    grid = Grid(("latency", *_STATISTICS))
    for name, one in classes.items():
        for title, key in _LATENCIES.items():
            label = title if len(classes) == 1 else f"{name} {title}"
            cells = tuple(seconds(one[key][kind]) for kind in _STATISTICS)
            if key in _ALWAYS or any(cell != "-" for cell in cells):
                grid.rows.append((label, *cells))
    return grid


def _pools(pools: dict[str, Any]) -> Grid:
    grid = Grid(("pool", "GPUs", "busy", "batch", "padding", "KV mean", "KV max", "preempted", "$/h", "$/M tokens"))
    for name, pool in pools.items():
        each = pool["gpus"] // pool["replicas"]
        cost = pool["cost_usd_per_hour"]
        grid.rows.append(
            (
                name,
                "-" if not each else f"{pool['gpus']}" if each == 1 else f"{pool['replicas']} x {each}",
                percent(pool["utilisation"]),
                number(pool["mean_batch_size"]),
                percent(pool.get("padding")),
                percent(pool["kv_usage"]["mean"]),
                percent(pool["kv_usage"]["max"]),
                f"{pool['preemptions']:,}",
                "-" if cost is None else f"{cost:,.2f}",
                number(pool["cost_usd_per_million_output_tokens"]),
            )
        )
    # What no pool has is not shown: KV blocks and preemptions of servers that batch whole requests, padding of others.
    no_blocks = all(row[5] == row[6] == "-" and row[7] == "0" for row in grid.rows)
    unpadded = all(row[4] == "-" for row in grid.rows)
    unbatched = all(row[3] == "-" for row in grid.rows)
    return _without(grid, (3,) * unbatched + (4,) * unpadded + (5, 6, 7) * no_blocks)


def _split(split: dict[str, Any]) -> Grid:
    """Return the parts of mean and slowest latencies as percentages; parts that are nowhere seen are left out."""
    grid = Grid(("where the time went", "TTFT", "slowest 1 %", "E2E", "slowest 1 %"))
    tail = split["p99_tail"]
    columns = [_shares(parts) for parts in (split["ttft_s"], tail["ttft_s"], split["e2e_s"], tail["e2e_s"])]
    for key, title in PARTS.items():
        cells = ["-" if shares is None else percent(shares[key]) for shares in columns]
        if any(cell not in ("-", "0.0 %", "-0.0 %") for cell in cells):
            grid.rows.append((title, *cells))
    return grid


def _shares(parts: dict[str, float | None]) -> dict[str, float] | None:
    """Return the parts as fractions of their sum; None where there is none."""
    known = {key: parts[key] or 0.0 for key in PARTS}
    total = sum(known.values())
    return {key: part / total for key, part in known.items()} if total > 0 else None
