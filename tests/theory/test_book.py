"""The theory book: every row that can be simulated, against its exact answer. See docs/theory.md."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest

from tests.data import ROOT
from tests.theory.book import Case
from tests.theory.cases import CASES
from tests.theory.cases_searches import Search
from tests.theory.known import KNOWN
from tests.theory.registry import COVERED_BY, NOT_YET

SEARCHED = {
    "fewest servers": "staff-c",
    "highest rate": "slo-qps",
    "MMPP in windows": "mmpp-idc",
    "Hawkes in windows": "hawkes-var",
}
OWN = ("known.py", "registry.py")
"""Modules of the book that name every row."""


def _marked(case: Case | Search) -> object:
    marks = [pytest.mark.statistical] if case.quick else [pytest.mark.statistical, pytest.mark.slow]
    return pytest.param(case, id=case.name, marks=marks)


@pytest.mark.parametrize("case", [_marked(case) for case in CASES])
def test_the_simulation_agrees_with_theory(case: Case | Search) -> None:
    assert not case.faults()


def test_every_row_is_somewhere() -> None:
    """Each of the rows is a case, or belongs to one other module, or is listed with what is missing."""
    cases = {row.id for case in CASES if isinstance(case, Case) for row in case.rows}
    cases |= {SEARCHED[case.name] for case in CASES if isinstance(case, Search)}
    elsewhere = [id for ids in (*COVERED_BY.values(), *NOT_YET.values()) for id in ids]
    places = Counter([*cases, *elsewhere])
    assert set(places) == set(KNOWN)
    assert {id: count for id, count in places.items() if count > 1} == {}


def test_no_row_is_tested_and_said_not_to_be() -> None:
    """A row leaves NOT_YET with the first test module that names it."""
    waiting = [id for ids in NOT_YET.values() for id in ids]
    pattern = re.compile(rf"(?<![\w.-])(?:{'|'.join(map(re.escape, waiting))})(?![\w.-])")
    paths = [path for path in (ROOT / "tests").rglob("*.py") if path.name not in OWN]
    assert len(paths) > 50
    found = {path.name: pattern.findall(path.read_text(encoding="utf-8")) for path in paths}
    assert {name: ids for name, ids in found.items() if ids} == {}
    first, last = waiting[0], waiting[-1]
    assert pattern.findall(f"{first}, {last}: 15.2; {first}0 and x-{last} are others") == [first, last]


@pytest.mark.parametrize("module", COVERED_BY)
def test_other_modules_name_the_rows_they_test(module: str) -> None:
    text = (ROOT / module).read_text(encoding="utf-8")
    named = re.findall(r"[\w.-]*\w", text)
    assert [id for id in COVERED_BY[module] if id not in named] == []


def test_the_values_are_those_of_the_book() -> None:
    path = ROOT.parent / "shared" / "known_answers.json"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    rows = json.loads(path.read_text(encoding="utf-8"))
    assert {row["id"]: row["value"] for row in rows} == KNOWN
