"""`--set path=value`."""

import pytest

from servesim.errors import InputError
from servesim.scenario.load import parse
from tests.scenario.samples import CHAT, TWO_POOLS


def test_values_are_yaml_and_later_ones_win() -> None:
    scenario = parse(CHAT, overrides=[
        "pools.main.replicas=2",
        "pools.main.replicas=4",
        "seed=0x10",
        "description='no'",
        "pools.main.router={kind: power_of_d, d: 3}",
        "workload.classes.chat.slo.tpot_s=5e-2",
        "client.clock=client",
        "workload.classes.chat.prompt_tokens={kind: quantiles, cdf: [[0, 0], [9, 1]]}",
        "pools.main.model=",
    ])  # fmt: skip
    main, chat = scenario.pools["main"], scenario.workload.classes["chat"]
    assert (main.replicas, scenario.seed, scenario.description, main.model) == (4, 16, "no", None)
    assert (main.router.kind, main.router.d) == ("power_of_d", 3)
    assert (chat.slo.ttft_s, chat.slo.tpot_s, scenario.client.clock) == (1.0, 0.05, "client")
    assert chat.prompt_tokens.cdf == ((0, 0), (9, 1))


def test_names_may_hold_dots_and_lists_have_indices() -> None:
    scenario = parse(
        TWO_POOLS, overrides=["workload.classes.v1.5.lengths.rows.1.0=57", "workload.classes.v1.5.priority=3"]
    )
    spec = scenario.workload.classes["v1.5"]
    assert spec.lengths.rows == ((12, 34), (57, 78, 0.1))
    assert spec.priority == 3


def test_setting_one_alias_leaves_the_others() -> None:
    text = CHAT.replace("slo: {", "slo: &slo {").replace(
        "pools:", "    other: {arrivals: all_at_once, prompt_tokens: 1, output_tokens: 1, slo: *slo}\npools:"
    )
    scenario = parse(text, overrides=["workload.classes.other.slo.ttft_s=7.0"])
    targets = {name: spec.slo.ttft_s for name, spec in scenario.workload.classes.items()}
    assert targets == {"chat": 1.0, "other": 7.0}


FAULTS = {
    "pools.main.replicas=0": "--set pools.main.replicas: must be at least 1, got 0",
    "pools.main.router.d=3": "--set pools.main.router.d: pools.main.router is the text 'least_outstanding', "
    "not a mapping; set it as a whole",
    "pools.main.router=foo": "--set pools.main.router: unknown router 'foo'; known: ",
    "pools.main.router={kind: power_of_d, e: 1}": "--set pools.main.router: unknown key 'e'; allowed: kind, d",
    "pools.main.engine.max_num_seq=1": "--set pools.main.engine.max_num_seq: pools.main.engine: unknown key "
    "'max_num_seq'; did you mean max_num_seqs? allowed: ",
    "pools.main.gpu=h1000": "--set pools.main.gpu: unknown GPU 'h1000'; did you mean h100",
    "seed": "--set seed: expected path=value, such as pools.main.replicas=4",
    "=1": "--set =1: expected path=value",
    "pools..x=1": "--set pools..x=1: expected path=value",
    "seed=[1": "--set seed: a list in [ ] lacks a comma or its closing ]",
    "seed=1\n---\n2": "--set seed: a second document starts here",
    "seed=a: b": "--set seed: write a mapping as {a: 1} and a list as [1, 2]",
    "seed=!!int 3": "--set seed: tag !!int is not allowed",
    "a." * 60 + "a=1": "--set " + ("a." * 100)[:121] + ": nested more than 50 deep",
}


@pytest.mark.parametrize(("override", "message"), FAULTS.items())
def test_faults_name_the_override(override: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(CHAT, overrides=[override])
    assert [str(problem)[: len(message)] for problem in caught.value.problems] == [message]


@pytest.mark.parametrize("step", ["2", "-1", "x", "١", "99999999999"])
def test_an_index_must_be_in_the_list(step: str) -> None:
    with pytest.raises(InputError, match=r"rows is a list: expected an index from 0 to 1, got "):
        parse(TWO_POOLS, overrides=[f"workload.classes.v1.5.lengths.rows.{step}=[1, 2]"])


def test_every_bad_override_is_reported_with_the_files_own_faults() -> None:
    with pytest.raises(InputError) as caught:
        parse(CHAT.replace("512", "0"), "f.yaml", ["seed=-1", "nothing"])
    assert [problem.file for problem in caught.value.problems] == ["--set nothing", "--set seed", "f.yaml"]


@pytest.mark.parametrize(("override", "advice"), [
    ("workload.classes.chta.priority=1", "did you mean workload.classes.chat?"),
    ("workload.classes.zzz.priority=1", None),
])  # fmt: skip
def test_a_class_or_pool_that_the_override_made_by_mistake(override: str, advice: str | None) -> None:
    with pytest.raises(InputError) as caught:
        parse(CHAT, overrides=[override])
    (problem,) = caught.value.problems
    assert problem.file == f"--set {override.partition('=')[0]}"
    assert problem.message.endswith(advice) if advice else "did you mean" not in problem.message


def test_a_pool_that_an_override_made_by_mistake_is_named() -> None:
    for override, advice in (
        ("pools.mian.replicas=2", "; 'mian' is new: did you mean pools.main?"),
        ("pools.z.replicas=2", ""),
    ):
        with pytest.raises(InputError) as caught:
            parse(CHAT, overrides=[override])
        (problem,) = caught.value.problems
        name = override.split(".")[1]
        assert problem.message == f"say which pool serves it: main, {name}{advice}"
