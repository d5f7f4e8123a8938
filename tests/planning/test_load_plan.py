"""Every plan in `invalid/` has one fault, and its first line says what must be said of it."""

from pathlib import Path

import pytest

from servesim.errors import InputError
from servesim.scenario.load_plan import load_plan

INVALID = Path(__file__).parent / "invalid"


@pytest.mark.parametrize("path", sorted(INVALID.glob("*.yaml")), ids=lambda path: path.stem)
def test_one_fault_gives_one_problem_at_its_place(path: Path) -> None:
    begin, *later = path.read_text().splitlines()[0].removeprefix("# expect: ").split(" ... ")
    with pytest.raises(InputError) as caught:
        load_plan(path)
    (problem,) = map(str, caught.value.problems)
    assert problem.startswith(f"{path}:{begin}")
    for part in later:
        assert part in problem
