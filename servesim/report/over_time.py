"""GPUs over time as a table, sentences and a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from servesim.report.answer import Answer, Part
from servesim.report.grids import Grid
from servesim.report.numbers import number, seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_ROWS = 48


def over_time_answer(found: dict[str, Any]) -> Answer:
    """Return what is needed in each window, and the sums."""
    parts = [Part(grid=totals_grid(found)), Part(sentences=words(found)), Part("Windows", grid=windows_grid(found))]
    return Answer(f"{found['scenario']}: {found['unit']} over time, windows of {seconds(found['window_s'])}", parts)


def totals_grid(found: dict[str, Any]) -> Grid:
    """Return the three ways to provision."""
    unit = found["unit"]
    priced = found["static"]["usd"] is not None
    grid = Grid(("provisioning", unit, f"{unit.removesuffix('s')}-hours", *(("$",) if priced else ())))
    rows = {"static, for the worst window": "static", "static, for the run as a whole": "whole_run",
            "perfect scaling": "perfect"}  # fmt: skip
    for name, key in rows.items():
        one = found[key]
        if one is not None:
            cost = (f"{one['usd']:,.2f}",) if priced else ()
            grid.rows.append((name, number(one["gpus"]), _hours(one), *cost))
    return grid


def _hours(one: dict[str, Any]) -> str:
    low, high = one["gpu_hours_low"], one["gpu_hours_high"]
    return number(one["gpu_hours"]) + ("" if low is None else f" ({number(low)} to {number(high)})")


def windows_grid(found: dict[str, Any]) -> Grid:
    """Return the windows; of very many only every so many."""
    grid = Grid(("from", "requests/s", "replicas", found["unit"]))
    windows = found["windows"]
    every = -(-len(windows) // _MOST_ROWS)
    for one in windows[::every]:
        size = ("-", "-") if one["replicas"] is None else (str(one["replicas"]) + _range(one), str(one["gpus"]))
        grid.rows.append((seconds(one["start_s"]), number(one["rate_rps"]), *size))
    return grid


def _range(one: dict[str, Any]) -> str:
    """Return the numbers of replicas that a tie leaves open."""
    low, high = one["replicas_low"], one["replicas_high"]
    if not one["tie"]:
        return ""
    return f" ({low} or more)" if high is None else f" ({low} to {high})"


def words(found: dict[str, Any]) -> list[str]:
    """Return what the numbers mean."""
    sentences = []
    lost = sum(one["replicas"] is None for one in found["windows"])
    if found["saving_at_most"] is not None:
        sentences.append(
            f"No autoscaler can save more than {100 * found['saving_at_most']:.0f} %{_saving_range(found)} against "
            "static provisioning for the worst window: "
            f"perfect scaling has the fewest {found['unit']} in each window, at once and for nothing."
        )
    if lost:
        sentences.append(f"In {lost} of {len(found['windows'])} windows no number of replicas meets the SLO: left out.")
    if found["whole_run"] is not None and found["whole_run"]["replicas"] < found["static"]["replicas"]:
        sentences.append("With fewer the run as a whole still meets the SLO, its worst windows do not.")
    sentences += _ties(found)
    sentences.append(_runs(found))
    return sentences


def _saving_range(found: dict[str, Any]) -> str:
    if found["saving_low"] is None:
        return ""
    return f" ({100 * found['saving_low']:.0f} to {100 * found['saving_high']:.0f})"


def _ties(found: dict[str, Any]) -> list[str]:
    tied = [one for one in found["windows"] if one["tie"]]
    if not tied:
        return []
    unknown = sum(one["replicas_high"] is None for one in tied)
    few = f"; of {unknown} the requests are too few to tell what surely suffices" if unknown else ""
    return [
        f"TIE: in {len(tied)} of {len(found['windows'])} windows the number cannot be told for sure, each with 95 %; "
        f"what may be enough to what surely is stands in brackets{few}. More runs tell more (--replications)."
    ]


def _runs(found: dict[str, Any]) -> str:
    count, simulations = found["replications"], found["simulations"]
    if found["recorded"]:
        return (
            f"Requests: as recorded; {simulations} simulations. There is no interval, since one recording does not say "
            "how another day would differ."
        )
    if count == 1:
        return f"Requests: one run, which does not say how another would differ; {simulations} simulations."
    return f"Requests: {count} runs; {simulations} simulations; 95 % intervals over the runs in brackets."


def over_time_picture(figure: Figure, found: dict[str, Any]) -> bool:
    """Draw what is needed over what is offered; False where no window can be served."""
    windows = found["windows"]
    if not any(one["gpus"] for one in windows):
        return False
    figure.set_size_inches(8.0, 5.0)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    span_s = windows[-1]["end_s"]
    unit, scale = ("hours", 3600.0) if span_s >= 2 * 3600 else ("minutes", 60.0) if span_s >= 300 else ("seconds", 1.0)
    edges = [one["start_s"] / scale for one in windows] + [span_s / scale]
    needed = [float("nan") if one["gpus"] is None else one["gpus"] for one in windows]
    upper.stairs(needed, edges, fill=True, color="0.8", label="needed in the window: perfect scaling")
    upper.stairs(needed, edges, color="black", linewidth=1.2, baseline=None)
    _band(upper, windows, edges, found["gpus_per_replica"])
    upper.axhline(found["static"]["gpus"], color="C3", linestyle="--", label="static, for the worst window")
    if found["whole_run"] is not None and found["whole_run"]["gpus"] != found["static"]["gpus"]:
        upper.axhline(found["whole_run"]["gpus"], color="C1", linestyle=":", label="static, for the run as a whole")
    upper.axhline(found["perfect"]["gpus"], color="C0", linestyle="-.", label="mean of perfect scaling")
    upper.set_ylim(bottom=0)
    upper.set_ylabel(found["unit"])
    upper.set_title(f"{found['scenario']}: {found['unit']} that meet the SLO in each window")
    lower.stairs([one["rate_rps"] for one in windows], edges, color="0.35", baseline=None)
    lower.set_ylim(bottom=0)
    lower.set_ylabel("requests/s")
    lower.set_xlabel(unit)
    figure.legend(loc="outside lower center", ncols=2)
    return True


def _band(axes: Axes, windows: list[dict[str, Any]], edges: list[float], gpus: int) -> None:
    """Hatch what ties leave open; where nothing is known to suffice, only down from what is needed."""
    open_ = [one for one in windows if one["tie"]]
    if not open_:
        return
    low = [one["replicas_low"] * gpus if one["tie"] else float("nan") for one in windows]
    high = [(one["replicas_high"] or one["replicas"]) * gpus if one["tie"] else float("nan") for one in windows]
    label = "cannot be told for sure (95 %)"
    axes.stairs(high, edges, baseline=low, fill=False, hatch="////", color="0.45", linewidth=0, label=label)
