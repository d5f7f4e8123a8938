"""Markdown: the same tables and words, as GitHub reads them."""

import re

from servesim.experiment.result import Result
from servesim.experiment.why_verify import verify
from servesim.report.grids import changes_grid, grids
from servesim.report.markdown import markdown
from servesim.report.why import with_words
from servesim.scenario.load import parse
from tests.report.conftest import TWO_POOLS


def tables(text: str) -> list[list[list[str]]]:
    """Return the cells of every table, the rule left out."""
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("| ")]
    return [
        [re.split(r"(?<!\\)\|", line)[1:-1] for i, line in enumerate(block) if i != 1] for block in blocks
    ]  # fmt: skip


def test_every_table_is_there_with_equal_rows(two_pools: Result) -> None:
    summary = with_words(two_pools.summary, verify(parse(TWO_POOLS), two_pools))
    text = markdown({**summary, "warnings": ["pool a|b *c*"]})
    expected = [*grids(summary), changes_grid(summary["why"]["changes"])]
    found = tables(text)
    assert len(found) == len(expected) == 5
    for cells, grid in zip(found, expected, strict=True):
        assert {len(row) for row in cells} == {len(grid.headers)}
        assert [cell.strip().replace("\\", "") for cell in cells[-1]] == list(grid.rows[-1])
    for block in (block.splitlines() for block in text.split("\n\n") if block.startswith("| ")):
        assert re.fullmatch(r"\| ---( \| ---:)+ \|", block[1])


def test_words_and_warnings_are_escaped_and_in_order(two_pools: Result) -> None:
    summary = with_words(two_pools.summary)
    text = markdown({**summary, "warnings": ["pool a|b *c* <d>"]})
    assert text.startswith("### two\\_pools, seed 0\n")
    assert text.endswith("**WARNING** pool a\\|b \\*c\\* \\<d\\>\n")
    assert text.count("\n- ") + text.startswith("- ") == len(summary["why"]["words"])
    assert "max_num" not in text
