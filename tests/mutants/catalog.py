"""All mutants."""

from __future__ import annotations

from tests.mutants.deliberate_engines import ENGINE_MISTAKES
from tests.mutants.deliberate_metrics import METRIC_MISTAKES
from tests.mutants.mechanical import MECHANICAL
from tests.mutants.model import Mutant

MUTANTS: tuple[Mutant, ...] = (*ENGINE_MISTAKES, *METRIC_MISTAKES, *MECHANICAL)


def third(number: int) -> tuple[Mutant, ...]:
    """Return every third mutant: 0, 1 or 2; all three have some of every kind."""
    return MUTANTS[number::3]
