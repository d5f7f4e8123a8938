"""What the page holds: the summary's figures, every name escaped, nothing from elsewhere, the same bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from servesim.errors import InputError
from servesim.report.page import page, write_page
from servesim.report.page.bars import queue_bars, split_bars, state_bars
from servesim.report.page.latency_charts import distribution_charts, slower_share
from servesim.report.page.read import read_run
from servesim.report.page.render import prose
from servesim.report.page.timeline_charts import timeline_charts

RESULTS = ("two_pools", "nothing", "steady", "replications")
HOSTILE = "</script><script>window.hit=1</script><img src=x onerror=window.hit=1>&\"'`"
FETCHING = {"src", "href", "srcset", "action", "data", "poster", "xlink:href", "background", "formaction"}


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def tags(text: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = _Tags()
    parser.feed(text)
    return parser.found


def chart_data(text: str) -> dict[str, dict[str, list[list[float | None]]]]:
    found = re.search(r'<script type="application/json" id="charts">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    data: dict[str, dict[str, list[list[float | None]]]] = json.loads(found[1])
    return data


def hostile(directory: Path) -> Path:
    """Give the scenario, a class, a pool and a warning a name that tries to leave its place."""
    summary = json.loads((directory / "summary.json").read_text())
    summary["scenario"] = HOSTILE
    summary["warnings"] = [HOSTILE]
    summary["provenance"][HOSTILE] = HOSTILE
    for tree in (summary["classes"], summary["intervals"]["classes"]):
        tree[HOSTILE] = tree.pop("chat")
    summary["pools"] = {HOSTILE: summary["pools"]["main"]}
    summary["why"]["time_at_limit"] = {HOSTILE: summary["why"]["time_at_limit"]["main"]}
    validation = summary["provenance"]["validation"]["pools"]
    validation[HOSTILE] = {**validation["main"], "name": HOSTILE}
    (directory / "summary.json").write_text(json.dumps(summary))
    files = read_run(directory)
    for table, column, name in ((files.requests, "class", "chat"), (files.timeseries, "pool", "main")):
        table[column] = table[column].cat.rename_categories({name: HOSTILE})
    files.requests.to_parquet(directory / "requests.parquet")
    files.timeseries.to_parquet(directory / "timeseries.parquet")
    scenario = files.scenario
    scenario["description"] = HOSTILE
    scenario["workload"]["classes"] = {HOSTILE: scenario["workload"]["classes"]["chat"]}
    (directory / "scenario.resolved.yaml").write_text(json.dumps(scenario))  # JSON is YAML
    return directory


@pytest.mark.parametrize("name", RESULTS)
def test_the_same_result_gives_the_same_page_and_fetches_nothing(results: Path, name: str) -> None:
    text = page(results / name)
    assert text == page(results / name)
    assert len(text.encode()) < 1_000_000
    for tag, attributes in tags(text):
        assert tag not in ("iframe", "object", "embed", "base", "form")
        for attribute, value in attributes.items():
            assert not attribute.startswith("on")
            if attribute in FETCHING:
                assert value is not None
                assert value.startswith(("#", "data:"))
    assert "@import" not in text
    assert not re.search(r"url\((?!data:)", text)


def test_names_cannot_leave_their_place(copied: Callable[[str], Path], results: Path) -> None:
    plain, text = page(results / "steady"), page(hostile(copied("steady")))
    scripts = [tag for tag, _ in tags(text) if tag == "script"]
    assert len(scripts) == len([tag for tag, _ in tags(plain) if tag == "script"]) == 3
    assert not [tag for tag, _ in tags(text) if tag == "img"]
    assert text.count("&lt;/script&gt;") >= 8
    labels = [one["label"] for chart in chart_data(text).values() for one in chart["series"]]  # type: ignore[call-overload]
    assert HOSTILE in labels
    policy = [a["content"] for tag, a in tags(text) if tag == "meta" and "http-equiv" in a]
    assert len(policy) == 1
    assert policy[0] is not None
    assert "'unsafe-inline'" not in policy[0].split("style-src")[0]


def test_prose_marks_code_and_leaves_a_lone_backtick() -> None:
    assert prose("run `a <b>` now") == "run <code>a &lt;b&gt;</code> now"
    assert prose("1 s -> 2 ms <i>") == "1\u00a0s \u2192 2\u00a0ms &lt;i&gt;"
    assert prose("a ` b <i>") == "a ` b &lt;i&gt;"


@pytest.mark.parametrize("name", ["two_pools", "steady"])
def test_distributions_agree_with_the_percentiles_of_the_summary(results: Path, name: str) -> None:
    files = read_run(results / name)
    charts = list(distribution_charts(files))
    assert [chart.key for chart in charts] == [f"distribution-{kind}" for kind in ("ttft_s", "tpot_s", "e2e_s")]
    checked = 0
    for chart in charts:
        kind = chart.key.removeprefix("distribution-")
        assert np.all(np.diff(chart.x) > 0)
        for line in chart.series:
            p90 = files.summary["classes"][line.label][kind]["p90"]
            below, above = (float(line.values[chart.x < p90][-1]), float(np.nan_to_num(line.values[chart.x > p90][0])))
            assert above <= 0.1 + 1e-9
            assert below >= 0.1 - 0.01
            checked += 1
    assert checked == 3 * len(charts[0].series)


def test_the_share_slower_than_a_time_leaves_out_what_nobody_exceeds() -> None:
    shares = slower_share(np.array([1.0, 2.0, 2.0, 4.0]), np.array([0.5, 1.0, 2.0, 3.0, 4.0]))
    np.testing.assert_array_equal(shares, [1.0, 0.75, 0.25, 0.25, np.nan])


def test_marks_are_the_objectives(results: Path) -> None:
    charts = {chart.key: chart for chart in distribution_charts(read_run(results / "two_pools"))}
    assert [(mark.label, mark.at) for mark in charts["distribution-ttft_s"].marks] == [("chat SLO 500 ms", 0.5)]
    assert [mark.at for mark in charts["distribution-tpot_s"].marks] == [0.05]
    assert not charts["distribution-e2e_s"].marks


def test_the_timeline_keeps_totals(results: Path) -> None:
    """Means of equal groups of bins: what arrived in all is still there."""
    files = read_run(results / "two_pools")
    chart = next(chart for chart in timeline_charts(files) if chart.key == "timeline-arrivals")
    assert len(chart.x) <= 240
    bins_s = np.unique(files.timeseries["time_s"])
    size, width_s = -(-len(bins_s) // 240), float(bins_s[1] - bins_s[0])
    lengths = np.full(len(chart.x), size)
    lengths[-1] = len(bins_s) - size * (len(chart.x) - 1)
    arrived = {one.label: float((one.values * lengths).sum() * width_s) for one in chart.series}
    assert arrived["first arrivals"] == pytest.approx(300)
    assert arrived["second arrivals"] == pytest.approx(300)


def test_bars_sum_to_one_and_say_the_summarys_figures(results: Path) -> None:
    summary = read_run(results / "two_pools").summary
    groups = (split_bars(summary["classes"]["all"]["split"]), queue_bars(summary["why"]), state_bars(summary["why"]))
    assert [len(group) for group in groups] == [4, 2, 2]
    for group in groups:
        for bar in group:
            assert sum(segment.share for segment in bar.segments) == pytest.approx(1, abs=0.005)
    tail = summary["classes"]["all"]["split"]["p99_tail"]["ttft_s"]
    queue = next(segment for segment in groups[0][1].segments if segment.label == "queue")
    assert queue.share == pytest.approx(tail["queue_s"] / sum(tail.values()))


def test_a_result_without_latencies_has_a_page(results: Path) -> None:
    text = page(results / "nothing")
    assert "No request completed" in text
    assert not [key for key in chart_data(text) if key.startswith("distribution")]


def test_replications_say_what_they_are(results: Path) -> None:
    text = page(results / "replications")
    assert "3 replications of seed 0" in text
    assert "of replication 0 of 3" in text
    assert "p99 TTFT and p99 E2E in replication 0: " in text
    assert "(means of all replications)" in text
    for seed in read_run(results / "replications").summary["replications"]["seeds"]:
        assert str(seed) in text


def _remove(name: str) -> Callable[[Path], None]:
    return lambda directory: (directory / name).unlink()


def _write(name: str, text: str) -> Callable[[Path], None]:
    def write(directory: Path) -> None:
        (directory / name).write_text(text)

    return write


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (_remove("summary.json"), "holds no result; expected one of summary.json, sweep.json"),
        (_remove("requests.parquet"), "requests.parquet: is missing; the directory does not hold a whole result"),
        (_remove("scenario.resolved.yaml"), "scenario.resolved.yaml: is missing"),
        (_write("summary.json", '{"schema_version": 2,\n oops'), "summary.json:2:2: is not JSON"),
        (_write("summary.json", "[]"), "summary.json: is not a result of servesim"),
        (_write("summary.json", '{"schema_version": 1}'), "schema_version is 1, this servesim reads 2"),
        (_write("summary.json", '{"schema_version": 2}'), "lacks 'scenario'"),
        (_write("scenario.resolved.yaml", "a: [1"), "scenario.resolved.yaml: is not YAML"),
        (_write("scenario.resolved.yaml", "just words"), "scenario.resolved.yaml: is not a scenario"),
        (_write("timeseries.parquet", "no table"), "timeseries.parquet: is not a table that servesim wrote"),
    ],
)
def test_a_broken_result_is_named(copied: Callable[[str], Path], fault: Callable[[Path], None], message: str) -> None:
    directory = copied("steady")
    fault(directory)
    with pytest.raises(InputError, match=re.escape(message)):
        page(directory)


def test_only_a_report_is_overwritten(results: Path, tmp_path: Path) -> None:
    target, text = tmp_path / "mine.html", page(results / "nothing")
    target.write_text("<p>mine</p>")
    with pytest.raises(InputError, match="is not a servesim report; --force replaces it"):
        write_page(target, text)
    assert target.read_text() == "<p>mine</p>"
    write_page(target, text, force=True)
    write_page(target, text)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.html"]
    with pytest.raises(InputError, match="is a directory"):
        write_page(tmp_path, text)
    with pytest.raises(InputError, match="there is no directory"):
        write_page(tmp_path / "none" / "x.html", text)
