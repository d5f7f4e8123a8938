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
from servesim.scenario.json_schema import scenario_schema
from servesim.scenario.load import parse
from tests.scenario.samples import VALID

TESTS = Path(__file__).parents[1]
SHIPPED = sorted((TESTS.parent / "scenarios").rglob("*.yaml"))
INVALID = sorted((TESTS / "scenario" / "invalid").glob("*.yaml"))
# Rules over several keys, names and files that must exist, and NaN and 1.0, which JSON has no words for.
BEYOND_A_SCHEMA = {
    "absolute_calibration", "batch_below_seqs", "cancel_never", "cancel_twice", "class_named_all",
    "empty_file_name", "float_for_whole_number",
    "gpu_incomplete", "lengths_beside_trace", "lengths_twice", "missing_output_tokens", "missing_trace",
    "model_config_missing", "nan_rate", "nul_in_file_name", "one_block", "patience_beyond_timeout", "pool_left_open",
    "retry_cap_below_first_wait", "retry_on_abandoned_without_patience", "trace_is_a_folder",
    "trace_outside_folder", "uniform_reversed", "unknown_gpu", "unknown_gpu_base", "unknown_kv_cache_dtype",
    "unknown_model", "unknown_pool", "unknown_quantization", "unused_pool", "window_reversed",
}  # fmt: skip


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


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
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
