"""Descriptions and checks as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_BARS = " ▁▂▃▄▅▆▇█"
_WIDTH = 80


def description_lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a description."""
    lost = f", {found['without_output']} of them without output" if found["without_output"] else ""
    yield f"{found['path']}: format {found['format']}, {found['requests']} requests{lost}"
    yield from _fault_lines(found["faults"])
    if found["arrivals"] is None:
        yield "arrivals: the format has no times"
    else:
        yield from _arrival_lines(found["arrivals"])
    if found["lengths"] is not None:
        yield from _length_lines(found["lengths"])
    if sessions := found["sessions"]:
        yield (
            f"sessions: {sessions['sessions']} with {sessions['requests_in_sessions']} requests, "
            f"{sessions['mean_turns']:.2f} each on average, at most {sessions['max_turns']}"
        )
        yield from _table_line("  from turn to turn, s", sessions["gap_between_turns_s"])
    if prefixes := found["prefixes"]:
        blocks = f"{prefixes['distinct_blocks']} distinct blocks of {prefixes['block_tokens']}"
        yield (
            f"shared prefixes: {100 * prefixes['reusable_share_of_prompt_tokens']:.1f} % of the prompt tokens repeat "
            f"an earlier prompt's beginning ({blocks})"
        )
        yield from _table_line("  reuse distance, distinct blocks", prefixes["reuse_distance_blocks"])


def _table_line(name: str, table: list[list[float]] | None) -> Iterator[str]:
    """Yield the quantiles at some probabilities of a table [value, P(at most value)]."""
    if table is not None:
        at = ((p, next(value for value, reached in table if reached >= p)) for p in (0.1, 0.5, 0.9, 0.99))
        yield name + ": " + ", ".join(f"p{100 * p:g} {value:g}" for p, value in at)


def _fault_lines(faults: dict[str, Any]) -> Iterator[str]:
    if faults["faulty_rows"]:
        yield f"faults: {faults['faulty_rows']} faulty rows left out; the first:"
        yield from (f"  {message}" for message in faults["first"])
    if faults["out_of_order"]:
        yield f"faults: {faults['out_of_order']} rows before the row above in time; sorted"
    yield from (f"note: {note}" for note in faults["notes"])


def _arrival_lines(arrivals: dict[str, Any]) -> Iterator[str]:
    if arrivals["rate_rps"] is None:
        yield f"arrivals: span {arrivals['span_s']:.6g} s"
        return
    yield f"arrivals: {arrivals['rate_rps']:.4g} requests/s over {arrivals['span_s']:.6g} s"
    yield (
        f"  gaps: squared coefficient of variation {arrivals['gap_scv']:.3f}; "
        f"{100 * arrivals['simultaneous']:.1f} % come together with the one before"
    )
    if arrivals["tick_s"]:
        yield f"  times lie on multiples of {arrivals['tick_s']:g} s"
    if arrivals["windows"]:
        yield f"  {'window':>8} {'burstiness':>11} {'dispersion':>11} {'expected':>9} {'peak/mean':>10}  constant rate"
    for row in arrivals["windows"]:
        verdict = "rejected" if row["constant_rate_p"] < 0.01 else "not rejected"
        yield (
            f"  {row['window_s']:>6g} s {row['burstiness']:>11.3f} {row['count_dispersion']:>11.2f} "
            f"{row['expected_dispersion']:>9.2f} {row['peak_to_mean']:>10.2f}  {verdict}"
        )
    yield from curve_lines("  rate", arrivals["rate_curve"])


def curve_lines(name: str, curve: dict[str, Any]) -> Iterator[str]:
    """Yield a rate curve as bars, neighbouring windows averaged where there are many."""
    rates = curve["rates_rps"]
    group = -(-len(rates) // _WIDTH)
    means = [sum(rates[at : at + group]) / len(rates[at : at + group]) for at in range(0, len(rates), group)]
    top = max(means) or 1.0
    bars = "".join(_BARS[round(mean / top * (len(_BARS) - 1))] for mean in means)
    yield f"{name} per {curve['window_s'] * group:g} s, up to {top:.4g}/s: {bars}"


def _length_lines(lengths: dict[str, Any]) -> Iterator[str]:
    columns = list(lengths["prompt_tokens"])
    yield "lengths:" + " " * 8 + "".join(f"{name:>9}" for name in columns)
    for name in ("prompt_tokens", "output_tokens"):
        yield f"  {name:<14}" + "".join(f"{lengths[name][column]:>9.6g}" for column in columns)
    pairs = (("Pearson", "pearson"), ("Spearman", "spearman"), ("Spearman of neighbours", "neighbours_spearman"))
    shown = [f"{label} {lengths[key]:+.3f}" for label, key in pairs if lengths[key] is not None]
    yield "  correlation: " + ", ".join(shown)


def check_lines(check: dict[str, Any]) -> Iterator[str]:
    """Yield the comparison of a fit with its log."""
    yield from curve_lines("log rate", check["rate_curve"]["log"])
    yield from curve_lines("fit rate", check["rate_curve"]["fit"])
    variance = check["variance_ratio"]
    yield "variance per window, fit / log" + "".join(f"{scale:>9.3g} s" for scale in variance["scales_s"])
    for name in ("requests", "prompt_tokens", "output_tokens", "squared_prompt_tokens"):
        yield f"  {name:<28}" + "".join(f"{ratio:>11.2f}" for ratio in variance[name])
    yield "not kept: " + ("; ".join(check["not_kept"]) or "nothing that these checks see")
