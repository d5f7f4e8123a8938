"""`servesim list`."""

import json

import pytest
from click.testing import CliRunner, Result

from servesim import registry
from servesim.catalog import gpus, models
from servesim.catalog.calibrations import calibrations
from servesim.cli import main


def show(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["list", *arguments])


def rows(*arguments: str) -> list[dict[str, object]]:
    result = show(*arguments, "--format", "json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_every_registered_kind_is_listed_with_its_meaning() -> None:
    sections = show().stdout.split("\n\n")
    assert len(sections) == len(registry.families()) + 1
    for family, section in zip(registry.families(), sections, strict=False):
        lines = section.splitlines()
        for name, cls in registry.kinds(family).items():
            line = next(line for line in lines if line.startswith(f"  {name} "))
            assert line.split()[1] == cls.__doc__.split()[0]


@pytest.mark.parametrize("family", registry.families())
def test_each_family_lists_all_keys_of_its_kinds(family: str) -> None:
    found = {row["kind"]: row for row in rows(family)}
    assert list(found) == list(registry.kinds(family))
    for name, cls in registry.kinds(family).items():
        keys = [field["name"] for field in found[name]["fields"]]
        assert keys == [key for key in cls.__pydantic_fields__ if key != "kind"]
        assert found[name]["meaning"]
        assert all(key in show(family).stdout for key in keys)


def test_defaults_units_and_limits() -> None:
    roofline = next(row for row in rows("service-times") if row["kind"] == "roofline")
    fields = {field["name"]: field for field in roofline["fields"]}
    assert fields["overhead_s"] == {
        "name": "overhead_s", "type": "number >= 0", "required": False, "default": 0.0, "unit": "seconds",
        "description": "seconds added to every iteration",
    }  # fmt: skip
    scheduler = next(field for field in rows("engine")[0]["fields"] if field["name"] == "scheduler")
    assert scheduler["default"] == "fcfs"
    rate = next(row for row in rows("arrivals") if row["kind"] == "poisson")["fields"][0]
    assert (rate["name"], rate["required"], rate["unit"]) == ("request_rate_rps", True, "requests/s")


def test_gpus_models_and_examples() -> None:
    assert [row["name"] for row in rows("gpus")] == list(gpus())
    assert all(row["sources"] for row in rows("gpus"))
    assert {row["name"]: row["parameters"] for row in rows("models")}["llama-3.1-8b"] == 8_030_261_248
    assert [row["name"] for row in rows("models")] == list(models())
    assert {"chat-llama31-8b-a100", "bench/w1"} <= {row["name"] for row in rows("examples")}
    for topic in ("gpus", "models", "examples"):
        text = show(topic).stdout
        assert all(str(row["name"]) in text for row in rows(topic))


def test_calibrations_as_counts_and_as_a_matrix() -> None:
    counts = [line.split() for line in show("calibrations").stdout.splitlines()[2:]]
    assert sum(int(cell) for line in counts[1:] for cell in line[1:] if cell != "-") == len(calibrations())
    chosen = rows("calibrations", "--gpu", "H100", "--model", "llama-3.1-8b")
    assert len(chosen) == len(calibrations("llama-3.1-8b", "h100_sxm")) > 0
    one = next(row for row in chosen if row["backend"] == "vllm" and row["precision"] == "fp8")
    line = f"{100 * one['held_back_error_median']:.1f} / {100 * one['held_back_error_p90']:.1f}"
    text = show("calibrations", "--gpu", "H100", "--model", "llama-3.1-8b").stdout
    assert text.splitlines()[2].split() == ["model", "gpu", "TP", "precision", "sglang", "trtllm", "vllm"]
    assert any(row.split()[2:4] == ["1", "fp8"] and row.endswith(line) for row in text.splitlines())
    assert "No calibration" in show("calibrations", "--gpu", "t4").stdout


@pytest.mark.parametrize(("arguments", "message"), [
    (["rooters"], "nothing called 'rooters' to list; did you mean routers?"),
    (["routers", "--gpu", "h100"], "--gpu and --model select calibrations"),
    (["calibrations", "--gpu", "h101"], "unknown GPU 'h101'; did you mean"),
])  # fmt: skip
def test_what_cannot_be_listed(arguments: list[str], message: str) -> None:
    result = show(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_calibrations_faster_than_the_gpu_are_marked() -> None:
    chosen = ("--gpu", "l40s", "--model", "qwen3-30b-a3b")
    faster = [row for row in rows("calibrations", *chosen) if row["faster_than_gpu"]]
    assert [(row["backend"], row["tensor_parallel_size"]) for row in faster] == [
        ("sglang", 1),
        ("trtllm", 1),
        ("vllm", 1),
    ]
    lines = show("calibrations", *chosen).stdout.splitlines()
    assert [line.count("*") for line in lines if line.startswith("qwen3")] == [3, 0]
    assert lines[-1].startswith("* faster than")
    assert "*" not in show("calibrations", "--gpu", "h100", "--model", "qwen3-30b-a3b").stdout
