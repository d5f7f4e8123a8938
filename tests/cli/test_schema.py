"""`servesim schema`: every valid scenario passes, and every file with a structural fault does not."""

import json
from pathlib import Path
from typing import Any, Literal

import jsonschema
import pytest
from click.testing import CliRunner

from servesim import registry
from servesim.cli import main
from servesim.errors import InputError
from servesim.policies.routing.base import Router
from servesim.registry import register
from servesim.request import Request
from servesim.scenario.document import parse_document, plain
from servesim.scenario.document_text import read_text
from servesim.scenario.dump import to_yaml
from servesim.scenario.json_schema import inventory_schema, plan_schema, scenario_schema
from servesim.scenario.load import parse
from servesim.scenario.load_inventory import is_inventory
from tests.data import PLANS, SCENARIOS
from tests.scenario.samples import VALID

TESTS = Path(__file__).parents[1]
INVALID = sorted((TESTS / "scenario" / "invalid").glob("*.yaml"))
# Rules over several keys, names and files that must exist, and NaN and 1.0, which JSON has no words for.
BEYOND_A_SCHEMA = {
    "absolute_calibration",
    "attainment_of_nothing",
    "batch_below_seqs",
    "batch_calibration_unnamed",
    "batch_size_weights",
    "batcher_bounds_crossed",
    "batcher_buckets_descend",
    "batcher_level_without_levels",
    "batcher_no_such_level",
    "batcher_preferred_too_large",
    "calibration_missing_backend",
    "calibration_missing_gpu",
    "calibration_missing_quantization",
    "calibration_missing_tp",
    "calibration_not_yaml",
    "calibration_of_a_model_never_measured",
    "cancel_after_tokens_of_a_whole_answer",
    "cancel_never",
    "cancel_twice",
    "cdf_not_increasing",
    "chunked_off_small_budget",
    "class_named_all",
    "empirical_rows_and_file",
    "empty_file_name",
    "faster_than_the_gpu",
    "float_for_whole_number",
    "fp8_on_a100",
    "gpu_consumer",
    "gpu_incomplete",
    "gpu_other_maker",
    "gpu_typo",
    "gpu_v100",
    "gpu_with_count",
    "gpu_with_count_behind",
    "gpu_wrong_memory",
    "hawkes_explodes",
    "hawkes_past_too_long",
    "lengths_beside_trace",
    "lengths_twice",
    "log_empty",
    "max_model_len_above_model",
    "min_above_max",
    "missing_calibration_inputs",
    "missing_gpu",
    "missing_model",
    "missing_output_tokens",
    "missing_prompt_tokens",
    "missing_trace",
    "mmpp_no_such_state",
    "mmpp_not_square",
    "mmpp_off_diagonal_negative",
    "mmpp_rows_do_not_sum",
    "mmpp_state_never_left",
    "mmpp_twice",
    "model_api",
    "model_config_directory",
    "model_config_incomplete",
    "model_config_missing",
    "model_config_not_json",
    "model_config_other_architecture",
    "model_missing_size",
    "model_old",
    "model_other_size",
    "model_path",
    "model_too_big",
    "model_too_big_for_small_gpu",
    "model_with_suffix",
    "mooncake_of_a_csv",
    "nan_rate",
    "nhpp_nobody_comes",
    "nhpp_points_go_back",
    "nhpp_spikes_overlap",
    "no_fp8_units_of_own_gpu",
    "nothing_ends",
    "nul_in_file_name",
    "num_gpu_blocks_negative",
    "nvfp4_on_h100",
    "one_block",
    "own_gpu_tiny_memory",
    "pairs_missing",
    "pairs_with_text",
    "pairs_without_header",
    "patience_beyond_timeout",
    "pool_left_open",
    "retry_cap_below_first_wait",
    "retry_on_abandoned_without_patience",
    "sessions_interrupt_never",
    "tensor_parallel_indivisible",
    "trace_bad_row",
    "trace_empty",
    "trace_header_only",
    "trace_is_a_folder",
    "trace_no_output",
    "trace_other_columns",
    "trace_outside_folder",
    "trace_unsorted",
    "trace_window_behind_end",
    "trace_wrong_case",
    "uniform_reversed",
    "unknown_gpu",
    "unknown_gpu_base",
    "unknown_model",
    "unknown_pool",
    "unused_pool",
    "window_reversed",
}


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft202012Validator:
    result = CliRunner().invoke(main, ["schema"])
    assert result.exit_code == 0
    return jsonschema.Draft202012Validator(json.loads(result.stdout))


def read(text: str) -> Any:
    """Return the plain data of a document; InputError if it is at fault as YAML already."""
    document = parse_document(text, "file")
    if document.problems:
        raise InputError(document.problems)
    return plain(document.root)


def test_it_is_a_schema_of_its_draft(schema: jsonschema.Draft202012Validator) -> None:
    assert schema.schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    schema.check_schema(schema.schema)


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_shipped_plans_are_valid_plans(path: Path) -> None:
    schema = inventory_schema() if is_inventory(path) else plan_schema()
    jsonschema.Draft202012Validator(schema).validate(read(path.read_text()))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_shipped_scenarios_are_valid(path: Path, schema: jsonschema.Draft202012Validator) -> None:
    schema.validate(read(path.read_text()))


@pytest.mark.parametrize("text", VALID.values(), ids=VALID.keys())
def test_samples_and_their_dumps_are_valid(text: str, schema: jsonschema.Draft202012Validator) -> None:
    schema.validate(read(text))
    schema.validate(read(to_yaml(parse(text))))


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_structural_faults_are_invalid(path: Path, schema: jsonschema.Draft202012Validator) -> None:
    try:
        data = read(read_text(path, str(path)))
    except InputError:
        return  # not even YAML as scenarios use it
    assert schema.is_valid(data) == (path.stem in BEYOND_A_SCHEMA)


def test_every_key_has_a_description_or_a_type_and_seconds_say_so(schema: jsonschema.Draft202012Validator) -> None:
    for definition in schema.schema["$defs"].values():
        assert definition["description"]
        for name, key in definition["properties"].items():
            assert key.keys() & {"description", "type", "const", "anyOf", "oneOf", "$ref"}
            assert not name.endswith("_s") or name.endswith("_per_s") or "second" in key["description"], name
    assert schema.schema["$defs"]["PoolSpec"]["properties"]["replicas"]["default"] == 1


def test_a_plugin_becomes_a_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._FAMILIES, "router", dict(registry.kinds("router")))

    @register("router")
    class ToTheLast(Router):
        """Send everything to the last replica."""

        kind: Literal["to_the_last"] = "to_the_last"

        def choose(self, request: Request) -> int:
            """Return 0."""
            return 0

    found = scenario_schema()
    assert "to_the_last" in found["$defs"]["PoolSpec"]["properties"]["router"]["anyOf"][0]["enum"]
    assert found["$defs"]["ToTheLast"]["required"] == ["kind"]
    registry._FAMILIES["router"].pop("to_the_last")
    registry._REGISTERED.append("the test is over")
    assert "ToTheLast" not in scenario_schema()["$defs"]


def test_it_is_written_to_a_file(tmp_path: Path) -> None:
    file = tmp_path / "servesim.schema.json"
    assert CliRunner().invoke(main, ["schema", "-o", str(file)]).exit_code == 0
    assert json.loads(file.read_text()) == scenario_schema()
