"""Every file in `invalid/` has one fault, and its first line says what must be said of it, with ` ... ` for
lists of names.

`files/` holds the faulty traces, lengths and configurations that some of them name.
"""

from pathlib import Path

import pytest

from servesim.catalog import gpus
from servesim.errors import InputError
from servesim.experiment.simulate import simulate
from servesim.scenario.load import load, parse, positioned
from servesim.scenario.load_words import _PATTERNS
from tests.scenario.samples import CHAT, VALID

INVALID = Path(__file__).parent / "invalid"
_EXPECT = b"# expect: "


def _problems(path: Path) -> list[str]:
    """Return what `servesim run` says of a scenario, when it loads it or when it begins to simulate."""
    try:
        scenario = load(path)
        try:
            simulate(scenario)
        except InputError as error:
            raise InputError(positioned(error.problems, path)) from error
    except InputError as error:
        return [str(problem) for problem in error.problems]
    return []


@pytest.mark.parametrize("path", sorted(INVALID.glob("*.yaml")), ids=lambda path: path.stem)
def test_one_fault_gives_one_problem_at_its_place(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SERVESIM_ALLOW_PATH", raising=False)
    first_line = path.read_bytes().split(b"\n")[0]
    assert first_line.startswith(_EXPECT)
    begin, *later = first_line.removeprefix(_EXPECT).decode().split(" ... ")
    (problem,) = _problems(path)
    place = f"{INVALID}/" if begin.startswith("files/") else f"{path}:"
    assert problem[: len(place + begin)] == place + begin
    for part in later:
        assert part in problem


def test_there_are_many_invalid_files() -> None:
    assert len(list(INVALID.glob("*.yaml"))) >= 200


@pytest.mark.parametrize("text", VALID.values(), ids=VALID.keys())
def test_without_a_fault_there_is_no_problem(text: str) -> None:
    assert parse(text).name in text


def test_all_problems_are_reported_in_the_order_of_the_file() -> None:
    text = CHAT.replace("100\n", "many\n").replace("4.0", "0").replace("main:", "main:\n    replica: 2\n    gpu: h100")
    text = text.replace("name: chat", "name: !!str chat")
    with pytest.raises(InputError) as caught:
        parse(text, "chat.yaml")
    assert [str(problem).partition("; ")[0] for problem in caught.value.problems] == [
        "chat.yaml:1:7: name: tag !!str is not allowed",
        "chat.yaml:3:17: workload.num_requests: expected a whole number, got the text 'many'",
        "chat.yaml:6:51: workload.classes.chat.arrivals.request_rate_rps: must be at least 1e-09, got 0",
        "chat.yaml:12:5: pools.main: unknown key 'replica'",
        "chat.yaml:15:5: pools.main: duplicate key 'gpu'",
        f"chat.yaml:15:10: pools.main.gpu: unknown GPU 'hmany'. Known: {', '.join(gpus())}",
    ]


def test_faults_of_the_schema_and_names_that_the_catalog_lacks_are_said_together() -> None:
    text = CHAT.replace(": 100\n", ": many\n").replace("model: llama-3.1-8b", "model: llama-9")
    with pytest.raises(InputError) as caught:
        parse(text.replace("gpu: h100", "gpu: h111"), "chat.yaml")
    assert [problem.path for problem in caught.value.problems] == [
        "workload.num_requests", "pools.main.model", "pools.main.gpu",
    ]  # fmt: skip


def test_of_a_key_given_twice_both_values_are_checked() -> None:
    twice = "prompt_tokens: many\n      prompt_tokens: {kind: lognormal, median_tokens: -1, sigma: 1}"
    with pytest.raises(InputError) as caught:
        parse(CHAT.replace("prompt_tokens: 512", twice).replace("gpu: h100", "gpu: hxxx"), "chat.yaml")
    said = [str(problem) for problem in caught.value.problems]
    assert any("duplicate key 'prompt_tokens'" in one for one in said)
    assert any("got the text 'many'" in one for one in said)
    assert any("median_tokens: must be" in one for one in said)
    assert any("unknown GPU" in one for one in said)


def test_keys_given_twice_are_counted_like_any_other_values() -> None:
    """Nested so, each level would double what is checked."""
    levels = [f"l{n}: &l{n} {{k: 1, k: [*l{n - 1}, *l{n - 1}]}}" for n in range(1, 30)]
    with pytest.raises(InputError, match="values, aliases expanded"):
        parse("\n".join(["l0: &l0 {k: 1}", *levels]), "chat.yaml")


def test_problems_carry_their_place_for_programs() -> None:
    with pytest.raises(InputError) as caught:
        parse(CHAT.replace("512", "0"), "chat.yaml")
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.column) == ("chat.yaml", 7, 22)
    assert problem.path == "workload.classes.chat.prompt_tokens"


def test_the_pattern_that_has_a_wording_is_the_schemas() -> None:
    with pytest.raises(InputError, match="at most 64"):
        parse(CHAT.replace("name: chat", "name: '-'"))
    assert len(_PATTERNS) == 1


def test_a_class_named_like_a_kind_keeps_its_place() -> None:
    text = CHAT.replace("    chat:", "    poisson:").replace("request_rate_rps: 4.0", "poisson: 1, request_rate_rps: x")
    with pytest.raises(InputError) as caught:
        parse(text)
    assert [str(problem).partition("; ")[0] for problem in caught.value.problems] == [
        "<text>:6:33: workload.classes.poisson.arrivals: unknown key 'poisson'",
        "<text>:6:63: workload.classes.poisson.arrivals.request_rate_rps: expected a number, got the text 'x'",
    ]


def test_every_fault_of_an_engine_without_its_kind_is_reported() -> None:
    text = CHAT.replace("kind: continuous, max_num_seqs: 256", "max_num_seq: 256, block-size: 16, watermark: 2")
    with pytest.raises(InputError) as caught:
        parse(text)
    assert [(problem.column, problem.path) for problem in caught.value.problems] == [
        (14, "pools.main.engine"),
        (32, "pools.main.engine"),
        (59, "pools.main.engine.watermark"),
    ]


def test_a_misspelt_key_is_not_missing_too() -> None:
    with pytest.raises(InputError) as caught:
        parse(CHAT.replace("request_rate_rps", "qps").replace("name: chat", "nam: chat"))
    assert [problem.message.partition(" allowed")[0] for problem in caught.value.problems] == [
        "unknown key 'nam'; did you mean name?",
        "unknown key 'qps'; did you mean request_rate_rps?",
    ]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("{mean: 800}", "{kind: lognormal, mean_tokens: 800, sigma: ...} or {kind: geometric, mean_tokens: 800}?"),
        ("{median_tokens: 500, sigma: 1}", "{kind: lognormal, median_tokens: 500, sigma: 1}?"),
        ("{min: 1, max: 9}", "{kind: uniform, min_tokens: 1, max_tokens: 9}?"),
        ("{tokens: 3}", "{kind: fixed, tokens: 3}?"),
    ],
)
def test_lengths_without_a_kind_lead_to_the_kinds_that_read_them(written: str, meant: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(CHAT.replace("prompt_tokens: 512", f"prompt_tokens: {written}"))
    (problem,) = caught.value.problems
    assert f"missing key 'kind' (which length); did you mean {meant} known: fixed, " in problem.message


@pytest.mark.parametrize("written", ["{}", "{foo: 1}", "{mean: many}", "{mean: 800, mean_tokens: 800}"])
def test_nothing_is_suggested_that_would_not_be_read(written: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(CHAT.replace("prompt_tokens: 512", f"prompt_tokens: {written}"))
    assert "did you mean" not in caught.value.problems[0].message


def test_a_key_without_its_unit_leads_to_the_one_with_it() -> None:
    with pytest.raises(InputError, match=r"unknown key 'mean'; did you mean mean_tokens\?"):
        parse(CHAT.replace("prompt_tokens: 512", "prompt_tokens: {kind: geometric, mean: 800}"))
