"""The list of mutants is of this code: every place exists, and every third has some of each kind."""

from __future__ import annotations

import pytest

from tests.data import ROOT
from tests.mutants.catalog import MUTANTS, third
from tests.mutants.model import Deliberate, Mechanical, Mutant, mutate


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_it_can_be_made_and_its_tests_exist(mutant: Mutant) -> None:
    compile(mutate(mutant, ROOT / "servesim"), mutant.path, "exec")
    files = [name.split("::")[0] for name in mutant.tests]
    assert files
    assert [name for name in files if not (ROOT / name).exists()] == []


def test_there_are_enough_of_both_kinds() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 40
    assert len({mutate(mutant, ROOT / "servesim") for mutant in MUTANTS}) == len(MUTANTS)
    parts = [third(number) for number in range(3)]
    assert sorted(one.name for part in parts for one in part) == sorted(one.name for one in MUTANTS)
    for part in parts:
        assert sum(isinstance(one, Mechanical) for one in part) >= 5


def test_a_change_is_of_one_place_only() -> None:
    source = "class A:\n    def f(self, x):  # µ\n        return x < 2 and x != 1\n"
    flipped = Mechanical("a", "a.py", ("t",), "A.f", "flip", 1).apply(source)
    assert flipped == source.replace("x != 1", "(x == 1)")
    assert Mechanical("a", "a.py", ("t",), "A.f", "minus", 0).apply(source) == source.replace("< 2", "< (1)")
    assert Mechanical("a", "a.py", ("t",), "A.f", "reverse", 0).apply(source) == source.replace("x < 2", "(x > 2)")
    with pytest.raises(ValueError, match="2 places"):
        Mechanical("a", "a.py", ("t",), "A.f", "flip", 2).apply(source)
    with pytest.raises(ValueError, match="3 times"):
        Deliberate("a", "a.py", ("t",), (("x", "y"),)).apply(source)
    with pytest.raises(ValueError, match=r"no A\.g"):
        Mechanical("a", "a.py", ("t",), "A.g", "flip", 0).apply(source)
