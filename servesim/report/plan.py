"""A plan as a table and sentences."""

from __future__ import annotations

from typing import Any

from servesim.report.answer import Answer, Part
from servesim.report.grids import Grid
from servesim.report.numbers import number, percent, whole_percent

_NOTHING = "Nothing in the space surely meets the SLO."


def plan_answer(found: dict[str, Any]) -> Answer:
    """Return the answer of a plan as tables and sentences."""
    ranked = found["ranked"]
    parts = [Part(sentences=[_NOTHING])]
    if ranked:
        parts = [Part(grid=cost_grid(ranked, found["naive"])), Part(grid=room_grid(ranked))]
    parts.append(Part(sentences=words(found)))
    if found["pruned"]:
        fell = [f"{settings_words(one['settings'])}: [{one['rule']}] {one['reason']}" for one in found["pruned"]]
        parts.append(Part("Fell out", sentences=fell))
    if ranked:
        parts += deployment_parts("Deployment of the first", ranked[0]["deployment"])
    return Answer(f"{found['plan']}, scenario {found['scenario']}", [part for part in parts if part != Part()])


def deployment_parts(heading: str, deployment: dict[str, Any] | None) -> list[Part]:
    """Return the command that starts a server, and what it cannot say; nothing for pools without one."""
    if deployment is None:
        return []
    return [
        Part(heading, code=deployment["command"]),
        *([Part(sentences=notes)] if (notes := deployment["notes"]) else []),
    ]


def cost_grid(rows: list[dict[str, Any]], naive: dict[str, Any] | None) -> Grid:
    """Return what the ranked configurations cost and attain, and what each saves against the naive one."""
    priced = rows[0]["usd_per_hour"] is not None
    compared = priced and naive is not None and naive["usd_per_hour"]
    heads = ("configuration", "size", *(("$/h", "$/M") if priced else ()), *(("saves",) if compared else ()))
    grid = Grid((*heads, "good/s", "SLO met by"), tight=True)
    for row in rows:
        cost = (f"{row['usd_per_hour']:,.2f}", number(row["usd_per_million_output_tokens"])) if priced else ()
        saves = (whole_percent(1 - row["usd_per_hour"] / naive["usd_per_hour"]),) if compared and naive else ()
        goodput, attained = number(row["goodput_rps"]), attained_words(row)
        grid.rows.append((settings_words(row["settings"]), size_words(row), *cost, *saves, goodput, attained))
    return grid


def room_grid(rows: list[dict[str, Any]]) -> Grid:
    """Return how many are served at a time, the load at which the SLO breaks, and what the slowest wait for."""
    grid = Grid(("configuration", "inside", "breaks at", "bottleneck"), tight=True)
    for row in rows:
        inside, breaks = number(row["concurrent_requests"]), factor_words(row["headroom"])
        grid.rows.append((settings_words(row["settings"]), inside, breaks, str(row["bottleneck"] or "-")))
    return grid


def settings_words(settings: dict[str, Any]) -> str:
    """Return the choices of a configuration."""
    short = {"tensor_parallel_size": "tp", "gpu": "", "backend": "", "quantization": ""}
    said = [f"{short.get(key, key)} {value}".strip() for key, value in settings.items() if value is not None]
    return ", ".join(said) or "as it is"


def size_words(row: dict[str, Any]) -> str:
    """Return the size, with the GPUs of each replica where there is more than one."""
    size = row.get("replicas", row.get("servers"))
    gpus = row["gpus"]
    return f"{size}" if gpus in (0, size) else f"{size} x {gpus // size}"


def attained_words(row: dict[str, Any]) -> str:
    """Return the attainment of the tightest class, with its interval."""
    shares = [one for one in row["estimates"] if "attainment" in one]
    if not shares:
        return "-"
    worst = min(shares, key=lambda one: one["low"] - one["attainment"])
    return f"{percent(worst['value'])} ({100 * worst['low']:.1f} to {100 * worst['high']:.1f})"


def factor_words(found: dict[str, Any]) -> str:
    """Return the load factor at which the SLO breaks."""
    if found["factor"] is None:
        return f"> x {found['low']:.3g}" if found.get("low") else "-"
    return f"x {found['factor']:.2f}"


def words(found: dict[str, Any]) -> list[str]:
    """Return what the table does not say: how sure it is, ties, what an error of the estimate would change, savings."""
    sentences = []
    runs = found["simulations"]
    ranked = found["ranked"]
    if ranked:
        sentences.append(
            f"With a confidence of {100 * found['confidence']:g} % every decision is right: {runs['decisions']} "
            f"decisions by {runs['search']} simulations ({runs['all']} with headroom, naive choice and error)."
        )
        sentences += _ties(ranked, found["pruned"])
        if not all(row["monotone"] for row in ranked):
            sentences.append("More replicas were seen to do worse than fewer: look at the router.")
        sentences += too_short_words(ranked)
    if found["doubt"] is not None and ranked:
        sentences.append(doubt_words(found["doubt"], ranked[0]))
    if found["naive"] is not None:
        sentences.append(_naive(found["naive"]))
    return sentences


def too_short_words(ranked: list[dict[str, Any]]) -> list[str]:
    """Return a warning for each configuration whose runs flatter it."""
    return [
        f"WARNING: the runs of {settings_words(row['settings'])} end before a backlog would be felt and cannot be made "
        f"longer, so that {size_words(row)} may not be enough."
        for row in ranked
        if row.get("short")
    ]


def _ties(ranked: list[dict[str, Any]], pruned: list[dict[str, Any]]) -> list[str]:
    sentences = []
    best = ranked[0]
    for size in best["ties"]:
        sentences.append(f"TIE: whether {size} of the first are enough could not be told within the budget.")
    for row in ranked[1:]:
        if row["usd_per_hour"] == best["usd_per_hour"] and row["usd_per_hour"] is not None:
            sentences.append(f"TIE: {settings_words(row['settings'])} costs the same as the first.")
    for one in pruned:
        if one["rule"] == "tie":
            sentences.append(f"TIE: {settings_words(one['settings'])}: {one['reason']}.")
    return sentences


def error_words(of: str) -> str:
    """Return which error a decision may hang on."""
    return {
        "estimate": "the estimate of iteration times",
        "validated deployments": "the model's error on the nearest validated deployments",
    }.get(of, "the calibration's error")


def doubt_words(doubt: dict[str, Any], best: dict[str, Any]) -> str:
    """Return whether the size of the first hangs on the error of the iteration times."""
    size = best.get("replicas", best.get("servers"))
    ends = ", ".join(
        f"times x {end['factor']:.3g}: "
        + (end["reason"] if end.get("reason") else f"{end['size']}" if end["size"] else "more than the space has")
        for end in doubt["ends"]
    )
    what = error_words(doubt["of"])
    verdict = "HANGS on" if doubt["hangs_on_it"] else "does not hang on"
    return f"The first needs {size}; this {verdict} {what} ({ends})."


def _naive(naive: dict[str, Any]) -> str:
    cost = "" if naive["usd_per_hour"] is None else f", ${naive['usd_per_hour']:,.2f}/h"
    replicas = "1 replica" if naive["replicas"] == 1 else f"{naive['replicas']} replicas"
    saving = "" if naive["saving"] is None else f"; the first saves {100 * naive['saving']:.0f} %"
    return (
        f"Naive choice: {settings_words(naive['settings'])}, {replicas}{cost} (busiest minute "
        f"{naive['peak_rps']:.3g} requests/s, one replica takes {naive['one_replica_rps']:.3g}){saving}."
    )


def load_words(found: dict[str, Any]) -> list[str]:
    """Return the sentences of `--how-much-load`."""
    load, rate = found["load"], found["offered_rps"]
    if load["factor"] is None:
        return [f"{found['scenario']}: {load['reason']}"]
    sentences = [f"{found['scenario']} meets its SLO up to {load['factor']:.4g} times its load{_interval(load, 1.0)}."]
    if rate is not None and load["factor"]:
        sentences.append(f"That is {load['factor'] * rate:.4g} requests/s{_interval(load, rate)}.")
    if first := load.get("breaks_first"):
        asked = f"{100 * first['attainment']:g} % good" if "attainment" in first else f"p99 gap {first['itl_s']:g} s"
        sentences.append(f"Then class {first['class']} breaks first ({asked}).")
    if load.get("overloaded"):
        sentences.append(
            "Then it is overloaded: ever more requests wait, before any target is missed in a run so long."
        )
    if load.get("short"):
        sentences.append(
            "WARNING: the run ends before a backlog would be felt and cannot be made longer, so it may take less."
        )
    sentences.append(f"95 % interval over {found['replications']} replications; {found['simulations']} simulations.")
    return sentences


def load_answer(found: dict[str, Any]) -> Answer:
    """Return the answer of `--how-much-load`."""
    return Answer(f"{found['scenario']}: how much load", [Part(sentences=load_words(found))])


def _interval(load: dict[str, Any], rate: float) -> str:
    if load["low"] is None or load["high"] is None:
        return ""
    return f" ({load['low'] * rate:.4g} to {load['high'] * rate:.4g})"
