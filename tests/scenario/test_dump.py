"""A loaded scenario as YAML again."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from servesim.scenario.dump import to_yaml
from servesim.scenario.load import load, parse
from tests.data import SCENARIOS
from tests.scenario.samples import CHAT, VALID


@pytest.mark.parametrize("text", VALID.values(), ids=VALID.keys())
def test_loading_the_dump_gives_an_equal_scenario(text: str) -> None:
    scenario = parse(text)
    dumped = to_yaml(scenario)
    assert parse(dumped) == scenario
    assert to_yaml(parse(dumped)) == dumped


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_shipped_scenarios_load_and_survive_the_dump(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / path.name
    copy.write_text(path.read_text())
    for name in re.findall(r"^ +(?:path|file): (\S+)$", copy.read_text(), re.MULTILINE):
        (tmp_path / name).touch()  # a trace to download: loading only looks whether it is there
    scenario = load(copy)
    assert parse(to_yaml(scenario), allow_paths=[tmp_path]) == scenario


CHAT_SCENARIO = parse(CHAT)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
TRICKY = st.sampled_from(["no", "1e3", "0o10", "0x1F", "1:30", "<<", "=", "~", "", " x ", "a: b", "- a", "010", ".inf",
                          "2024-05-10", "#x", "a\n b\n", "\ttab", "x\r\ny", "\x85", "\u2028", "9" * 500])  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(
    description=TEXT | TRICKY,
    rate=st.floats(1e-9, 1e9),
    base_s=st.floats(5e-324, 1e9),
    seed=st.integers(0, 2**63 - 1),
)
def test_any_text_and_any_number_survive(description: str, rate: float, base_s: float, seed: int) -> None:
    chat = CHAT_SCENARIO.workload.classes["chat"]
    arrivals = chat.arrivals.model_copy(update={"request_rate_rps": rate})
    changed = chat.model_copy(update={"arrivals": arrivals, "tenant": description, "timeout_s": base_s})
    workload = CHAT_SCENARIO.workload.model_copy(update={"classes": {"chat": changed}})
    update = {"description": description, "seed": seed, "workload": workload}
    scenario = CHAT_SCENARIO.model_copy(update=update)
    assert parse(to_yaml(scenario)) == scenario


@pytest.mark.parametrize("text", VALID.values(), ids=VALID.keys())
def test_a_yaml_1_1_reader_sees_the_same_texts(text: str) -> None:
    scenario = parse(text)
    read = yaml.safe_load(to_yaml(scenario))
    assert read["name"] == scenario.name
    assert read["description"] == scenario.description
    assert [c["tenant"] for c in read["workload"]["classes"].values()] == [
        spec.tenant for spec in scenario.workload.classes.values()
    ]


def test_the_dump_is_in_the_schemas_order_with_defaults_and_without_undecided_nulls() -> None:
    lines = to_yaml(CHAT_SCENARIO).splitlines()
    top = [line.split(":")[0] for line in lines if not line.startswith((" ", "-"))]
    assert top == ["name", "description", "seed", "workload", "pools", "client", "measurement", "limits"]
    assert "    replicas: 1" in lines
    assert not any("null" in line for line in lines)
