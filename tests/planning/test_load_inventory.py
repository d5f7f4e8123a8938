"""Every inventory in `invalid_inventory/` has one fault, and its first line says what must be said of it."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from servesim.errors import InputError
from servesim.experiment.planning.growth import Growth
from servesim.scenario.inventory_schema import GrowthSpec, InventorySpec
from servesim.scenario.load_inventory import is_inventory, load_inventory
from tests.planning.fleet import fleet

INVALID = Path(__file__).parent / "invalid_inventory"


@pytest.mark.parametrize("path", sorted(INVALID.glob("*.yaml")), ids=lambda path: path.stem)
def test_one_fault_gives_one_problem_at_its_place(path: Path) -> None:
    begin = path.read_text().splitlines()[0].removeprefix("# expect: ")
    with pytest.raises(InputError) as caught:
        load_inventory(path)
    (problem,) = map(str, caught.value.problems)
    assert problem.startswith(f"{path}:{begin}")


def test_faults_of_all_models_are_said_at_once(tmp_path: Path) -> None:
    file = fleet(tmp_path, survive="all")
    text = file.read_text().replace("ttft_s", "ttfs_s")
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        load_inventory(file)
    assert len(caught.value.problems) == 3


def test_faults_of_the_schema_unknown_gpus_and_a_key_given_twice_are_said_together(tmp_path: Path) -> None:
    file = fleet(tmp_path)
    text = file.read_text().replace("llama-3.1-8b", "llama-9").replace("inventory:", "inventry: 1\ninventory:", 1)
    file.write_text(text + "\nname: again\nmax_breach: 7\n")
    with pytest.raises(InputError) as caught:
        load_inventory(file)
    said = str(caught.value)
    for words in ("unknown model 'llama-9'", "unknown key 'inventry'", "duplicate key 'name'", "max_breach: must be"):
        assert words in said


def test_an_inventory_is_told_from_plans_and_scenarios(tmp_path: Path) -> None:
    assert is_inventory(fleet(tmp_path))
    (tmp_path / "plan.yaml").write_text("scenario: x.yaml\ninventory: 3\n")
    assert not is_inventory(tmp_path / "plan.yaml")
    assert not is_inventory(tmp_path / "absent.yaml")


def test_the_last_node_may_be_part_of_one() -> None:
    inventory = InventorySpec.model_validate({"h100_sxm": 20, "l4": 0, "per_node": 8})
    assert inventory.nodes("h100_sxm") == [8, 8, 4]
    assert inventory.gpus == {"h100_sxm": 20}
    by_name = InventorySpec.model_validate({"h100_sxm": 16, "l4": 4, "per_node": {"h100_sxm": 8, "l4": 2}})
    assert by_name.nodes("l4") == [2, 2]


def test_growth_is_a_number_a_range_or_quantiles() -> None:
    assert Growth.of(GrowthSpec.model_validate(1.3)).equally_likely().tolist() == [1.3]
    between = Growth.of(GrowthSpec.model_validate({"from": 1.0, "to": 1.5})).equally_likely()
    assert (between.min() > 1.0, between.max() < 1.5) == (True, True)
    assert between.mean() == pytest.approx(1.25)
    quantiles = Growth.of(GrowthSpec.model_validate({"p10": 1.0, "p50": 1.2, "p90": 1.6}))
    assert quantiles.ends == pytest.approx((0.95, 1.7))
    demand = quantiles.equally_likely()
    assert [(demand <= limit).mean() for limit in (1.0, 1.2, 1.6)] == pytest.approx([0.1, 0.5, 0.9], abs=0.005)


def test_extreme_quantiles_never_ask_for_less_than_nothing() -> None:
    wide = Growth.of(GrowthSpec.model_validate({"p50": 0.1, "p60": 1.0}))
    assert wide.equally_likely().min() > 0
    with pytest.raises(ValidationError):
        GrowthSpec.model_validate(True)
