"""A comparison of two scenarios in words and tables, for a terminal or as Markdown."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape

from servesim.report.grids import PARTS, Grid
from servesim.report.markdown import escaped, markdown_table
from servesim.report.numbers import change, listed, number, percent, seconds
from servesim.report.table import print_paragraph, rich_table

PART_TITLES = {**PARTS, "tail_shape_s": "shape of the tail"}
_SHORT = {"ttft_s": "TTFT", "e2e_s": "E2E"}
_LEAST_SHOWN = 0.005
_LEAST_CAUSE = 0.15
_WHOLE_FROM = 10.0  # ten times as much: tenths of a percent say nothing
_ROUNDING_S = 1e-9  # sums of parts are right to about that


def print_comparison(summary: dict[str, Any], console: Console) -> None:
    """Print what `Comparison.summary` holds."""
    console.print(f"[bold]{escape(comparison_title(summary))}[/bold]", highlight=False)
    for grid in (metrics_grid(summary), why_grid(summary)):
        if grid.rows:
            console.print()
            console.print(rich_table(grid))
    console.print()
    for sentence in why_sentences(summary):
        print_paragraph(console, sentence)
    for sentence in sentences(summary):
        print_paragraph(console, sentence, style="dim")


def comparison_markdown(summary: dict[str, Any]) -> str:
    """Return what `Comparison.summary` holds as GitHub-flavoured Markdown, ending in a line break."""
    parts = [f"### {escaped(comparison_title(summary))}"]
    parts += [markdown_table(grid) for grid in (metrics_grid(summary), why_grid(summary)) if grid.rows]
    parts += ["\n".join(f"- {escaped(sentence)}" for sentence in why_sentences(summary))] if summary["why"] else []
    parts += [f"*{escaped(sentence)}*" for sentence in sentences(summary)]
    return "\n\n".join(parts) + "\n"


def comparison_title(summary: dict[str, Any]) -> str:
    """Return what was compared, and how often."""
    both = summary["a"], summary["b"]
    names = f"{both[0]}: B against A" if both[0] == both[1] else f"{both[1]} (B) against {both[0]} (A)"
    return f"{names}, {summary['replications']} paired replications"


def metrics_grid(summary: dict[str, Any]) -> Grid:
    """Return one row for each metric: both means, the relative change with its interval, the verdict."""
    grid = Grid(("metric", "A", "B", "change", "interval (%)", "verdict"), tight=True)
    for name, one in summary["metrics"].items():
        grid.rows.append(
            (
                name,
                metric_value(name, one["a"]),
                metric_value(name, one["b"]),
                change(one["relative"]),
                "-" if one["low"] is None else f"{_hundredths(one['low'])} to {_hundredths(one['high'])}",
                one["verdict"],
            )
        )
    return grid


def _hundredths(value: float) -> str:
    """Return a relative change in percent, without its unit."""
    return f"{100 * value:+,.0f}" if abs(value) >= _WHOLE_FROM else f"{100 * value:+.1f}"


def why_grid(summary: dict[str, Any]) -> Grid:
    """Return what each part contributes to the change of each latency; parts that are nowhere seen are left out."""
    found = summary["why"]
    heads = [head_title(name) for name in found]
    grid = Grid(("B - A", *heads))
    if not found:
        return grid
    grid.rows.append(("whole change", *(signed(one["change_s"]) for one in found.values())))
    for part, title in PART_TITLES.items():
        cells = [one["parts"].get(part) for one in found.values()]
        if any(cell and _seen(cell["change_s"], one) for cell, one in zip(cells, found.values(), strict=True)):
            grid.rows.append((title, *("" if cell is None else signed(cell["change_s"]) for cell in cells)))
    return grid


def head_title(name: str) -> str:
    """Return what `ttft_s.mean` is called."""
    latency, kind = name.split(".")
    return f"{_SHORT[latency]} {kind}"


def why_sentences(summary: dict[str, Any]) -> list[str]:
    """Return for each latency what its change comes from: the parts that went the same way, those that count.

    What may be chance (its interval holds 0) is not explained.
    """
    return [_why(name, one) for name, one in summary["why"].items()]


def _why(name: str, one: dict[str, Any]) -> str:
    whole = one["change_s"]
    start = f"{head_title(name)} {signed(whole)}"
    if abs(whole) < _ROUNDING_S:
        return f"{head_title(name)}: no change"
    if one["low_s"] <= 0 <= one["high_s"]:
        return f"{start}: may be chance"
    ranked = sorted(one["parts"].items(), key=lambda part: -abs(part[1]["change_s"]))
    same = [(part, found["change_s"]) for part, found in ranked if found["change_s"] * whole > 0]
    against = [(part, found["change_s"]) for part, found in ranked if found["change_s"] * whole < 0]
    causes = [_part(part, value) for part, value in same if abs(value) >= _LEAST_CAUSE * abs(same[0][1])]
    saved = [_part(part, value) for part, value in against if abs(value) >= _LEAST_CAUSE * abs(whole)]
    but = f", though {listed(saved)}" if saved else ""
    return f"{start}: {listed(causes)}{but}"


def _part(part: str, value: float) -> str:
    return f"{PART_TITLES[part]} {signed(value)}"


def _seen(change_s: float, one: dict[str, Any]) -> bool:
    largest = max(abs(part["change_s"]) for part in one["parts"].values())
    return bool(largest > 0 and abs(change_s) >= _LEAST_SHOWN * largest)


def sentences(summary: dict[str, Any]) -> list[str]:
    """Return how the verdicts are to be read, and what disturbs them."""
    level = 1 - summary["confidence"]
    looks = (
        ""
        if summary["looks"] == 1
        else f", divided among up to {summary['looks']} looks at growing numbers of replications"
    )
    shared = summary["classes"]["shared"]
    same = "the r-th of A and of B under the same random numbers" if shared else "of other requests in A and in B"
    lines = [
        f"Means over replications, {same}. "
        f"Intervals: {100 * (1 - level):g} %{looks}. Better and worse: a difference is shown; practically equal: shown "
        f"to be below {percent(summary['margin'])}. Each kind of statement is wrong with at most 5 % in all metrics "
        "together (Holm)."
    ]
    undecided = [name for name, one in summary["metrics"].items() if one["verdict"] == "no difference shown"]
    if undecided:
        lines.append(f"Not decided: {', '.join(undecided)}; more replications (--max-replications) may do it.")
    return lines + [f"WARNING {text}." for text in comparison_warnings(summary)]


def comparison_warnings(summary: dict[str, Any]) -> list[str]:
    """Return what disturbs a comparison: other classes, requests that were not completed, overload."""
    lines, classes = [], summary["classes"]
    alone = [f"{', '.join(classes[side])} only {side.upper()}" for side in ("a", "b") if classes[side]]
    if alone:
        lines.append(f"classes are paired by their names: {' and '.join(alone)} has, with random numbers of its own")
    done = summary["completed"]
    if done["a"] != done["b"]:
        lines.append(
            f"latencies are of completed requests: A completed {percent(done['a'])} of what was offered, "
            f"B {percent(done['b'])}"
        )
    over = (side for side, overloaded in summary["overloaded"].items() if overloaded)
    return [*lines, *(f"{side.upper()} is overloaded: its latencies depend on how long a run lasts" for side in over)]


def metric_value(metric: str, value: float | None) -> str:
    """Return a metric's value as people read it: times with their unit, attainment in percent."""
    if metric.endswith("slo_attainment"):
        return percent(value)
    return number(value) if metric.endswith(("_rps", "_tps")) else seconds(value)


def signed(value_s: float) -> str:
    """Return a change of a time with its sign."""
    return "0" if abs(value_s) < _ROUNDING_S else ("+" if value_s > 0 else "-") + seconds(abs(value_s))
