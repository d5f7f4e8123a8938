"""Pictures: what is drawn is what the summary says, and the bytes are the same every time."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from servesim.experiment.result import Result
from servesim.report.picture_causes import causes
from servesim.report.picture_latency import latency
from servesim.report.picture_timeline import timeline
from servesim.report.pictures import draw
from tests.data import ROOT

NAMES = ("latency", "timeline", "causes")


@pytest.mark.parametrize("style", ["png", "svg"])
def test_the_same_run_gives_the_same_bytes(style: str, two_pools: Result, tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        draw(two_pools.record, two_pools.summary, folder, style)
        assert {path.name for path in folder.iterdir()} == {f"{name}.{style}" for name in NAMES}
    for name in NAMES:
        first, second = ((folder / f"{name}.{style}").read_bytes() for folder in folders)
        assert first == second
        if style == "svg":
            assert ElementTree.fromstring(first).tag.endswith("svg")
            assert b"<dc:date>" not in first
        else:
            assert first.startswith(b"\x89PNG")


def test_users_style_changes_nothing(one_pool: Result, tmp_path: Path) -> None:
    import matplotlib

    for name, size in (("a", 9.0), ("b", 30.0)):
        (tmp_path / name).mkdir()
        with matplotlib.rc_context({"font.size": size, "lines.linewidth": size}):
            draw(one_pool.record, one_pool.summary, tmp_path / name)
            assert matplotlib.rcParams["font.size"] == size
    for name in NAMES:
        assert (tmp_path / "a" / f"{name}.png").read_bytes() == (tmp_path / "b" / f"{name}.png").read_bytes()


def test_nothing_is_drawn_of_nothing(nothing_completed: Result, tmp_path: Path) -> None:
    draw(nothing_completed.record, nothing_completed.summary, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_distributions_pass_through_the_percentiles_and_show_the_slo(one_pool: Result) -> None:
    figure = Figure()
    assert latency(figure, one_pool.record, one_pool.summary)
    described = one_pool.summary["classes"]["chat"]
    for panel, kind in zip(figure.axes, ("ttft_s", "tpot_s", "e2e_s"), strict=True):
        curve = next(line for line in panel.get_lines() if line.get_gid() == "curve")
        x, y = (np.asarray(data, dtype=float) for data in curve.get_data())
        assert (y[0], y[-1]) == (0, 1)
        for percentile in (50, 90, 99):
            assert np.interp(percentile / 100, y, x) == pytest.approx(described[kind][f"p{percentile}"], rel=0.02)
        marks = [line.get_data() for line in panel.get_lines() if line.get_marker() in ("o", "s")]
        assert [(float(a[0]), float(b[0])) for a, b in marks] == [
            (described[kind]["p50"], 0.5), (described[kind]["p99"], 0.99)
        ]  # fmt: skip
        assert panel.get_xlabel()
        assert panel.get_title()
    lines = [line for line in figure.axes[0].get_lines() if list(line.get_ydata()) == [0, 1]]
    assert [float(line.get_xdata()[0]) for line in lines] == [1.0]


def test_classes_differ_by_their_lines_and_are_named(two_pools: Result) -> None:
    figure = Figure()
    assert latency(figure, two_pools.record, two_pools.summary)
    curves = [line for line in figure.axes[0].get_lines() if line.get_gid() == "curve"]
    assert len({str(line.get_linestyle()) for line in curves}) == 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["chat", "report", "p50", "p99"]


def test_every_pool_has_its_row_over_time(two_pools: Result) -> None:
    figure = Figure()
    assert timeline(figure, two_pools.record, two_pools.summary)
    assert len(figure.axes) == 6
    assert [panel.get_ylabel() for panel in figure.axes[:3]] == [
        "requests", "KV blocks in use (%)", "sequences in the batch per replica"
    ]  # fmt: skip
    running = next(line for line in figure.axes[3].get_lines() if line.get_label() == "running")
    spent = two_pools.requests.query("`class` == 'report'")
    inside_s = (spent["e2e_s"] - spent["queue_s"] - 0.03).sum()
    mean = float(np.mean(np.asarray(running.get_ydata(), dtype=float)))
    assert mean == pytest.approx(inside_s / two_pools.record.end_s, rel=0.02)


def test_bars_add_up_to_the_latency(two_pools: Result) -> None:
    figure = Figure()
    assert causes(figure, two_pools.record, two_pools.summary)
    split = two_pools.summary["classes"]["all"]["split"]
    for panel, kind in zip(figure.axes, ("ttft_s", "e2e_s"), strict=True):
        for row, parts in ((1, split[kind]), (0, split["p99_tail"][kind])):
            bars = [bar for bar in panel.patches if abs(bar.get_y() + bar.get_height() / 2 - row) < 0.1]
            assert sum(bar.get_width() for bar in bars) == pytest.approx(sum(parts.values()), rel=1e-3)
    looks = {(str(bar.get_facecolor()), bar.get_hatch()) for bar in figure.axes[0].patches}
    assert len(looks) == len(figure.legends[0].get_texts())


def test_matplotlib_is_imported_only_to_draw() -> None:
    code = (
        "import sys, servesim.cli.run, servesim.report.pictures, servesim.report.table, servesim.experiment.result;"
        "print('matplotlib' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout == "False\n"
