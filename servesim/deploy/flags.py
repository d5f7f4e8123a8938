"""Which flag of which server says what of a pool's engine.

Checked against `vllm serve --help` (documentation of vLLM, "CLI Reference: vllm serve"), SGLang's documentation,
"Server Arguments", and that of Hugging Face's Text Generation Inference, "Text-generation-launcher arguments".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SWITCH = "switch"
WHOLE = "whole number"
NUMBER = "number"
WORD = "word"


@dataclass(frozen=True, slots=True)
class Flag:
    """One engine setting as a flag: its `name`, other spellings, and how its value is written.

    `words` maps our values to the server's where they differ; a value that is a key of neither side is passed on. Of a
    switch, `off` is what says false, and `on` is empty where true is what the server does anyhow. `note` says how the
    flag's meaning differs from the setting's.
    """

    setting: str
    name: str
    kind: str = WHOLE
    others: tuple[str, ...] = ()
    off: str = ""
    words: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


_FP8_KV = {"bf16": "bfloat16", "fp16": "float16"}
VLLM = (
    Flag("tensor_parallel_size", "--tensor-parallel-size", others=("-tp",)),
    Flag("data_parallel_size", "--data-parallel-size", others=("-dp",)),
    Flag("enable_expert_parallel", "--enable-expert-parallel", SWITCH, off="--no-enable-expert-parallel"),
    Flag("quantization", "--quantization", WORD, ("-q",)),
    Flag("kv_cache_dtype", "--kv-cache-dtype", WORD, words=_FP8_KV),
    Flag("max_num_seqs", "--max-num-seqs"),
    Flag("max_num_batched_tokens", "--max-num-batched-tokens"),
    Flag("max_model_len", "--max-model-len"),
    Flag("enable_chunked_prefill", "--enable-chunked-prefill", SWITCH, off="--no-enable-chunked-prefill"),
    Flag("scheduler", "--scheduling-policy", WORD),
    Flag("scheduler_reserve_full_isl", "--scheduler-reserve-full-isl", SWITCH, off="--no-scheduler-reserve-full-isl"),
    Flag("async_scheduling", "--async-scheduling", SWITCH, off="--no-async-scheduling"),
    Flag("watermark", "--watermark", NUMBER),
    Flag("block_size", "--block-size"),
    Flag("num_gpu_blocks", "--num-gpu-blocks-override"),
    Flag("gpu_memory_utilization", "--gpu-memory-utilization", NUMBER),
)
SGLANG = (
    Flag("tensor_parallel_size", "--tp-size", others=("--tp", "--tensor-parallel-size")),
    Flag("quantization", "--quantization", WORD),
    Flag("kv_cache_dtype", "--kv-cache-dtype", WORD, words={"fp8": "fp8_e4m3"}),
    Flag("max_num_seqs", "--max-running-requests"),
    Flag(
        "max_num_batched_tokens",
        "--chunked-prefill-size",
        note="bounds the prefill tokens of an iteration only, not those of decoding",
    ),
    Flag("max_model_len", "--context-length"),
    Flag("scheduler", "--schedule-policy", WORD),
    Flag("async_scheduling", "", SWITCH, off="--disable-overlap-schedule"),
    Flag("block_size", "--page-size"),
    Flag(
        "gpu_memory_utilization",
        "--mem-fraction-static",
        NUMBER,
        note="is of weights and KV cache alone, without activations and graphs; lower it if memory runs out",
    ),
)
TGI = (
    Flag("tensor_parallel_size", "--num-shard"),
    Flag("quantization", "--quantize", WORD),
    Flag("kv_cache_dtype", "--kv-cache-dtype", WORD, words={"fp8": "fp8_e4m3fn", "fp8_e4m3": "fp8_e4m3fn"}),
    Flag("max_num_batched_tokens", "--max-batch-prefill-tokens", note="bounds the prefill tokens of a batch only"),
    Flag("max_model_len", "--max-total-tokens"),
    Flag("gpu_memory_utilization", "--cuda-memory-fraction", NUMBER),
)
SERVERS: Mapping[str, tuple[Flag, ...]] = {"vllm": VLLM, "sglang": SGLANG, "tgi": TGI}

# What a checkpoint is stored in, and the server finds out by itself; a flag would ask it to convert.
_FROM_CHECKPOINT = {"int8", "mxfp8", "int4", "mxfp4", "nvfp4", "fp4"}
_DTYPES = {"bf16": "bfloat16", "fp16": "float16"}
_KV_OF = {
    "vllm": {"auto", "bfloat16", "float16", "bf16", "fp16", "fp8", "fp8_e4m3", "fp8_e5m2"},
    "sglang": {"auto", "bf16", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2"},
    "tgi": {"fp8", "fp8_e4m3", "fp8_e5m2"},
}
_SCHEDULERS = {"fcfs", "priority"}
# What the simulation assumes of the host and of memory, which no flag decides.
ASSUMPTIONS = frozenset(
    {
        "kind",
        "host_time_s",
        "host_time_per_seq_s",
        "admission_time_s",
        "admission_time_per_token_s",
        "non_kv_overhead_bytes",
        "resume_from_cache",
        "corrections",
        "iteration_time_per_layer_s",
        "communication_time_per_layer_s",
        "prefill_factor",
        "prefill_floor_per_layer_s",
        "context_factor",
        "batch_factor",
    }
)

# Settings of TensorRT-LLM, which is started from a file and not by flags: written as notes.
OF_TRTLLM = frozenset({"capacity_scheduler_policy", "batch_wait_timeout_iters", "batch_wait_max_tokens_ratio"})


def arguments(settings: Mapping[str, Any], server: str) -> tuple[list[str], list[str]]:
    """Return (arguments, notes): the flags of `server` that say what `settings` do, and what no flag can say.

    `settings` are engine settings by name, such as max_num_seqs; None values and assumptions of the simulation alone
    are left out.
    """
    found: list[str] = []
    notes: list[str] = []
    known = {flag.setting: flag for flag in SERVERS[server]}
    for name, value in settings.items():
        if value is None or name in ASSUMPTIONS:
            continue
        special = _special(name, value, server)
        if special is not None:
            found += special[0]
            notes += special[1]
        elif name not in known:
            notes.append(f"{name}: {value} has no flag of {server}; its own default holds")
        else:
            found += _written(known[name], value)
            if known[name].note:
                notes.append(f"{known[name].name} {known[name].note}")
    return found, notes


def _special(name: str, value: Any, server: str) -> tuple[list[str], list[str]] | None:
    """Return arguments and notes where a value decides which flag it is; None for the others."""
    if name == "quantization" and value in _DTYPES:
        return ["--dtype", _DTYPES[value]], []
    if name == "quantization" and value in _FROM_CHECKPOINT:
        return [], [f"quantization: name a checkpoint stored in {value}; the server finds its format out by itself"]
    if name == "kv_cache_dtype" and value not in _KV_OF[server]:
        return [], [] if value == "auto" else [f"kv_cache_dtype: {server} has no {value}"]
    if name == "num_gpu_blocks" and value == "unlimited":
        return [], ["num_gpu_blocks: unlimited cannot be deployed; memory decides"]
    if server == "sglang" and name == "enable_chunked_prefill":
        return ([] if value else ["--chunked-prefill-size", "-1"]), []
    if name == "scheduler":
        kind = value if isinstance(value, str) else value.kind
        if kind not in _SCHEDULERS or server == "tgi":
            return [], [] if kind == "fcfs" else [f"scheduler: {server} has no {kind}"]
        if server == "sglang" and kind == "priority":
            return ["--enable-priority-scheduling", "--schedule-low-priority-values-first"], []
        return _written(next(flag for flag in SERVERS[server] if flag.setting == name), kind), []
    return None


def _written(flag: Flag, value: Any) -> list[str]:
    if flag.kind == SWITCH:
        return [part for part in ((flag.name if value else flag.off),) if part]
    if flag.kind == NUMBER:
        return [flag.name, f"{value:g}" if float(f"{value:g}") == value else repr(value)]
    return [flag.name, flag.words.get(value, str(value)) if flag.kind == WORD else str(value)]
