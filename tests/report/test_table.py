"""The terminal table in narrow and wide terminals, with and without colour."""

import io
import re
from typing import Any

import pytest
from rich.console import Console

from servesim.experiment.result import Result
from servesim.experiment.simulate import simulate
from servesim.experiment.why_verify import verify
from servesim.report.table import print_summary
from servesim.report.why import with_words
from servesim.scenario.load import parse
from tests.report.conftest import ONE_POOL, TWO_POOLS


def shown(summary: dict[str, Any], width: int, **options: Any) -> list[str]:
    out = io.StringIO()
    print_summary(summary, Console(file=out, width=width, **options))
    return out.getvalue().splitlines()


@pytest.fixture(scope="module")
def explained(one_pool: Result) -> dict[str, Any]:
    return with_words(one_pool.summary, verify(parse(ONE_POOL), one_pool))


@pytest.mark.parametrize("width", [80, 120])
def test_nothing_is_wider_than_the_terminal_and_wide_lines_use_it(width: int, explained: dict[str, Any]) -> None:
    lines = shown(explained, width)
    assert max(map(len, lines)) <= width
    assert max(map(len, lines)) > width - 20
    assert not any("…" in line for line in lines)


def test_two_pools_fit_into_80_columns(two_pools: Result) -> None:
    summary = with_words(two_pools.summary, verify(parse(TWO_POOLS), two_pools))
    assert max(map(len, shown(summary, 80))) <= 80


def test_numbers_stand_below_each_other_and_keep_their_units(explained: dict[str, Any]) -> None:
    lines = shown(explained, 80)
    start = next(i for i, line in enumerate(lines) if line.startswith("latency"))
    ends = {tuple(match.end() for match in re.finditer(r"\S m?s\b", line)) for line in lines[start + 1 : start + 5]}
    header = tuple(match.end() for match in re.finditer(r"mean|p\d\d", lines[start]))
    assert ends == {header}
    assert not any(re.match(r"\s*(%|ms|s)\b", line) for line in lines)


def test_warnings_come_last_and_plain(explained: dict[str, Any]) -> None:
    lines = shown({**explained, "warnings": ["pool main [bold]: beware", "and more"]}, 80)
    assert lines[-2:] == ["WARNING pool main [bold]: beware", "WARNING and more"]


def test_colour_only_on_a_terminal_and_never_with_no_color(
    explained: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def coloured(**options: Any) -> bool:
        text = "\n".join(shown({**explained, "warnings": ["x"]}, 80, **options))
        return bool(re.search(r"\x1b\[[0-9;]*3\d", text))

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert coloured(force_terminal=True)
    assert not coloured()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not coloured(force_terminal=True)


def test_the_split_is_shown_in_percent_of_mean_and_slowest(two_pools: Result) -> None:
    lines = shown(two_pools.summary, 80)
    start = next(i for i, line in enumerate(lines) if line.startswith("where the time went"))
    rows = {}
    for line in lines[start + 1 : lines.index("", start)]:
        name, *cells = re.split(r"\s{2,}", line.rstrip())
        rows[name] = [float(cell.removesuffix(" %")) for cell in cells]
    parts = two_pools.summary["classes"]["all"]["split"]["p99_tail"]["e2e_s"]
    assert rows["queue"][3] == pytest.approx(100 * parts["queue_s"] / sum(parts.values()), abs=0.051)
    for column in range(4):
        assert sum(row[column] for row in rows.values()) == pytest.approx(100, abs=0.5)
    assert {"network", "admission", "host"} <= set(rows)


def test_nothing_completed_is_shown_too(nothing_completed: Result) -> None:
    lines = shown(with_words(nothing_completed.summary), 80)
    assert any("No request completed" in line for line in lines)
    assert not any(line.startswith("where the time went") for line in lines)


def test_long_names_are_folded_and_not_cut() -> None:
    name = "a" * 30 + "-" + "b" * 30
    text = ONE_POOL.replace("chat:", f"{name}:").replace("num_requests: 400", "num_requests: 20")
    lines = shown(with_words(simulate(parse(text)).summary), 80)
    assert max(map(len, lines)) <= 80
    assert name in "".join(line.split("  ")[0] for line in lines[2:12]).replace("class", "").replace(" ", "")
