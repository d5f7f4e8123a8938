"""YAML as data: the core schema's scalars, and what is refused."""

import math

import pytest

from servesim.errors import InputError
from servesim.scenario.document import parse_document, plain
from servesim.scenario.document_text import MAX_BYTES, decoded
from servesim.scenario.load import load, parse
from tests.scenario.samples import CHAT

CORE_SCHEMA = {
    "1e3": 1000.0,
    "1.": 1.0,
    ".5": 0.5,
    "-0.0": -0.0,
    "+12": 12,
    "010": 10,
    "0o10": 8,
    "0x1F": 31,
    "-0x1F": "-0x1F",
    "no": "no",
    "on": "on",
    "yes": "yes",
    "True": True,
    "tRue": "tRue",
    "false": False,
    "~": None,
    "null": None,
    "nULL": "nULL",
    "1:30": "1:30",
    "1_000": "1_000",
    "-1_000": "-1_000",
    "2024-05-10": "2024-05-10",
    ".inf": math.inf,
    "-.Inf": -math.inf,
    "inf": "inf",
    "1e": "1e",
    "e3": "e3",
    ".": ".",
    "9223372036854775807": 2**63 - 1,
    "=": "=",
    "'1'": "1",
    '"\\u00e9"': "é",
}


@pytest.mark.parametrize(("text", "value"), CORE_SCHEMA.items())
def test_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    found = plain(parse_document(f"a: {text}", "f").root)["a"]
    assert found == value
    assert type(found) is type(value)


def test_nan_is_read_so_that_the_schema_can_refuse_it() -> None:
    assert math.isnan(plain(parse_document("a: .nan", "f").root)["a"])


def test_marks_point_at_keys_and_values() -> None:
    root = parse_document("a:\n  bé: {c: 'x'}\n  d: [1, 22]\n", "f").root
    inner = root.value["a"].node.value
    assert inner["bé"].key == ("f", 2, 3)
    assert inner["bé"].node.value["c"].node.mark == ("f", 2, 11)
    assert [child.mark for child in inner["d"].node.value] == [("f", 3, 7), ("f", 3, 10)]


def test_aliases_are_copies() -> None:
    data = plain(parse_document("a: &x {b: [1]}\nc: *x\nd: [*x, *x]\n", "f").root)
    assert data == {"a": {"b": [1]}, "c": {"b": [1]}, "d": [{"b": [1]}, {"b": [1]}]}
    assert data["a"] is not data["c"]


@pytest.mark.parametrize(("data", "message"), [
    ("name: é".encode("utf-16"), "f:1:1: is UTF-16"),
    ("name: é".encode("utf-32"), "f:1:1: is UTF-16"),
    ("a: 1\nname: é".encode("latin-1"), "f:2:7: byte 0xe9 is not UTF-8"),
    (b"a" * (MAX_BYTES + 1), "f: is larger than 5,000,000 bytes"),
])  # fmt: skip
def test_other_encodings_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(InputError) as caught:
        decoded(data, "f")
    assert str(caught.value).startswith(message)


def test_utf16_without_a_mark_is_recognised() -> None:
    with pytest.raises(InputError, match="f:1:2: a NUL character"):
        parse(decoded("name: x".encode("utf-16-le"), "f"), "f")


def test_a_byte_order_mark_is_skipped() -> None:
    assert decoded(b"\xef\xbb\xbfname: x", "f") == "name: x"


def test_files_that_cannot_be_read(tmp_path) -> None:
    (tmp_path / "chat.yaml").write_text(CHAT)
    for path, message in (
        (tmp_path / "caht.yaml", f"no such file; did you mean {tmp_path / 'chat.yaml'}?"),
        (tmp_path, "is a directory; expected a YAML file"),
        ("/dev/zero", "is not a regular file; expected a YAML file"),
        (tmp_path / "chat.yaml" / "x", "cannot be read: Not a directory"),
        ("a\0b", "cannot be read: "),
        ("x" * 5000, "cannot be read: File name too long"),
    ):
        with pytest.raises(InputError) as caught:
            load(path)
        assert str(caught.value).startswith(f"{path}: {message}")
