"""The lines that `vllm serve --enable-logging-iteration-details` writes, one per iteration.

    INFO 04-22 12:53:55 [loggers.py:189] Engine 000: Iteration(42): 1 context requests, 512 context tokens,
    31 generation requests, 31 generation tokens, iteration elapsed time: 21.24 ms, GPU KV cache usage: 41.2%

Read in vLLM 0.32 (`vllm/v1/metrics/loggers.py`); older ones end after `ms`. The elapsed time is what the
engine waited for the result, which leaves out scheduling, launching and updating: that is estimated from the lines'
own times of the day. Contexts are not logged: their sum comes from the KV cache's usage and its size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from servesim.calibrate.iterations import Floats, Iterations
from servesim.calibrate.vllm_iterations import lines
from servesim.errors import InputError, Problem

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ITERATION = re.compile(
    r"(?:Engine (?P<engine>\d+): |EngineCore_DP(?P<rank>\d+)\b.*?)?Iteration\((?P<index>\d+)\): "
    r"(?P<prefill_seqs>\d+) context requests, (?P<prefill_tokens>\d+) context tokens, "
    r"(?P<decode_seqs>\d+) generation requests, (?P<decode_tokens>\d+) generation tokens, "
    r"iteration elapsed time: (?P<ms>[0-9.]+) ms(?P<dummy> \(dummy\))?"
    r"(?:, \w+ KV cache usage: (?P<usage>[0-9.]+)%)?"
)
_TIME = re.compile(r"\b(\d\d-\d\d \d\d:\d\d:\d\d)\b")
_KV_TOKENS = re.compile(r"KV cache size: ([\d,]+) tokens")
_LONGEST_S = 86_400.0
_LEAST_WINDOWS = 5


@dataclass(frozen=True, slots=True)
class TextLog:
    """A text log's iterations, what it does not tell, and in how many lines more than one token was decoded at once."""

    iterations: Iterations
    kv_tokens: int | None
    notes: list[str]
    speculative: int


def read_text_log(path: Path, kv_tokens: int | None = None, block_size: int = 16) -> TextLog:
    """Return the iterations of the log `path`; InputError if it holds none, or a line that stops midway.

    `kv_tokens` is the size of the KV cache; default: what the log itself says of it.
    """
    found, sizes = [], []
    for number, line in lines(path):
        line = _COLOUR.sub("", line)
        if (said := _KV_TOKENS.search(line)) is not None:
            sizes.append(int(said[1].replace(",", "")))
        if "Iteration(" not in line:
            continue
        match = _ITERATION.search(line)
        if match is None:
            last = "" if line.endswith("\n") else ": the last line, without which the file can be read"
            message = f"names an iteration but is not a line of --enable-logging-iteration-details (cut short?){last}"
            raise InputError(Problem(message, file=str(path), line=number))
        if match["dummy"] is None:
            found.append((match, _second(line)))
    if not found:
        message = "no line of an iteration: start vLLM with --enable-logging-iteration-details"
        raise InputError(Problem(message, file=str(path)))
    size = kv_tokens or (sizes[-1] if sizes else None)
    return _log(found, size, block_size)


def _second(line: str) -> float:
    """Return the line's time of the year in seconds, or NaN."""
    match = _TIME.search(line)
    if match is None:
        return float("nan")
    try:
        return (datetime.strptime(f"2000-{match[1]}", "%Y-%m-%d %H:%M:%S") - datetime(2000, 1, 1)).total_seconds()
    except ValueError:
        return float("nan")


def _log(found: list[tuple[re.Match[str], float]], kv_tokens: int | None, block_size: int) -> TextLog:
    def column(name: str) -> Floats:
        return np.array([float(match[name] or "nan") for match, _ in found])

    prefill_tokens, prefill_seqs = column("prefill_tokens"), column("prefill_seqs")
    decode_seqs, usage = column("decode_seqs"), column("usage")
    notes = ["prompts are taken as computed whole: the log does not say what was computed of them before"]
    if kv_tokens is None or not np.isfinite(usage).all():
        context = np.zeros(len(found))
        notes.append("the log does not tell the contexts (KV usage and size): their cost cannot be told")
    else:
        # Half a block of each sequence is empty on average, and what was just prefilled is no decode context.
        used = usage / 100.0 * kv_tokens - 0.5 * block_size * (decode_seqs + prefill_seqs) - prefill_tokens
        context = np.where(decode_seqs > 0, np.maximum(used, decode_seqs), 0.0)
        notes.append(f"contexts come from the KV cache's usage, to {kv_tokens / 1000:.0f} tokens (0.1 %)")
    speculative = int((column("decode_tokens") > decode_seqs).sum())
    device_s, engine = column("ms") / 1e3, np.array([int(m["engine"] or m["rank"] or 0) for m, _ in found])
    host_s = np.full(len(found), np.nan)
    for one in np.unique(engine):
        mine = engine == one
        host = _host_s(np.array([second for _, second in found])[mine], device_s[mine])
        host_s[mine] = np.nan if host is None else host
    if np.isnan(host_s).all():
        notes.append("the log is too short, or its lines carry no time: host time is not known")
    else:
        notes.append("host time is what lies between logged times of iterations, by lines per second")
    length = prefill_tokens / np.maximum(prefill_seqs, 1.0)
    iterations = Iterations(
        prefill_tokens, prefill_seqs, prefill_tokens * (length + 1.0) / 2.0, decode_seqs, context, device_s, host_s,
        np.zeros(len(found)),
        engine.astype(np.int64),
    )  # fmt: skip
    return TextLog(iterations[(device_s > 0) & (iterations.tokens > 0)], kv_tokens, notes, speculative)


def _host_s(seconds: Floats, device_s: Floats) -> float | None:
    """Return host seconds per iteration: the lower quartile over busy stretches of what the logged times leave.

    Lines carry whole seconds; idle spells only ever add, hence a low quantile. Stretches are 10 seconds long.
    """
    if not np.isfinite(seconds).all() or seconds[-1] - seconds[0] > _LONGEST_S:
        return None
    starts = np.flatnonzero(np.diff(seconds, prepend=-1.0) > 0)  # the first line of each second
    found = []
    for begin, end in _stretches(seconds[starts], 10.0):
        first, last = starts[begin], starts[end]
        left = (seconds[last] - seconds[first]) - device_s[first:last].sum()
        found.append(max(left, 0.0) / (last - first))
    return float(np.quantile(found, 0.25)) if len(found) >= _LEAST_WINDOWS else None


def _stretches(seconds: Floats, length_s: float) -> Iterator[tuple[int, int]]:
    begin = 0
    for end in range(1, len(seconds)):
        if seconds[end] - seconds[begin] >= length_s:
            if seconds[end] - seconds[begin] < 1.5 * length_s:
                yield begin, end
            begin = end
