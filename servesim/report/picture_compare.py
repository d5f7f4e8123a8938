"""Every replication's paired difference, and what they say together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from servesim.report.compare import comparison_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def differences(figure: Figure, summary: dict[str, Any]) -> bool:
    """Draw a row for each metric: relative changes, their mean with its interval, the margin; False if none."""
    shown = {name: one for name, one in summary["metrics"].items() if one["low"] is not None}
    if not shown:
        return False
    figure.set_size_inches(8.0, 1.4 + 0.42 * len(shown))
    panel = figure.subplots()
    margin = 100 * summary["margin"]
    panel.axvspan(-margin, margin, color="0.92", zorder=0, label=f"within {margin:g} %")
    panel.axvline(0, color="0.5", linewidth=0.8)
    for row, one in enumerate(shown.values()):
        each = [100 * value for value in one["relative_each"]]
        middle, low, high = (100 * one[key] for key in ("relative", "low", "high"))
        panel.plot(each, [row + 0.18] * len(each), "|", color="0.55", label="one replication" if row == 0 else None)
        panel.errorbar(
            [middle], [row - 0.12], xerr=[[middle - low], [high - middle]], fmt="o", color="black", markersize=4,
            capsize=3,
            label="mean and interval" if row == 0 else None,
        )  # fmt: skip
    panel.set_yticks(range(len(shown)), [f"{name}\n{one['verdict']}" for name, one in shown.items()])
    panel.invert_yaxis()
    panel.grid(visible=False, axis="y")
    panel.set_xlabel("change of B against A (%)")
    panel.set_title(comparison_title(summary))
    figure.legend(loc="outside lower center", ncols=3)
    return True
