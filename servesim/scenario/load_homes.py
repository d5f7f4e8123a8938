"""Where a key belongs that stands in the wrong place, and what other tools call the same thing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, get_args, get_origin

from servesim.registry import Kind, revision
from servesim.scenario.load_allowed import keys_of, schema_fields, type_at

Pattern = tuple[str, ...]
_ANY = "*"
_NAMES = {"pools": "POOL", "classes": "CLASS"}


def home_of(root: Any, path: Sequence[str | int], keys: Sequence[str]) -> str | None:
    """Return where in a scenario one of `keys` is read, or None: `arrivals.x` from here, or `pools.main.x` in full.

    `path` is the mapping in which the key stands. Of several homes the one with most in common with it is taken.
    """
    here = tuple(map(str, path))
    found = [
        (home, key)
        for home, read in _homes(root, revision())
        for key in keys
        # Another kind reads the key where it already stands: that is no advice.
        if key in read and key != "kind" and not _in_common(home, here) == len(home) == len(here)
    ]
    if not found:
        return None
    home, key = max(found, key=lambda item: (_in_common(item[0], here), -len(item[0])))
    common = _in_common(home, here)
    if common == len(here) < len(home):
        return ".".join([*_named(home, here)[common:], key])
    return ".".join([*_named(home, here), key])


@lru_cache(maxsize=4)
def _homes(root: Any, _revision: int) -> tuple[tuple[Pattern, tuple[str, ...]], ...]:
    """Return every mapping of the schema below `root` with the keys it reads; `*` stands for a name of one's own."""
    return tuple(_walk(root, ()))


def _walk(reader: Any, path: Pattern) -> Iterator[tuple[Pattern, tuple[str, ...]]]:
    if isinstance(reader, Kind):
        for choice in reader.choices().values():
            yield from _walk(choice, path)
    elif get_origin(reader) is dict:
        yield from _walk(get_args(reader)[1], (*path, _ANY))
    elif schema_fields(reader):
        yield path, tuple(keys_of(reader))
        for name in schema_fields(reader):
            yield from _walk(type_at(reader, [name]), (*path, name))


def _in_common(home: Pattern, here: Pattern) -> int:
    """Return how many steps both ways share from the top."""
    same = [a in (b, _ANY) for a, b in zip(home, here, strict=False)]
    return same.index(False) if False in same else len(same)


def _named(home: Pattern, here: Pattern) -> list[str]:
    """Return the way to a home with the names of `here` as far as both go together, and a capital word beyond."""
    shared = _in_common(home, here)
    return [
        here[i] if i < shared else _NAMES.get(home[i - 1], "NAME") if step == _ANY else step
        for i, step in enumerate(home)
    ]


_SYNONYMS: dict[str, tuple[str, ...]] = {
    "tensor_parallel_size": ("tp", "tp_size", "tensor_parallel", "tensor_parallelism", "num_gpus", "gpus", "gpu_count"),
    "max_num_seqs": ("max_batch_size", "batch_size", "max_running_requests", "max_seqs", "max_num_sequences"),
    "max_num_batched_tokens": ("max_batched_tokens", "max_prefill_tokens", "chunked_prefill_size", "token_budget"),
    "max_model_len": ("max_seq_len", "max_seq_length", "context_length", "max_context", "context_len"),
    "gpu_memory_utilization": ("mem_fraction_static", "gpu_memory_fraction", "memory_utilization", "gpu_mem_util"),
    "kv_cache_dtype": ("kv_dtype", "kv_cache_type", "kv_precision"),
    "quantization": ("dtype", "precision", "quant", "weight_dtype", "weights"),
    "block_size": ("page_size", "kv_block_size"),
    "num_gpu_blocks": ("num_gpu_blocks_override", "num_blocks", "kv_blocks", "kv_cache_blocks"),
    "scheduler": ("scheduling_policy", "schedule_policy", "scheduling"),
    "request_rate_rps": ("rate", "qps", "rps", "request_rate", "rate_rps", "arrival_rate", "lambda", "requests_per_s"),
    "max_concurrency": ("concurrency", "users", "clients", "num_users", "num_clients"),
    "arrivals": ("arrival", "arrival_process", "trace"),
    "prompt_tokens": ("input_tokens", "input_len", "input_length", "isl", "prompt_len", "prompt_length", "prompt"),
    "output_tokens": (
        "output_len",
        "output_length",
        "osl",
        "max_tokens",
        "completion_tokens",
        "output",
        "max_new_tokens",
    ),
    "num_requests": ("num_prompts", "requests", "n_requests", "max_requests", "count"),
    "duration_s": ("duration", "duration_seconds", "time_s", "length_s", "horizon_s"),
    "replicas": ("num_replicas", "instances", "n_replicas", "workers", "servers", "data_parallel_size", "dp"),
    "router": ("routing", "routing_policy", "load_balancer", "balancer"),
    "gpu": ("device", "gpu_type", "hardware", "accelerator", "gpu_name", "gpu_model"),
    "model": ("model_name", "model_id", "model_path", "checkpoint"),
    "backend": ("framework", "engine_name", "runtime"),
    "service_time": ("latency_model", "iteration_time", "performance_model", "calibration"),
    "usd_per_gpu_hour": ("price", "cost", "price_per_hour", "gpu_price", "cost_per_hour", "usd_per_hour"),
    "pools": ("pool", "deployments", "deployment", "cluster", "clusters"),
    "classes": ("class", "request_classes", "clients"),
    "workload": ("load", "traffic", "workloads"),
    "slo": ("slos", "targets", "target", "sla"),
    "timeout_s": ("timeout", "deadline_s", "timeout_seconds"),
    "path": ("file", "filename", "trace", "trace_path", "trace_file"),
    "file": ("path", "filename"),
    "seed": ("random_seed", "rng_seed"),
}
NOT_SIMULATED = frozenset(
    [
        "pipeline_parallel_size",
        "pp",
        "enable_prefix_caching",
        "speculative_config",
        "num_speculative_tokens",
        "swap_space",
        "cpu_offload_gb",
        "enable_lora",
        "enable_expert_parallel",
    ]
)
"""What engines have and servesim leaves out; a key that a scenario does read is never looked up here."""
_MEANT: dict[str, list[str]] = {}
for _name, _others in _SYNONYMS.items():
    for _other in _others:
        _MEANT.setdefault(_other, []).append(_name)


def meanings(key: str) -> list[str]:
    """Return the keys that `key` may mean: itself as servesim spells keys, and what other tools call so."""
    folded = key.lower().lstrip("-").replace("-", "_")
    return [folded, *_MEANT.get(folded, ())]
