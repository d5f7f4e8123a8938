"""Listings as text for people: aligned columns that are never cut off."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from servesim.catalog.calibrations import Key

_WIDTH = 110
Row = dict[str, Any]


def columns(rows: Iterable[Sequence[str]], indent: str = "") -> list[str]:
    """Return rows of cells as lines whose columns line up; the last column is wrapped."""
    table = [list(map(str, row)) for row in rows]
    widths = [max(map(len, cells)) for cells in zip(*(row[:-1] for row in table), strict=True)]
    return [line for row in table for line in _wrapped(row, widths, indent)]


def _wrapped(row: Sequence[str], widths: Sequence[int], indent: str) -> list[str]:
    start = indent + "".join(cell.ljust(width + 2) for cell, width in zip(row, widths, strict=False))
    return textwrap.wrap(
        start + row[-1], max(_WIDTH, len(start) + 30), subsequent_indent=" " * len(start), break_on_hyphens=False,
        drop_whitespace=True, break_long_words=False,
    ) or [start.rstrip()]  # fmt: skip


def overview(topics: dict[str, list[Row]]) -> list[str]:
    """Return every kind of every family with its meaning."""
    lines = []
    for topic, rows in topics.items():
        lines += [f"{topic}:", *columns([(row["kind"], row["meaning"]) for row in rows], "  "), ""]
    return lines


def kinds_text(rows: list[Row]) -> list[str]:
    """Return each kind with its meaning and its keys."""
    lines = []
    for row in rows:
        lines += [f"{row['kind']}: {row['meaning']}", *_field_lines(row["fields"]), ""]
    return lines


def _field_lines(fields: list[Row]) -> list[str]:
    if not fields:
        return []
    cells = [(field["name"], _default(field), f"{field['description']} ({field['type']})".strip()) for field in fields]
    return columns(cells, "    ")


def _default(field: Row) -> str:
    if field["required"]:
        return "required"
    default = field.get("default")
    return "= null" if default is None else f"= {str(default).lower() if isinstance(default, bool) else default}"


def gpus_text(rows: list[Row]) -> list[str]:
    """Return memory, speed and price of each GPU."""
    head = ("gpu", "memory", "bandwidth", "bf16", "fp8", "fp4", "USD/h", "also called")
    return columns([head, *(_gpu_cells(row) for row in rows)])


def _gpu_cells(row: Row) -> tuple[str, ...]:
    speeds = [_tera(row[name]) for name in ("bf16_flops", "fp8_flops", "fp4_flops")]
    price = "-" if row["usd_per_hour"] is None else f"{row['usd_per_hour']:.2f}"
    memory = f"{row['memory_bytes'] / 2**30:.1f} GiB"
    bandwidth = f"{row['memory_bandwidth_bytes_per_s'] / 1e12:.2f} TB/s"
    return (row["name"], memory, bandwidth, *speeds, price, ", ".join(row["aliases"]))


def _tera(value: float | None) -> str:
    return "-" if value is None else f"{value / 1e12:.0f} T"


def models_text(rows: list[Row]) -> list[str]:
    """Return size, KV bytes and context of each model."""
    head = ("model", "parameters", "active", "weights", "KV/token", "context", "also called")
    return columns([head, *(_model_cells(row) for row in rows)])


def _model_cells(row: Row) -> tuple[str, ...]:
    sizes = [f"{row[name] / 1e9:.1f} G" for name in ("parameters", "active_parameters")]
    weights = f"{row['weight_bytes'] / 1e9:.0f} GB {row['native_quantization'] or 'bf16'}"
    kv = f"{row['kv_bytes_per_token'] / 1024:.0f} KiB"
    return (row["name"], *sizes, weights, kv, f"{row['max_context']}", ", ".join(row["aliases"]))


def counts_text(keys: Sequence[Key]) -> list[str]:
    """Return how many calibrations there are for each model and GPU."""
    counts = Counter((key.model, key.gpu) for key in keys)
    gpus = sorted({key.gpu for key in keys})
    rows = [(name, *(str(counts[name, gpu] or "-") for gpu in gpus)) for name in sorted({key.model for key in keys})]
    hint = "Calibrations of each model on each GPU; --gpu or --model shows them with their held-back errors."
    return [hint, "", *columns([("model", *gpus), *rows])]


def matrix_text(rows: list[Row]) -> list[str]:
    """Return held-back errors: a line for each model, GPU, parallelism and precision, a column for each engine."""
    engines = sorted({row["backend"] for row in rows})
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        kv = "" if row["kv_cache_dtype"] == "bf16" else f" kv {row['kv_cache_dtype']}"
        line = (row["model"], row["gpu"], str(row["tensor_parallel_size"]), row["precision"] + kv)
        error = f"{100 * row['held_back_error_median']:.1f} / {100 * row['held_back_error_p90']:.1f}"
        cells.setdefault(line, {})[row["backend"]] = error + "*" * row["faster_than_gpu"]
    head = ("model", "gpu", "TP", "precision", *engines)
    body = [(*line, *(found.get(engine, "-") for engine in engines)) for line, found in cells.items()]
    marked = any(row["faster_than_gpu"] for row in rows)
    note = ["", "* faster than the GPU's memory allows at batch 1: runs refuse it; use roofline"] if marked else []
    return ["Held-back error, median / 90th percentile in percent", "", *columns([head, *body]), *note]


def batch_calibrations_text(rows: list[Row]) -> list[str]:
    """Return range and held-back errors of each calibrated batch time."""
    if not rows:
        return ["No calibrated batch time for this choice."]
    head = ("batch time", "task", "batches", "sizes held back", "error, median / p90 %")
    cells = []
    for row in rows:
        error = f"{100 * row['held_back_error_median']:.1f} / {100 * row['held_back_error_p90']:.1f}"
        cells.append((row["name"], row["task"], f"1 to {row['max_batch_size']}", str(row["held_back_sizes"]), error))
    return columns([head, *cells])
