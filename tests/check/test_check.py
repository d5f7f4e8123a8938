"""Checks against a baseline: what is flagged, what is not, what is said about it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from servesim.check.baseline import load_baseline
from servesim.check.record import update
from servesim.check.report import Checked, Report
from servesim.check.run import UNPAIRED, check
from servesim.errors import InputError
from servesim.registry import kinds
from servesim.report.check import report_markdown, sentences
from tests.check.conftest import REPLICATIONS, Change


def only(report: Report) -> Checked:
    assert len(report.scenarios) == 1
    return report.scenarios[0]


def statuses(report: Report) -> dict[str, str]:
    return {verdict.metric: verdict.status for verdict in only(report).verdicts}


def test_nothing_changed_is_seen_in_one_replication(small: Path, baseline: Path) -> None:
    report = check([small], baseline)
    found = only(report)
    assert report.exit_code == 0
    assert found.identical
    assert found.replications == 1
    assert found.moved == []
    assert "no change at all" in sentences(found, report)[0]


def test_a_comment_or_the_description_is_no_change(small: Path, baseline: Path, change: Change) -> None:
    change("name: small", "# words\nname: small\ndescription: more words")
    assert only(check([small], baseline)).moved == []


def test_a_setting_without_effect_is_equal_in_every_replication(small: Path, baseline: Path, change: Change) -> None:
    change("num_requests: 200", "num_requests: 200\n  duration_s: null")
    found = only(check([small], baseline))
    assert found.moved == ["the scenario"]
    assert found.identical
    assert found.replications == REPLICATIONS


def test_a_slower_server_is_a_regression(small: Path, baseline: Path, change: Change) -> None:
    change("base_s: 0.01", "base_s: 0.0105")
    report = check([small], baseline)
    found = only(report)
    assert report.exit_code == 3
    assert found.paired
    assert statuses(report)["e2e_s.mean"] == "regression"
    verdict = next(one for one in found.verdicts if one.metric == "tpot_s.mean")
    assert verdict.relative == pytest.approx(0.05)
    assert statuses(report)["request_throughput_rps"] == "ok"
    said = sentences(found, report)
    assert any(line.startswith("REGRESSION tpot_s.mean 10 ms to 10.5 ms (+5.0 %") for line in said)
    assert any("p < 0.0001, below 0.05 in all" in line for line in said)
    assert "changed since the baseline: the scenario" in said
    json.dumps(report.plain(), allow_nan=False)


def test_a_faster_one_is_an_improvement(small: Path, baseline: Path, change: Change) -> None:
    change("base_s: 0.01", "base_s: 0.009")
    report = check([small], baseline)
    assert report.exit_code == 0
    assert statuses(report)["e2e_s.mean"] == "improved"


def test_a_significant_change_that_does_not_matter_passes(small: Path, baseline: Path, change: Change) -> None:
    change("base_s: 0.01", "base_s: 0.0101")
    report = check([small], baseline)
    found = only(report)
    assert report.exit_code == 0
    verdict = next(one for one in found.verdicts if one.metric == "tpot_s.mean")
    assert verdict.status == "ok"
    assert verdict.p == pytest.approx(0.0, abs=1e-6)
    assert found.detectable is not None
    assert 0.02 <= found.detectable < 0.1
    assert any("the smallest change" in line for line in sentences(found, report))


def test_thresholds_are_the_files(small: Path, baseline: Path, change: Change, edit: Change) -> None:
    change("base_s: 0.01", "base_s: 0.0105")
    edit("threshold: 0.02", "threshold: 0.09")
    assert check([small], baseline).exit_code == 0
    edit("name: small", "name: small\n    thresholds: {tpot_s.mean: 0.04}")
    assert [name for name, status in statuses(check([small], baseline)).items() if status == "regression"] == [
        "tpot_s.mean"
    ]


def test_other_seeds_are_independent_samples(small: Path, baseline: Path) -> None:
    report = check([small], baseline, seed=99)
    found = only(report)
    assert not found.paired
    assert not found.identical
    assert found.replications == UNPAIRED * REPLICATIONS
    assert only(check([small], baseline, seed=99, replications=3)).replications == 3
    assert not found.having("regression")
    assert found.moved == []
    assert any("independent of those of the baseline" in line for line in sentences(found, report))


def test_a_policy_that_changed_is_named(small: Path, baseline: Path, change: Change) -> None:
    change("main: {", "main: {router: random, replicas: 2, ")
    found = only(check([small], baseline))
    assert found.moved == ["the scenario", "router/random (is new)", "router/round_robin (is gone)"]


def test_the_source_of_a_used_policy_counts_and_of_an_unused_one_does_not(
    small: Path, baseline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shutil import copytree

    from servesim.check import fingerprint as prints
    from servesim.scenario.load import load

    package = copytree(prints.PACKAGE, tmp_path / "servesim")
    recorded = load_baseline(baseline).scenarios["small.yaml"].made_from
    provenance = {
        "servesim": recorded.servesim, "engine_semantics": recorded.engine, "python": recorded.python,
        "numpy": recorded.numpy, "service_times": {"main": {"name": "affine"}},
    }  # fmt: skip

    def moved(file: str) -> list[str]:
        old = prints.fingerprint(load(small), small, provenance, package)
        path = package / file
        path.write_text(path.read_text() + "\n# changed\n")
        return prints.changes(old, prints.fingerprint(load(small), small, provenance, package))

    assert moved("policies/routing/round_robin.py") == ["router/round_robin (changed)"]
    assert moved("policies/routing/random.py") == []
    assert moved("policies/scheduling/ordered.py") == ["servesim itself"]
    assert moved("engine/continuous.py") == ["servesim itself"]
    assert moved("report/table.py") == []
    assert {"round_robin", "random"} <= set(kinds("router"))


def test_the_scenarios_own_attainment_must_be_met(small: Path, change: Change) -> None:
    change("ttft_s: 1.0", "ttft_s: 0.015")
    baseline = small.with_name("b.yaml")
    update([small], baseline, replications=2)
    report = check([small], baseline)
    assert only(report).identical
    assert [kept.limit for kept in only(report).missed] == ["chat.slo_attainment >= 0.9"]
    assert report.exit_code == 3


def test_assertions_are_about_means(small: Path, baseline: Path, edit: Change) -> None:
    edit("name: small", "name: small\n    assert: [ttft_s.p99 <= 0.5, goodput_rps >= 1.0]")
    assert check([small], baseline).exit_code == 0
    edit("ttft_s.p99 <= 0.5", "ttft_s.p90 <= 0.001")
    report = check([small], baseline)
    assert [kept.limit for kept in only(report).missed] == ["ttft_s.p90 <= 0.001"]
    assert report.exit_code == 3
    update([small], baseline)
    again = load_baseline(baseline).scenarios["small.yaml"]
    assert again.asserts == ["ttft_s.p90 <= 0.001", "goodput_rps >= 1.0"]
    assert "ttft_s.p90" in again.values
    assert len(again.seeds) == REPLICATIONS


def test_new_overload_has_its_own_exit_code(small: Path, baseline: Path, change: Change) -> None:
    change("num_requests: 200", "num_requests: 2000")
    update([small], baseline, replications=2)
    change("base_s: 0.01}", "base_s: 0.01}, engine: {max_num_seqs: 1}")
    change("request_rate_rps: 5.0", "request_rate_rps: 50.0")
    report = check([small], baseline)
    assert only(report).newly_overloaded
    assert report.exit_code == 4


def test_noise_is_inconclusive_and_not_a_pass(small: Path, change: Change) -> None:
    change("base_s: 0.01}", "base_s: 0.01, per_seq_s: 0.05}")
    change(", attainment: 0.9", "")
    baseline = small.with_name("noisy.yaml")
    update([small], baseline, replications=2)
    report = check([small], baseline, seed=12)
    assert report.exit_code == 5
    assert only(report).having("inconclusive")
    assert any(line.startswith("INCONCLUSIVE") for line in sentences(only(report), report))


def test_a_budget_ends_early_and_says_so(small: Path, baseline: Path, change: Change) -> None:
    change("base_s: 0.01", "base_s: 0.0101")
    report = check([small], baseline, budget_s=1e-9)
    assert only(report).replications == 1
    assert report.exit_code == 5
    assert any("the budget ended it after 1 of 5" in line for line in sentences(only(report), report))
    assert only(check([small], baseline, budget_s=3600.0)).replications == REPLICATIONS
    asked_more = only(check([small], baseline, replications=4 * REPLICATIONS))
    assert asked_more.paired
    assert asked_more.replications == REPLICATIONS


def test_a_metric_that_is_no_longer_defined_is_a_regression(small: Path, baseline: Path, change: Change) -> None:
    change("output_tokens: 16", "output_tokens: 1")
    report = check([small], baseline)
    assert statuses(report)["tpot_s.mean"] == "regression"
    assert report.exit_code == 3


def test_several_scenarios_are_one_family(small: Path, baseline: Path, change: Change) -> None:
    other = small.with_name("other.yaml")
    other.write_text(small.read_text())
    update([other], baseline, replications=3)
    assert set(load_baseline(baseline).scenarios) == {"small.yaml", "other.yaml"}
    change("base_s: 0.01", "base_s: 0.0105")
    report = check([small, other], baseline)
    assert [(one.key, one.exit_code) for one in report.scenarios] == [("small.yaml", 3), ("other.yaml", 0)]
    assert report.exit_code == 3
    text = report_markdown(report)
    assert "#### FAILED small.yaml" in text
    assert "#### PASSED other.yaml" in text
    assert "| metric | before | now |" in text


def test_json_holds_the_same_baseline(small: Path, baseline: Path) -> None:
    other = baseline.with_suffix(".json")
    update([small], other, replications=REPLICATIONS)
    assert load_baseline(other) == load_baseline(baseline)
    assert json.loads(other.read_text()) == yaml.safe_load(baseline.read_text())


def test_a_metric_of_ones_own_is_recorded(small: Path, baseline: Path) -> None:
    update([small], baseline, metrics=["chat.e2e_s.p90"])
    assert "chat.e2e_s.p90" in load_baseline(baseline).scenarios["small.yaml"].values
    with pytest.raises(InputError, match=r"did you mean e2e_s\.p9\d\?"):
        update([small], baseline, metrics=["e2e_s.p91"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("threshold: 0.02", "threshold: -0.02", r"baseline\.yaml:3:12: threshold: .*got -0\.02"),
        ("threshold: 0.02", "treshold: 0.02", r"baseline\.yaml:3:1: .*treshold"),
        ("detectable: 0.1", "detectable: 0.01", r"baseline\.yaml:4:13: detectable: must be above threshold"),
        ("format: 'servesim-baseline-1'", "format: x", r"baseline\.yaml:1:9: format: "),
        ("name: small", "name: small\n    assert: [ttft_s.p99 = 3]", r"expected METRIC <= NUMBER"),
        ("name: small", "name: small\n    thresholds: {e2e_s.maen: 0.1}", r"did you mean e2e_s\.mean\?"),
        ("name: small", "name: large", r"is of another scenario: 'large'"),
        ("small.yaml:", "smol.yaml:", r"has no scenario 'small.yaml'; did you mean smol.yaml\?"),
        ("seeds: [0, ", "seeds: [", r"5 for 4 seeds"),
        ("  small.yaml:", "  small.yaml: [", r"baseline\.yaml:\d+:\d+: "),
    ],
)
def test_a_bad_baseline_is_refused(small: Path, edit: Change, old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check([small], edit(old, new))


def test_all_faults_of_assertions_and_thresholds_are_said_at_their_places(
    small: Path, baseline: Path, edit: Change
) -> None:
    more = "\n    assert: [ttft_s.p99 = 3, ttft_s.p99 <= 3 ms]"
    with pytest.raises(InputError) as caught:
        check([small], edit("name: small", "name: small" + more))
    assert [str(one).split(": ")[0].rpartition("baseline.yaml")[2] for one in caught.value.problems] == [
        ":8:14",
        ":8:30",
    ]
    edit(more, "\n    thresholds: {tfft_s.mean: 0.1, e2e_s.maen: 0.1}")
    with pytest.raises(InputError) as caught:
        check([small], baseline)
    assert [(one.line, one.column) for one in caught.value.problems] == [(8, 18), (8, 36)]
    edit("thresholds: {tfft_s.mean: 0.1, e2e_s.maen: 0.1}", "assert: [tfft_s.p99 <= 3, e2e_s.p98 <= 3]")
    with pytest.raises(InputError) as caught:
        check([small], baseline)
    assert len(caught.value.problems) == 2


def test_a_missing_baseline_says_how_to_make_one(small: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such baseline; the same command with --update makes it"):
        check([small], tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(InputError, match="is no baseline"):
        check([small], tmp_path / "list.yaml")
    with pytest.raises(InputError, match="there is no folder"):
        update([small], tmp_path / "nowhere" / "b.yaml")
    with pytest.raises(InputError, match="against what"):
        check([small])


def test_an_assertion_about_an_unknown_metric_names_the_nearest(small: Path, baseline: Path, edit: Change) -> None:
    edit("name: small", "name: small\n    assert: [tfft_s.p99 <= 3]")
    with pytest.raises(InputError, match=r"did you mean ttft_s\.p99\?"):
        check([small], baseline)
