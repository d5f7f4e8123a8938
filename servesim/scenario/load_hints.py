"""How to write what was probably meant by a value of the wrong kind."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_LONGEST = 40
_NUMBER = r"([-+]?[0-9]+(?:\.[0-9]*)?(?:e-?[0-9]+)?)"
_TIME = re.compile(_NUMBER + r" ?(us|ms|s|sec|secs|seconds?|m|min|mins|minutes?|h|hours?)")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(_NUMBER + r" ?([KMGT])(i?)B?", re.IGNORECASE)
_POWERS = "kmgt"
_RATE = re.compile(_NUMBER + r" ?(?:/|per )?(s|sec|second|rps|qps|m|min|minute|rpm|h|hour)")
_PER_SECOND = {"s": 1.0, "r": 1.0, "q": 1.0, "m": 1 / 60, "h": 1 / 3600}


def number_hint(text: str, key: str, *, whole: bool) -> str:
    """Return `; write 0.2` for a text such as `200ms` where the number `key` belongs, or nothing."""
    if len(text) > _LONGEST:
        return ""
    if re.fullmatch(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?", text):
        return "; leave out the quotes"
    word = text.lower().strip()
    if word in ("inf", "infinity"):
        return "; for all requests at once write kind: all_at_once" if key.endswith("_rps") else ""
    if word in ("unlimited", "none"):
        return "; leave the key out, or write null"
    return _in_unit(text, key) or _plain_number(text, whole)


def _in_unit(text: str, key: str) -> str:
    if key.endswith("_s") and (time := _TIME.fullmatch(text)):
        unit = time[2] if time[2] in _SECONDS else time[2][0]
        return f"; in seconds, without a unit: {float(time[1]) * _SECONDS[unit]:g}"
    if key.endswith("_rps") and (rate := _RATE.fullmatch(text)):
        factor = 1 / 60 if rate[2] == "rpm" else _PER_SECOND[rate[2][0]]
        return f"; in requests per second, without a unit: {float(rate[1]) * factor:g}"
    if size := _SIZE.fullmatch(text):
        binary = bool(size[3]) or (size[2] == "k" and key.endswith(("_len", "_tokens")))
        value = float(size[1]) * (1024 if binary else 1000) ** (_POWERS.index(size[2].lower()) + 1)
        return f"; in full: {value:.0f}"
    return ""


def _plain_number(text: str, whole: bool) -> str:
    if text.endswith("%") and re.fullmatch(_NUMBER, text[:-1].strip()):
        return f"; as a fraction: {float(text[:-1]) / 100:g}"
    if re.fullmatch(r"[0-9]{1,3}(?:[,_' ][0-9]{3})+", text):
        return f"; without separators: {re.sub('[^0-9]', '', text)}"
    if not whole and re.fullmatch(r"[0-9]+,[0-9]+", text):
        return f"; with a decimal point: {text.replace(',', '.')}"
    if bare := re.fullmatch(r"[$€£] ?" + _NUMBER + r"|" + _NUMBER + r" ?(?:[$€£]|usd|USD)", text):
        return f"; without the currency: {bare[1] or bare[2]}"
    return ""


def conversion(value: Any, expected: str, key: str) -> str:
    """Return how to write what was probably meant by `value` where `expected` belongs, or nothing."""
    whole = expected.startswith("a whole number")
    if isinstance(value, float) and whole and value.is_integer() and abs(value) < 1e18:
        return f"; write {int(value)}"
    if isinstance(value, str) and "number" in expected:
        return number_hint(value, key, whole=whole)
    if isinstance(value, list) and expected in ("a whole number", "a number"):
        return "; one run takes one value: repeat the run with --set for the others"
    if expected == "text" and isinstance(value, bool | int | float):
        return "; put it in quotes"
    if expected == "true or false" and isinstance(value, str):
        return {"yes": "; write true", "on": "; write true", "no": "; write false", "off": "; write false"}.get(
            value.lower(), ""
        )
    return ""


def kind_hint(value: Any, family: str) -> str:
    """Return the mapping that was probably meant where a choice of `family` belongs, or nothing."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if family == "arrivals" and number:
        return f"; did you mean {{kind: poisson, request_rate_rps: {value}}}?"
    if family == "length" and isinstance(value, list) and len(value) == 2:
        return "; did you mean {kind: uniform, min_tokens: ..., max_tokens: ...}?"
    if family == "engine" and isinstance(value, str):
        return "; whose kernels are timed is the pool's `backend`" if value in ("vllm", "sglang", "trtllm") else ""
    return ""


def file_hint(tag: str, family: str) -> str:
    """Return how to name a file where a kind was expected: `arrivals: trace.csv`."""
    if family in ("arrivals", "joint_length") and re.fullmatch(r"[^{}]+\.(csv|jsonl|json|parquet|gz)", tag[-_LONGEST:]):
        return "; for a file write {kind: log, path: ...}"
    return ""


_OTHER_NAMES = {
    "least_outstanding": ("jsq", "least_loaded", "least_connections", "least_requests", "least_busy", "shortest_queue"),
    "power_of_d": ("p2c", "power_of_two", "power_of_two_choices", "two_choices"),
    "round_robin": ("rr", "cyclic", "roundrobin"),
    "fcfs": ("fifo", "first_come_first_served"),
    "shortest_prompt": ("sjf", "shortest_job_first", "srpt"),
    "poisson": ("exponential", "memoryless"),
    "constant": ("deterministic", "uniform_arrivals", "fixed_rate"),
    "all_at_once": ("offline", "batch", "burst", "inf"),
    "closed_loop": ("concurrency", "closed"),
    "empirical": ("pairs", "observed"),
    "fixed": ("constant", "deterministic"),
    "continuous": ("vllm", "sglang", "trtllm", "continuous_batching"),
    "roofline": ("estimate", "analytical"),
    "awq": ("w4a16", "q4", "4bit", "awq_marlin", "bnb"),
    "gptq": ("gptq_marlin",),
    "fp8": ("w8a8", "fp8_e4m3", "float8", "e4m3"),
    "bf16": ("bfloat16", "16bit"),
}


def other_name(word: str, known: Sequence[str]) -> str | None:
    """Return which of `known` other tools call `word`, or None."""
    folded = word[:_LONGEST].lower().replace("-", "_")
    return next((name for name, others in _OTHER_NAMES.items() if name in known and folded in others), None)
