"""`servesim calibrate vllm-log`: iterations that vLLM itself logged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from servesim.calibrate.calibration_file import Source
from servesim.calibrate.iteration_fit import fit_iterations
from servesim.calibrate.iterations import Iterations, joined
from servesim.calibrate.target import Target, delivered, versions
from servesim.calibrate.vllm_iterations import is_recorded, read_recorded
from servesim.calibrate.vllm_text_log import read_text_log

_RECORDED = "every iteration, recorded inside vLLM's engine; device time is from the end of scheduling to the update"
_AHEAD = "every iteration, recorded inside vLLM's engine under one-ahead scheduling: from one update to the next"
_TEXT = "lines of --enable-logging-iteration-details; device time is the wait for the result"


def calibrate_logs(
    logs: Sequence[Path], target: Target, kv_tokens: int | None = None, block_size: int = 16
) -> tuple[list[str], dict[str, Any]]:
    """Fit the iterations of several logs and write the file; return lines to print and the same as data.

    A log is what the in-process hook recorded, or vLLM's text log with iteration details. Raises InputError for files
    that cannot be read.
    """
    parts: list[Iterations] = []
    notes: list[str] = []
    methods: list[str] = []
    settings: list[dict[str, Any]] = []
    found = []
    for log in logs:
        if is_recorded(log):
            meta, rows = read_recorded(log)
            found.append(meta.get("vllm"))
            one_ahead = bool(meta.get("async"))
            methods.append(_AHEAD if one_ahead else _RECORDED)
            if one_ahead:
                notes.append(f"{log.name}: scheduled one ahead, so that host time is hidden, or in the device time")
            settings.append(_settings(meta))
        else:
            text = read_text_log(log, kv_tokens, block_size)
            rows = text.iterations
            methods.append(_TEXT)
            notes += [note for note in text.notes if note not in notes]
            if text.speculative:
                notes.append(
                    f"{text.speculative} iterations decode several tokens a sequence (speculation); fitted as one"
                )
        parts.append(rows)
    rows = joined(parts)
    fitted = fit_iterations(rows, target.model)
    source = Source("vllm", versions(found), logs, "; ".join(dict.fromkeys(methods)), date=target.date)
    return delivered(target, fitted, rows, source, notes, engine=_common(settings))


def _common(settings: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the settings in which all logs agree."""
    first = settings[0] if settings else {}
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in settings)}


def _settings(meta: dict[str, Any]) -> dict[str, Any]:
    """Return the recorded engine settings under a scenario's names."""
    names = {
        "num_gpu_blocks": "num_gpu_blocks",
        "block_size": "block_size",
        "max_num_seqs": "max_num_seqs",
        "max_num_batched_tokens": "max_num_batched_tokens",
        "chunked": "enable_chunked_prefill",
        "async": "async_scheduling",
    }
    return {ours: str(meta[name]).lower() if isinstance(meta[name], bool) else meta[name]
            for name, ours in names.items() if meta.get(name) is not None}  # fmt: skip
