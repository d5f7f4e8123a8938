"""The division of an inventory as tables and sentences."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from servesim.report.answer import Answer, Part
from servesim.report.grids import Grid
from servesim.report.numbers import percent
from servesim.report.plan import deployment_parts, error_words, settings_words

_LOSS = {
    "nothing": "Nothing may be lost",
    "replica": "One replica of each model may be lost",
    "node": "Any node may be lost",
}
_VERDICTS = {
    "enough": "ENOUGH: every model stays within its chance of a breach",
    "not enough": "NOT ENOUGH: any division leaves a model more than its chance of a breach; here the worst has least",
    "no room": "NO ROOM: not every model can have what is asked for even one replica",
}


def inventory_answer(found: dict[str, Any]) -> Answer:
    """Return the answer of an inventory plan."""
    parts = [Part(sentences=words(found))]
    if found["models"]:
        parts.insert(0, Part(grid=models_grid(found)))
        parts.append(Part("Where replicas go", grid=placement_grid(found["placement"])))
    if found["pruned"]:
        fell = [
            f"{one['model']}, {settings_words(one['settings'])}: [{one['rule']}] {one['reason']}"
            for one in found["pruned"]
        ]
        parts.append(Part("Fell out", sentences=fell))
    for name, model in found["models"].items():
        parts += deployment_parts(f"Deployment of {name}", model["deployment"])
    there = ", ".join(f"{one['gpus']} {gpu}" for gpu, one in found["inventory"].items())
    return Answer(f"{found['plan']}: {there}", parts)


def models_grid(found: dict[str, Any]) -> Grid:
    """Return what each model gets, the load it takes with the worst loss, and its chance of a breach."""
    priced = found["usd_per_hour"] is not None
    head = ("model", "configuration", "size", "GPUs", *(("$/h",) if priced else ()), "up", "takes", "breach", "allowed")
    grid = Grid(head, tight=True)
    for name, one in found["models"].items():
        gpus = one["gpus_per_replica"]
        grid.rows.append(
            (
                name,
                settings_words(one["settings"]),
                f"{one['replicas']}" if gpus == 1 else f"{one['replicas']} x {gpus}",
                str(one["gpus"]),
                *((f"{one['usd_per_hour']:,.2f}",) if priced else ()),
                str(one["replicas_up_at_worst"]),
                _takes(one["takes"]),
                chance(one["breach"]),
                chance(one["max_breach"]),
            )
        )
    return grid


def _takes(found: dict[str, Any]) -> str:
    return f"x {found['factor']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def chance(value: float) -> str:
    """Return a probability; what is small is not called 0."""
    return "< 0.1 %" if value < 0.001 else "> 99.9 %" if value > 0.999 else percent(value)


def placement_grid(placement: dict[str, list[dict[str, int]]]) -> Grid:
    """Return which replicas are in which node, equal nodes in a row together."""
    grid = Grid(("node", "replicas"))
    for gpu, nodes in placement.items():
        number = 1
        for holds, members in groupby(nodes):
            last = number + len(list(members)) - 1
            which = f"{gpu} {number}" if last == number else f"{gpu} {number} to {last}"
            grid.rows.append((which, ", ".join(f"{name} {count}" for name, count in holds.items()) or "free"))
            number = last + 1
    return grid


def words(found: dict[str, Any]) -> list[str]:
    """Return what the tables do not say."""
    sentences = [f"{_VERDICTS[found['verdict']]}."]
    if found["models"]:
        loss = _LOSS[found["survive"]]
        grown = {tuple(one["growth"]) for one in found["models"].values()}
        low, high = min(one[0] for one in grown), max(one[1] for one in grown)
        demand = f"x {low:g}" if low == high else f"x {low:.3g} to x {high:.3g}"
        sentences.append(
            f"{loss}; demand is {demand} today's. The chance that any model breaches is {chance(found['breach'])}."
        )
        sentences += [_doubt(name, one) for name, one in found["models"].items() if one["doubt"] is not None]
    else:
        sentences.append(f"{_LOSS[found['survive']]}.")
    if free := {gpu: count for gpu, count in found["free"].items() if count}:
        sentences.append(f"Left over: {', '.join(f'{count} {gpu}' for gpu, count in free.items())}.")
    runs = found["simulations"]
    sentences.append(f"{runs['search']} simulations; {runs['all']} with what is said of errors.")
    return sentences


def _doubt(name: str, model: dict[str, Any]) -> str:
    doubt = model["doubt"]
    what = error_words(doubt["of"])
    ends = ", ".join(
        f"times x {end['factor']:.3g}: " + (end.get("reason") or chance(end["breach"])) for end in doubt["ends"]
    )
    verdict = "HANGS on" if doubt["hangs_on_it"] else "does not hang on"
    return f"Whether {name} has enough {verdict} {what} (chance of a breach with {ends})."
