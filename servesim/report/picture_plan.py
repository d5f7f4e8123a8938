"""Pictures of plans: what ranked configurations cost and have to spare, and which replicas are in which node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from servesim.report.plan import settings_words, size_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_NODES = 24
_HATCHES = ("", "//", "..", "\\\\", "xx", "--", "oo", "++")


def ranking(figure: Figure, found: dict[str, Any]) -> bool:
    """Draw cost and headroom of the ranked configurations, the naive choice beside; False without any."""
    rows = found["ranked"]
    if not rows:
        return False
    priced = rows[0]["usd_per_hour"] is not None
    names = [f"{settings_words(row['settings'])}: {size_words(row)}" for row in rows]
    costs = [row["usd_per_hour"] if priced else row.get("replicas", row.get("servers")) for row in rows]
    room = [row["headroom"]["factor"] or row["headroom"].get("low") or 0.0 for row in rows]
    naive = found["naive"]
    figure.set_size_inches(8.0, 1.6 + 0.45 * (len(rows) + (naive is not None)))
    left, right = figure.subplots(1, 2, sharey=True)
    left.barh(names, costs, color="0.75", edgecolor="black", linewidth=0.6)
    if naive is not None and (naive["usd_per_hour"] is not None or not priced):
        cost = naive["usd_per_hour"] if priced else naive["replicas"]
        name = f"naive: {settings_words(naive['settings'])}: {naive['replicas']}"
        left.barh([name], [cost], color="white", edgecolor="black", linewidth=0.6, hatch="//")
    left.set_xlabel("USD per hour" if priced else "replicas or servers")
    right.barh(names, room, color="0.75", edgecolor="black", linewidth=0.6)
    right.axvline(1.0, color="C3", linestyle="--", linewidth=1.0)
    right.set_xlabel("load at which the SLO breaks (1: as offered)")
    left.invert_yaxis()
    left.set_title(f"{found['plan']}: cheapest first")
    for panel in (left, right):
        panel.grid(visible=False, axis="y")
    return True


def placement(figure: Figure, found: dict[str, Any]) -> bool:
    """Draw the GPUs of each node with the models on them; False without a division."""
    from matplotlib.ticker import MaxNLocator

    rows = [(gpu, index, size) for gpu, one in found["inventory"].items() for index, size in enumerate(one["nodes"])]
    if not found["models"]:
        return False
    shown = rows[:_MOST_NODES]
    figure.set_size_inches(8.0, 1.5 + 0.32 * len(shown))
    panel = figure.subplots()
    looks = {name: (f"C{index % 10}", _HATCHES[index % 8]) for index, name in enumerate(found["models"])}
    seen: set[str] = set()
    for row, (gpu, node, size) in enumerate(shown):
        panel.barh(row, size, color="white", edgecolor="0.6", linewidth=0.8, height=0.8)
        left = 0
        for name, count in found["placement"][gpu][node].items():
            gpus = found["models"][name]["gpus_per_replica"]
            colour, hatch = looks[name]
            for _ in range(count):
                label = None if name in seen else name
                seen.add(name)
                panel.barh(
                    row,
                    gpus,
                    left=left,
                    color=colour,
                    alpha=0.55,
                    hatch=hatch,
                    edgecolor="black",
                    height=0.8,
                    label=label,
                )
                left += gpus
    panel.set_yticks(range(len(shown)), [f"{gpu} {node + 1}" for gpu, node, _ in shown])
    panel.invert_yaxis()
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.grid(visible=False)
    more = f"; {len(rows) - len(shown)} more nodes" if len(rows) > len(shown) else ""
    panel.set_xlabel(f"GPUs of the node, one box a replica{more}")
    panel.set_title(f"{found['plan']}: {found['verdict']}")
    figure.legend(loc="outside lower center", ncols=4)
    return True
