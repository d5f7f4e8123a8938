"""Pictures of a run: latencies, what happened over time, and where the time of the slowest requests went.

matplotlib is imported when something is drawn and never asked for a display. The same record gives the same bytes
(under one version of matplotlib): no dates, no random ids. Lines differ by dashes and bars by hatches, so that a print
in black and white says the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servesim.metrics.record import RunRecord
from servesim.metrics.warmup import measured

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.hashsalt": "servesim",
    "svg.fonttype": "path",
}
_DPI = 130


def draw(record: RunRecord, summary: dict[str, Any], directory: Path, style: str = "png") -> list[str]:
    """Write latency, timeline and causes, as `style` ("png" or "svg"), to `directory`.

    A picture that would be empty, because no request completed or nothing ran, is left out; the names of those are
    returned.
    """
    from servesim.report.picture_causes import causes
    from servesim.report.picture_latency import latency
    from servesim.report.picture_timeline import timeline

    window = summary["measurement"]
    counted = measured(record, window["left_out"], window["start_s"])
    left_out: list[str] = []
    for name, fill in (("latency", latency), ("timeline", timeline), ("causes", causes)):
        with styled_figure() as figure:
            if fill(figure, counted if fill is latency else record, summary):
                save(figure, directory / f"{name}.{style}", style)
            else:
                left_out.append(name)
    return left_out


def save_picture(fill: Callable[[Figure], bool], path: Path) -> bool:
    """Let `fill` draw on a new figure and write it to `path`, in the format that its suffix says, if it drew anything.

    Returns whether it did.
    """
    with styled_figure() as figure:
        drawn = fill(figure)
        if drawn:
            save(figure, path, path.suffix.removeprefix("."))
    return drawn


@contextmanager
def styled_figure() -> Iterator[Figure]:
    """Yield an empty figure in the style of all pictures, which holds while it is drawn and saved."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # not the user's own: pictures are the same everywhere
        settings: Any = matplotlib.rcParams  # their type lists every key, and differs between versions
        settings.update(_STYLE)
        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def save(figure: Figure, path: Path, style: str) -> None:
    """Write a figure as `style` ("png" or "svg"), whatever the path ends with."""
    metadata = {"Software": None} if style == "png" else {"Date": None, "Creator": None}
    with warnings.catch_warnings():  # a name with a character that the font lacks is drawn with a box instead
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from")
        figure.savefig(path, format=style, dpi=_DPI, metadata=metadata)
