"""Every claim, measured with fewer replications: no verdict of docs/claims.md may flip."""

from __future__ import annotations

import pytest
import yaml

from tests.claims.cases import CLAIMS
from tests.claims.finding import Answer
from tests.claims.lab import REDUCED, Lab
from tests.claims.page import VERDICTS

BY_KEY = {claim.key: claim for claim in CLAIMS}
RECORDED = yaml.safe_load(VERDICTS.read_text(encoding="utf-8"))
# Claims about the same runs are measured together.
GROUPS = (
    ("batching-throughput", "batching-latency"),
    ("continuous", "dollar"),
    ("targets", "tail", "adaptive"),
    ("right-size",),
)
# Searches for the largest load of mixed traffic take minutes: not for every change.
LONG_GROUPS = (("separate", "strategies"),)
_DECIDED_AGAIN = 0.7


def flips(recorded: dict[str, str], found: dict[str, str]) -> list[str]:
    """Return the conditions whose answer is now the opposite."""
    sure = {Answer.YES, Answer.NO}
    return [
        f"{where}: was {recorded[where]}, is {answer}"
        for where, answer in found.items()
        if {recorded[where], answer} == sure
    ]


def test_the_groups_are_all_claims():
    assert sorted(key for group in (*GROUPS, *LONG_GROUPS) for key in group) == sorted(BY_KEY)


@pytest.mark.slow
@pytest.mark.parametrize(
    "group",
    [*GROUPS, *(pytest.param(group, marks=pytest.mark.nightly) for group in LONG_GROUPS)],
    ids=lambda group: group[0],
)
def test_no_verdict_flips(group):
    lab = Lab(REDUCED)
    for key in group:
        conditions = BY_KEY[key].verdict(lab).conditions
        found = {": ".join(where): str(answer) for where, answer in conditions.items()}
        recorded = RECORDED[key]
        assert set(found) <= set(recorded), "the conditions changed: python -m tests.claims --write"
        assert not flips(recorded, found)
        decided = [where for where in found if recorded[where] != Answer.OPEN]
        again = [where for where in decided if found[where] == recorded[where]]
        assert len(again) >= int(_DECIDED_AGAIN * len(decided)), f"too little is decided again: {found}"


def test_a_flip_is_seen_and_an_open_answer_is_none():
    assert flips({"a": "yes"}, {"a": "no"}) == ["a: was yes, is no"]
    assert not flips({"a": "yes", "b": "open"}, {"a": "open", "b": "no"})
