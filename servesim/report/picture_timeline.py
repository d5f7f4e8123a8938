"""What happened over time: requests waiting and running, KV usage and batch size of every pool."""

from __future__ import annotations

from math import isinf
from typing import TYPE_CHECKING, Any

import numpy as np

from servesim.metrics.definitions import Floats
from servesim.metrics.overload import overloads
from servesim.metrics.record import PoolRecord, RunRecord
from servesim.metrics.timeseries import timeseries
from servesim.report.numbers import seconds, whole_percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_POOLS = 8
_FINE, _COARSE = 600, 120
_UNITS = ((7200.0, 3600.0, "h"), (300.0, 60.0, "min"), (0.0, 1.0, "s"))


def timeline(figure: Figure, record: RunRecord, summary: dict[str, Any]) -> bool:
    """Draw a row of three panels for each pool (the busiest eight); False if nothing ran.

    Lines are means over about a hundredth of the run, bands the lowest and highest of five shorter means within.
    """
    if record.end_s <= 0 or not any(len(replica.runs) for pool in record.pools for replica in pool.replicas):
        return False
    table = timeseries(record, record.end_s / _FINE)
    busiest = sorted(record.pools, key=lambda pool: -(summary["pools"][pool.name]["utilisation"] or 0.0))[:MOST_POOLS]
    pools = [pool for pool in record.pools if pool in busiest]
    figure.set_size_inches(11, 0.5 + 2.7 * len(pools))
    rows = figure.subplots(len(pools), 3, sharex=True, squeeze=False)
    _, per_unit_s, unit = next(entry for entry in _UNITS if record.end_s >= entry[0])
    overloaded = {found.pool for found in overloads(record)}
    for panels, pool in zip(rows, pools, strict=True):
        ours = table["pool"] == pool.name
        columns = {name: values[ours] for name, values in table.items() if name != "pool"}
        title = _queue_title(columns, pool.name in overloaded)
        panels[0].set_title(f"{pool.name}: {title}" if len(record.pools) > 1 else title.capitalize())
        most = summary["pools"][pool.name]["kv_usage"]["max"]
        panels[1].set_title("KV cache: unlimited" if most is None else f"KV cache: at most {whole_percent(most)} used")
        _pool(panels, pool, columns, per_unit_s)
    for panel in rows[-1]:
        panel.set_xlabel(f"simulated time ({unit})")
    short_s = record.end_s / _FINE
    note = f"lines: means over {seconds(short_s * _FINE / _COARSE)}; bands: range of means over {seconds(short_s)}"
    figure.supxlabel(note, fontsize=8, color="0.3")
    return True


def _pool(panels: Any, pool: PoolRecord, columns: dict[str, Floats], per_unit_s: float) -> None:
    requests, cache, batch = panels
    replicas = len(pool.replicas)
    time = _grouped(columns["time_s"])[:, 0] / per_unit_s
    waiting, running = _grouped(columns["waiting"]), _grouped(columns["running"])
    _band(requests, time, running, "running", "tab:blue", "--")
    _band(requests, time, waiting, "waiting", "black", "-")
    requests.set_ylabel("requests")
    requests.set_ylim(0, 1.25 * max(float(running.max()), float(waiting.max()), 1.0))
    requests.legend(loc="upper left", ncols=2)
    usage = 100 * _grouped(columns["kv_usage"])
    _band(cache, time, usage, "", "black", "-")
    cache.axhline(100, color="0.35", linewidth=1.2, linestyle=(0, (1, 1)))
    cache.set_ylim(0, 105)
    cache.set_ylabel("KV blocks in use (%)")
    seqs = _grouped(columns["batch_seqs"]) / replicas
    _band(batch, time, seqs, "", "black", "-")
    _batch_frame(batch, pool, seqs)


def _batch_frame(batch: Axes, pool: PoolRecord, seqs: Floats) -> None:
    limit, top = pool.replicas[0].max_num_seqs, float(seqs.max())
    each = " per replica" if len(pool.replicas) > 1 else ""
    batch.set_ylabel(f"sequences in the batch{each}")
    if top >= 0.5 * limit:
        batch.axhline(limit, color="0.35", linewidth=1.2, linestyle=(0, (1, 1)))
        batch.annotate(
            f"max_num_seqs {limit:,}", (0.99, limit), (0, 2), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="right", va="bottom", fontsize=8,
        )  # fmt: skip
    batch.set_ylim(0, 1.15 * max(limit if top >= 0.5 * limit else top, 1.0))
    limited = "no limit" if isinf(limit) else f"limit {limit:,}"
    batch.set_title(f"Batch: {_count(float(seqs.mean()))} sequences on average, {limited}")


def _grouped(values: Floats) -> Floats:
    """Return the fine bins as rows of groups, shape (groups, fine bins in each); the last ones are padded."""
    size = max(1, len(values) // _COARSE)
    padded = np.append(values, np.repeat(values[-1:], -len(values) % size))
    return padded.reshape(-1, size)


def _band(panel: Axes, time: Floats, groups: Floats, label: str, color: str, linestyle: str) -> None:
    panel.fill_between(time, groups.min(axis=1), groups.max(axis=1), color=color, alpha=0.18, linewidth=0)
    panel.plot(time, groups.mean(axis=1), color=color, linestyle=linestyle, linewidth=1.3, label=label)
    panel.set_xlim(float(time[0]), float(time[-1]))


def _queue_title(columns: dict[str, Floats], overloaded: bool) -> str:
    """Say how many wait and run, or that there is no end to it."""
    if overloaded:
        return "overloaded, more and more requests are inside"
    waiting, running = (float(columns[name].mean()) for name in ("waiting", "running"))
    return f"on average {_count(waiting)} wait, {_count(running)} run"


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
