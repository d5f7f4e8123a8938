"""Every plan in `invalid/` has one fault, and its first line says what must be said of it."""

from pathlib import Path

import pytest

from servesim.errors import InputError
from servesim.scenario.load_plan import load_plan
from tests.scenario.samples import CHAT

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


def test_faults_of_all_parts_are_said_together(tmp_path: Path) -> None:
    """The schema's, names that no catalog has, and a key given twice."""
    text = (INVALID / "fault_inside_scenario.yaml").read_text()
    parts = text.replace("engine: {kind: station}, service_time: {kind: exponential, mean_s: 0.1}", "model: m, gpu: g")
    (tmp_path / "plan.yaml").write_text(parts + "  gpu: [h111]\natainment: 0.9\nname: again\n")
    with pytest.raises(InputError) as caught:
        load_plan(tmp_path / "plan.yaml")
    said = [str(problem).removeprefix(f"{tmp_path}/plan.yaml:") for problem in caught.value.problems]
    expected = (
        "9:53: scenario.workload.classes.a.arrivals.request_rate_rps: must be at least",
        "14:19: scenario.pools.main.model: unknown model 'm'",
        "14:27: scenario.pools.main.gpu: unknown GPU 'g'",
        "17:9: space.gpu.0: unknown GPU 'h111'",
        "18:1: unknown key 'atainment'",
        "19:1: duplicate key 'name'",
    )
    for found, begin in zip(said, expected, strict=True):
        assert found.startswith(begin)


def test_a_fault_of_the_plan_does_not_hide_what_is_wrong_with_its_space_and_its_scenarios_file(tmp_path: Path) -> None:
    (tmp_path / "chat.yaml").write_text(CHAT.replace("512", "0"))
    plan = "scenario: chat.yaml\nspace: {gpu: [h111], replicas: {most: 4}}\nrnk: 2\n"
    (tmp_path / "plan.yaml").write_text(plan)
    with pytest.raises(InputError) as caught:
        load_plan(tmp_path / "plan.yaml")
    assert [problem.path or problem.message.split(";")[0] for problem in caught.value.problems] == [
        "workload.classes.chat.prompt_tokens", "space.gpu.0", "unknown key 'rnk'",
    ]  # fmt: skip
    (tmp_path / "chat.yaml").write_text(CHAT)
    (tmp_path / "plan.yaml").write_text(plan.replace("space: {", "space: {engine: {max_num_sqs: [1]}, "))
    with pytest.raises(InputError) as caught:
        load_plan(tmp_path / "plan.yaml")
    assert [problem.path for problem in caught.value.problems] == ["space.engine.max_num_sqs", "space.gpu.0", ""]
