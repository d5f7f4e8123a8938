"""Plain YAML scalars by the core schema of YAML 1.2: `no` and `1:30` are text, `010` is ten, `1e3` is a float.

Source: YAML 1.2.2, section 10.3.2, https://yaml.org/spec/1.2.2/#1032-tag-resolution
"""

from __future__ import annotations

import math
import re

Scalar = str | int | float | bool | None

LARGEST_INT = 2**63 - 1
_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_PREFIXED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
# Longer digit strings cannot be a useful number, and reading them takes time quadratic in their length.
_LONGEST_NUMBER = 400


def core_scalar(text: str) -> Scalar:
    """Return what the plain scalar `text` means.

    Raises ValueError, with a message for the reader, for a number too long to be one or an integer outside 64 bits.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    if len(text) > _LONGEST_NUMBER:
        if _FLOAT.fullmatch(text):
            raise ValueError(f"a number of {len(text)} characters is too long; quote it if it is text")
        return text
    if _DECIMAL.fullmatch(text):
        value = int(text)
    elif _PREFIXED.fullmatch(text):
        value = int(text, 0)
    else:
        return float(text) if _FLOAT.fullmatch(text) else text
    if abs(value) > LARGEST_INT:
        raise ValueError(f"the integer {shortened(text)} is too large; the largest is {LARGEST_INT}")
    return value


def shortened(text: str, limit: int = 60) -> str:
    """Return `text` cut to `limit` characters for a message."""
    return text if len(text) <= limit else text[: limit - 3] + "..."
