"""Hostile documents are refused after little work and in few words."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from servesim.errors import InputError
from servesim.scenario.document import MAX_KEYS, MAX_NODES, MAX_PROBLEMS
from servesim.scenario.load import load, parse
from servesim.scenario.load_paths import MAX_FILES
from tests.scenario.hostile import HOSTILE, _classes
from tests.scenario.samples import CHAT

_MOST_CALLS = 1_500_000  # of functions; about a second of Python at the very most
_MORE = ("there are more than these", "there may be more", "there are more problems", "reading stopped here")


class _Calls:
    """Counts the functions called, which is work that no clock disturbs."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, _frame: FrameType, event: str, _argument: Any) -> None:
        self.count += event in ("call", "c_call")

    def during(self, work: Callable[[], object]) -> int:
        before = sys.getprofile()
        sys.setprofile(self)
        try:
            work()
        finally:
            sys.setprofile(before)
        return self.count


def _refused(text: str) -> InputError:
    with pytest.raises(InputError) as caught:
        parse(text, "f")
    return caught.value


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_documents_are_refused_after_little_work_and_in_few_words(text: str) -> None:
    with pytest.raises(InputError):
        parse("name: [")  # what is built once is not counted
    errors: list[InputError] = []
    assert _Calls().during(lambda: errors.append(_refused(text))) < _MOST_CALLS
    (error,) = errors
    assert error.exit_code == 2
    assert len(error.problems) <= MAX_PROBLEMS + 1
    assert len(str(error)) < 50_000
    assert all(problem.file == "f" for problem in error.problems)


@pytest.mark.parametrize("name", [
    "many keys", "merge keys", "one key often", "list keys", "many huge integers", "unknown keys in engines",
    "unknown kinds", "wrong rows", "one bad class often", "keys within the limit", "files that lie deep",
])  # fmt: skip
def test_what_was_left_out_is_said(name: str) -> None:
    assert any(words in str(_refused(HOSTILE[name])) for words in _MORE)


def test_the_number_of_values_is_limited_with_aliases_expanded() -> None:
    inside = "a: &a [" + "x," * 99 + "x]\nb: [" + "*a," * (MAX_NODES // 101 - 2) + "x]"
    assert "values" not in str(_refused(inside))
    assert f"more than {MAX_NODES:,} values" in str(_refused(inside.replace(",x]\nb", "," * 1 + "x,x,x]\nb")))


def test_the_number_of_keys_is_limited() -> None:
    keys = [f"k{i}: 1\n" for i in range(MAX_KEYS + 1)]
    assert "keys in one mapping" not in str(_refused("".join(keys[:-1])))
    problem = _refused("".join(keys)).problems[-1]
    assert (problem.line, problem.message) == (
        MAX_KEYS + 1,
        "more than 1,000 keys in one mapping; reading stopped here",
    )


def test_the_number_of_files_is_limited(tmp_path: Path) -> None:
    rows = "x: [{kind: a, path: t.csv}" + ", {kind: a, path: t.csv}" * MAX_FILES + "]\n"
    (tmp_path / "t.csv").write_text("")
    (tmp_path / "s.yaml").write_text(rows + CHAT)
    with pytest.raises(InputError, match="more than 1,000 files; reading stopped here"):
        load(tmp_path / "s.yaml")


def test_a_large_honest_scenario_is_read() -> None:
    text = _classes(500, "{arrivals: {kind: constant, request_rate_rps: 1.0}, prompt_tokens: #1, output_tokens: 5}")
    assert len(parse(text).workload.classes) == 501
