"""Charts of what the pools were at over time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from servesim.metrics.definitions import Floats
from servesim.report.page.charts import Axis, Chart, Series, Unit
from servesim.report.page.read import RunFiles

if TYPE_CHECKING:
    import pandas as pd

MOST_LINES = 8
_MOST_POINTS = 240
_UNITS = ((7200.0, 3600.0, "h"), (300.0, 60.0, "min"), (0.0, 1.0, "s"))
_CHARTS: tuple[tuple[str, Unit, str, tuple[str, ...]], ...] = (
    ("Requests waiting and running", "number", "requests", ("waiting", "running")),
    ("Busy", "share", "of the time", ("utilisation",)),
    ("KV blocks in use", "share", "of the blocks", ("kv_usage",)),
    ("Batch, over all replicas", "number", "sequences", ("batch_seqs",)),
    ("Tokens", "number", "tokens/s", ("prefill_tokens_per_s", "output_tokens_per_s")),
    ("Requests arriving and ending", "number", "requests/s", ("arrivals", "completions")),
)
_COUNTS = ("arrivals", "completions")
_WORDS = {"prefill_tokens_per_s": "prompt", "output_tokens_per_s": "output", "completions": "completed"}


def time_axis(times_s: Floats, end_s: float, what: str = "simulated time") -> tuple[Floats, Axis]:
    """Return times in the unit that suits a run of `end_s` seconds, and the axis that says so."""
    _, per_unit_s, unit = next(entry for entry in _UNITS if end_s >= entry[0])
    return times_s / per_unit_s, Axis(f"{what} ({unit})")


def timeline_charts(files: RunFiles) -> Iterator[Chart]:
    """Yield the charts that have something to show; of more pools than can be told apart, the busiest."""
    table, pools = files.timeseries, files.summary["pools"]
    names = sorted(pools, key=lambda name: -(pools[name]["utilisation"] or 0.0))[:MOST_LINES]
    names = [name for name in pools if name in names]
    bins_s = np.unique(table["time_s"].to_numpy(np.float64))
    if len(bins_s) < 2:
        return
    width_s = float(bins_s[1] - bins_s[0])
    size = -(-len(bins_s) // _MOST_POINTS)
    x, axis = time_axis(bins_s[::size], float(bins_s[-1]))
    for title, unit, label, columns in _CHARTS:
        series = tuple(_series(table, names, columns, bins_s, size))
        if any(np.any(one.values > 0) for one in series):
            yield Chart(
                key=f"timeline-{columns[0]}",
                title=title,
                caption=f"Means over {size * width_s:g} s.",
                x=x,
                x_axis=axis,
                y_axis=Axis(label, unit),
                series=series,
                together="time",
            )


def _series(
    table: pd.DataFrame, names: list[str], columns: tuple[str, ...], bins_s: Floats, size: int
) -> Iterator[Series]:
    """Yield a line for each pool and column: means over `size` bins, shape (ceil(len(bins_s) / size),)."""
    width_s = float(bins_s[1] - bins_s[0])
    for place, name in enumerate(names):
        ours = table[table["pool"] == name]
        at = np.searchsorted(bins_s, ours["time_s"].to_numpy(np.float64))
        for nth, column in enumerate(columns):
            values = np.full(len(bins_s), np.nan)
            values[at] = ours[column].to_numpy(np.float64) / (width_s if column in _COUNTS else 1)
            words = [name] if len(names) > 1 or len(columns) == 1 else []
            words += [_WORDS.get(column, column)] if len(columns) > 1 else []
            color = nth if len(names) == 1 else place
            yield Series(" ".join(words), _grouped(values, size), color, dashed=nth > 0)


def _grouped(values: Floats, size: int) -> Floats:
    """Return means over groups of `size` values, what is NaN left out; the last group may be shorter."""
    padded = np.append(values, np.full(-len(values) % size, np.nan)).reshape(-1, size)
    known = ~np.isnan(padded)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, padded, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)
