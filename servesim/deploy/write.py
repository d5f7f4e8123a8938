"""From a pool to the command that starts one replica of it, and to Kubernetes values for all."""

from __future__ import annotations

import math
import shlex
from typing import Any

import yaml

from servesim import catalog
from servesim.catalog import ModelFile
from servesim.deploy.flags import SERVERS, arguments
from servesim.engine.spec import ContinuousBatching
from servesim.scenario.schema import PoolSpec

_START = {
    "vllm": ("vllm", "serve"),
    "sglang": ("python", "-m", "sglang.launch_server", "--model-path"),
    "tgi": ("text-generation-launcher", "--model-id"),
}
_IMAGES = {"sglang": "lmsysorg/sglang:latest"}
_NO_CACHE = {
    "vllm": "prefix caching, on by default, was not simulated: shared prefixes make it faster than here",
    "sglang": "the radix cache, on by default, was not simulated: shared prefixes make it faster than here",
}
_CPUS_PER_GPU = 4
_VALUES = {
    "max_model_len": "maxModelLen",
    "tensor_parallel_size": "tensorParallelSize",
    "max_num_seqs": "maxNumSeqs",
    "gpu_memory_utilization": "gpuMemoryUtilization",
    "enable_chunked_prefill": "enableChunkedPrefill",
}


def deployment(pool: PoolSpec, name: str) -> dict[str, Any] | None:
    """Return {"command", "values", "notes", "alternatives"} for a resolved pool called `name`.

    `values` are those of the vLLM production stack's Helm chart, or of a plain Deployment for other servers;
    `alternatives` are the commands of other servers. None for pools that no such server runs (no model, another engine,
    a backend without a command here).
    """
    engine = pool.engine
    if not isinstance(engine, ContinuousBatching) or pool.model is None or pool.backend not in SERVERS:
        return None
    settings = said(engine)
    model, notes = model_id(pool.model)
    words, more = arguments(settings, pool.backend)
    notes += more
    if pool.backend in _NO_CACHE:
        notes.append(_NO_CACHE[pool.backend])
    values = _stack(pool, settings, model, name) if pool.backend == "vllm" else _plain(pool, words, model, name)
    others = [server for server in SERVERS if server != pool.backend]
    return {
        "server": pool.backend,
        "command": command(pool.backend, model, words),
        "values": yaml.safe_dump(values, sort_keys=False),
        "notes": notes,
        "alternatives": {server: command(server, model, arguments(settings, server)[0]) for server in others},
    }


_OWN_DEFAULTS = {"enable_chunked_prefill": True, "block_size": 16, "capacity_scheduler_policy": "max_utilization"}


def said(engine: ContinuousBatching) -> dict[str, Any]:
    """Return the settings worth a flag: all that were resolved, and of the rest those that are not the default."""
    found = {}
    for name, field in type(engine).model_fields.items():
        value = getattr(engine, name)
        default = field.get_default(call_default_factory=True)
        if name == "num_gpu_blocks":
            continue  # follows from the memory on the spot
        if _OWN_DEFAULTS.get(name) == value:
            continue  # what the server does by itself
        if value is None or (value == default and name not in ("tensor_parallel_size", "gpu_memory_utilization")):
            continue
        found[name] = value
    return found


def command(server: str, model: str, words: list[str]) -> str:
    """Return the command, one flag a line."""
    lines = [" ".join((*_START[server], shlex.quote(model)))]
    for word in words:
        if word.startswith("--"):
            lines.append(f"  {word}")
        else:
            lines[-1] += f" {shlex.quote(word)}"
    return " \\\n".join(lines)


def model_id(source: str | ModelFile) -> tuple[str, list[str]]:
    """Return the Hugging Face id of a pool's model, with a note where it had to be guessed."""
    if isinstance(source, ModelFile):
        name = source.name or "MODEL"
        return name, [f"{name} stands for the id or folder of the model of the config.json"]
    if "/" in source:
        return source, []
    known = catalog.model(source)
    ids = [alias for alias in known.aliases if "/" in alias]
    if not ids:
        return known.name, [f"{known.name} stands for the model's id on Hugging Face"]
    chosen = next((one for one in ids if one.endswith("-Instruct")), ids[0])
    return chosen, [f"{chosen} is one of the checkpoints of this shape: {', '.join(ids)}"] if len(ids) > 1 else []


def _memory_gi(pool: PoolSpec) -> int:
    assert isinstance(pool.engine, ContinuousBatching)
    assert pool.model is not None
    gpus = pool.engine.tensor_parallel_size * pool.engine.data_parallel_size
    weights = catalog.model_of(pool.model).weight_bytes_per_gpu(pool.engine.quantization, gpus) * gpus
    return max(16, 8 * math.ceil(1.25 * weights / 2**30 / 8))


def _stack(pool: PoolSpec, settings: dict[str, Any], model: str, name: str) -> dict[str, Any]:
    """Return values of the vLLM production stack's chart (helm/values.yaml of vllm-project/production-stack)."""
    assert isinstance(pool.engine, ContinuousBatching)
    gpus = pool.engine.tensor_parallel_size * pool.engine.data_parallel_size
    config: dict[str, Any] = {"enablePrefixCaching": True, "enableChunkedPrefill": pool.engine.enable_chunked_prefill}
    config |= {_VALUES[key]: value for key, value in settings.items() if key in _VALUES}
    rest, _ = arguments({key: value for key, value in settings.items() if key not in _VALUES}, "vllm")
    if rest:
        config["extraArgs"] = rest
    entry = {
        "name": name,
        "repository": "vllm/vllm-openai",
        "tag": "latest",
        "modelURL": model,
        "replicaCount": pool.replicas,
        "requestCPU": _CPUS_PER_GPU * gpus,
        "requestMemory": f"{_memory_gi(pool)}Gi",
        "requestGPU": gpus,
        "vllmConfig": config,
    }
    return {"servingEngineSpec": {"modelSpec": [entry]}}


def _plain(pool: PoolSpec, words: list[str], model: str, name: str) -> dict[str, Any]:
    """Return a Kubernetes Deployment."""
    assert isinstance(pool.engine, ContinuousBatching)
    gpus = pool.engine.tensor_parallel_size * pool.engine.data_parallel_size
    container = {
        "name": name,
        "image": _IMAGES[pool.backend],
        "command": [*_START[pool.backend], model],
        "args": words,
        "resources": {
            "requests": {"cpu": _CPUS_PER_GPU * gpus, "memory": f"{_memory_gi(pool)}Gi"},
            "limits": {"nvidia.com/gpu": gpus},
        },
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
    }
    labels = {"app": name}
    pod = {"containers": [container], "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": pool.replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
