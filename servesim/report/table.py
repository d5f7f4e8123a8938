"""The summary of a run as tables for a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_LATENCIES = (("TTFT", "ttft_s"), ("TPOT", "tpot_s"), ("ITL", "itl_s"), ("E2E", "e2e_s"))
_PARTS = (
    ("network", "network_s"),
    ("admission", "admission_s"),
    ("queue", "queue_s"),
    ("own compute", "own_compute_s"),
    ("interference", "interference_s"),
    ("preemption", "preemption_s"),
    ("host", "host_s"),
)
_LOST = ("rejected", "timed_out", "cancelled", "failed")


def print_summary(summary: dict[str, Any], console: Console) -> None:
    """Print what `servesim.metrics.summary.summarise` returned; needs 80 columns and no colour."""
    classes = _shown(summary["classes"])
    console.print(f"[bold]{escape(summary['scenario'])}[/bold], seed {summary['seed']}")
    console.print(_class_table(classes))
    console.print(_latency_table(classes))
    console.print(_pool_table(summary["pools"]))
    everything = summary["classes"]["all"]
    for title, key in (("TTFT", "ttft_s"), ("E2E", "e2e_s")):
        if line := _split_line(everything["split"][key]):
            console.print(f"mean {title}: {line}", highlight=False)
    for warning in summary["warnings"]:
        console.print(f"[bold yellow]WARNING[/bold yellow] {escape(warning)}", highlight=False)


def _shown(classes: dict[str, Any]) -> dict[str, Any]:
    """Return the classes to show: a single class is the same as all of them."""
    return {name: one for name, one in classes.items() if name != "all" or len(classes) != 2}


def _table(*headers: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(headers[0], overflow="fold")
    for header in headers[1:]:
        table.add_column(header, justify="right", no_wrap=True)
    return table


def _class_table(classes: dict[str, Any]) -> Table:
    table = _table("class", "offered", "completed", "lost", "req/s", "tokens/s", "goodput/s", "SLO met by")
    for name, one in classes.items():
        met = one["slo_met"]
        verdict = "" if met is None else " (ok)" if met else " (MISSED)"
        table.add_row(
            escape(name),
            f"{one['offered']:,}",
            f"{one['completed']:,}",
            f"{sum(one[outcome] for outcome in _LOST):,}",
            _number(one["request_throughput_rps"]),
            _number(one["output_throughput_tps"]),
            _number(one["goodput_rps"]),
            _percent(one["slo_attainment"]) + verdict,
        )
    return table


def _latency_table(classes: dict[str, Any]) -> Table:
    table = _table("latency", "mean", "p50", "p90", "p95", "p99")
    for name, one in classes.items():
        for title, key in _LATENCIES:
            label = title if len(classes) == 1 else f"{escape(name)} {title}"
            table.add_row(label, *(_seconds(one[key][kind]) for kind in ("mean", "p50", "p90", "p95", "p99")))
    return table


def _pool_table(pools: dict[str, Any]) -> Table:
    table = _table("pool", "GPUs", "busy", "batch", "KV mean", "KV max", "preempted", "$/h", "$/M tokens")
    for name, pool in pools.items():
        gpus = f"{pool['gpus']}" if pool["gpus"] == pool["replicas"] else f"{pool['replicas']} x "
        if pool["gpus"] != pool["replicas"]:
            gpus += f"{pool['gpus'] // pool['replicas']}"
        table.add_row(
            escape(name),
            gpus,
            _percent(pool["utilisation"]),
            _number(pool["mean_batch_size"]),
            _percent(pool["kv_usage"]["mean"]),
            _percent(pool["kv_usage"]["max"]),
            f"{pool['preemptions']:,}",
            _number(pool["cost_usd_per_hour"]),
            _number(pool["cost_usd_per_million_output_tokens"]),
        )
    return table


def _split_line(parts: dict[str, float | None]) -> str:
    """Return the parts of a latency as percentages of it, those that round to nothing left out."""
    known = {title: parts[key] or 0.0 for title, key in _PARTS}
    total = sum(known.values())
    if total <= 0:
        return ""
    shares = {title: 100 * part / total for title, part in known.items()}
    return ", ".join(f"{title} {share:.1f} %" for title, share in shares.items() if abs(share) >= 0.05)


def _seconds(value: float | None) -> str:
    """Return a time as people read it: ms below a second, else s."""
    if value is None:
        return "-"
    if value >= 1:
        return f"{value:,.2f} s"
    return f"{1000 * value:.3g} ms" if value < 0.1 else f"{1000 * value:.0f} ms"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
