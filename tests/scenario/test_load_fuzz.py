"""Whatever the loader is given, it answers with a scenario or an InputError, and fast."""

import time
from contextlib import suppress

from hypothesis import example, given, settings
from hypothesis import strategies as st

from servesim.errors import InputError
from servesim.scenario.document_text import decoded
from servesim.scenario.load import parse
from servesim.scenario.schema import Scenario
from tests.scenario.samples import CHAT, TWO_POOLS

FAST = settings(max_examples=200, deadline=None)
FRAGMENTS = st.sampled_from([
    "name", "workload", "classes", "pools", "kind", "slo", "main", "chat", "poisson", "engine", "true", "null", "~",
    ":", ": ", "- ", "? ", "\n", "\n  ", "\n    ", " ", "\t", "[", "]", "{", "}", ", ", "'", '"', "|\n", ">\n", "#",
    "\\", "&a ", "*a", "!!str ", "!", "<<", "---\n", "...\n", "%YAML 1.1\n", "1", "-1", "1e999", ".nan", "0x", "9" * 30,
    "é", "\x85", "\u2028", "\ufeff", "\x00", "\x07", "@", "`", "😀",
])  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["x", "", "poisson", "no", "0.5s"])
KEYS = st.sampled_from([*Scenario.model_fields, "classes", "chat", "main", "kind", "slo", "rows", "cdf", "path", "x"])
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=20
)


def answered(text: str, overrides: tuple[str, ...] = ()) -> None:
    started_s = time.process_time()
    with suppress(InputError):
        assert isinstance(parse(text, overrides=overrides), Scenario)
    assert time.process_time() - started_s < 20  # against hanging; milliseconds are usual


@FAST
@given(st.binary(max_size=400))
@example(b"\xff\xfe\x00")
@example(b"a: \xed\xa0\x80")
def test_random_bytes(data: bytes) -> None:
    with suppress(InputError):
        answered(decoded(data, "f"))


@FAST
@given(st.lists(FRAGMENTS, max_size=40).map("".join))
def test_random_yaml_like_text(text: str) -> None:
    answered(text)


@FAST
@given(st.sampled_from([CHAT, TWO_POOLS]), st.integers(0, 2000), st.integers(0, 30), FRAGMENTS | st.text(max_size=5))
def test_scenarios_with_a_piece_replaced(text: str, start: int, length: int, piece: str) -> None:
    start %= len(text)
    answered(text[:start] + piece + text[start + length :])


@FAST
@given(st.sampled_from([CHAT, TWO_POOLS]), st.data())
def test_scenarios_with_any_value_anywhere(text: str, data: st.DataObject) -> None:
    lines = [line.strip().split(":")[0] for line in text.splitlines()]
    path = ".".join(data.draw(st.lists(st.sampled_from(lines) | KEYS | st.just("0"), min_size=1, max_size=5)))
    value = data.draw(VALUES.map(repr) | st.lists(FRAGMENTS, max_size=6).map("".join))
    answered(text, (f"{path}={value}", f"workload.classes.chat.{path}={value}"))


@FAST
@given(st.text(max_size=60))
def test_any_override(override: str) -> None:
    answered(CHAT, (override,))
