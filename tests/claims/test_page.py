"""The page says what was recorded, and every scenario belongs to a claim."""

from __future__ import annotations

import yaml

from tests.claims.cases import CLAIMS
from tests.claims.lab import SCENARIOS
from tests.claims.page import PAGE, PICTURES, VERDICTS, number

TEXT = PAGE.read_text(encoding="utf-8")
RECORDED = yaml.safe_load(VERDICTS.read_text(encoding="utf-8"))


def test_every_scenario_belongs_to_a_claim_and_exists():
    named = {name for claim in CLAIMS for name in claim.scenarios}
    assert named == {path.stem for path in SCENARIOS.glob("*.yaml")}


def test_the_page_has_every_claim_with_its_picture_and_scenarios():
    for claim in CLAIMS:
        section = TEXT.split(f"## {claim.title}\n")[1].split("\n## ")[0]
        assert claim.says in section
        assert (PICTURES / f"{claim.key}.png").exists()
        for name in claim.scenarios:
            assert f"scenarios/claims/{name}.yaml" in section


def test_the_page_has_every_condition_that_was_recorded():
    assert list(RECORDED) == [claim.key for claim in CLAIMS]
    for claim in CLAIMS:
        section = TEXT.split(f"## {claim.title}\n")[1].split("\n## ")[0]
        for where in RECORDED[claim.key]:
            assert f"| {where} |" in section


def test_the_page_says_how_many_conditions_hold():
    for claim in CLAIMS:
        answers = list(RECORDED[claim.key].values())
        section = TEXT.split(f"## {claim.title}\n")[1].split("\n## ")[0]
        headline = section.split("**Verdict: ")[1].split(".**")[0]
        assert str(len(answers)) in headline
        if "yes" in answers and "no" in answers:
            assert headline.startswith(f"holds in {answers.count('yes')} of {len(answers)} conditions tried")


def test_numbers_have_three_digits():
    assert [number(value, False) for value in (0.0012345, 2.0, 12.34, 1234.5)] == ["0.00123", "2.00", "12.3", "1234"]
    assert number(0.3456, True) == "34.6 %"
