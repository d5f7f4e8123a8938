"""Flags that the simulation does not read, and what they would do."""

from __future__ import annotations

_SPEED = "changes how long an iteration takes; the service times are of the default"
_FRONT = "is about the front end, not about time"
_WHERE = "says where the server listens, not how fast it is"
_LOG = "is about logs and metrics"
_LOADING = "is about loading weights, before the first request"

EFFECTS = {
    "--enable-prefix-caching": "would save the prefill of shared prefixes; simulated without, which is the upper bound",
    "--no-enable-prefix-caching": "is how it is simulated",
    "--disable-radix-cache": "is how it is simulated",
    "--prefix-caching-hash-algo": "is a detail of prefix caching, which is not simulated",
    "--pipeline-parallel-size": "would spread the layers over more GPUs; one stage is simulated",
    "--pp-size": "would spread the layers over more GPUs; one stage is simulated",
    "--ep-size": "would place experts on GPUs as a whole instead of splitting each",
    "--enable-dp-attention": "would run attention data-parallel inside a replica",
    "--decode-context-parallel-size": "would split the KV cache along the context",
    "--prefill-context-parallel-size": "would split prompts over GPUs",
    "--speculative-config": "would decode several tokens per iteration where guesses hold",
    "--speculative-algorithm": "would decode several tokens per iteration where guesses hold",
    "--speculate": "would decode several tokens per iteration where guesses hold",
    "--cpu-offload-gb": "would keep weights in host memory and read them over PCIe",
    "--swap-space": "would swap preempted sequences to host memory; they are recomputed here",
    "--kv-transfer-config": "would move KV between prefill and decode instances or caches",
    "--kv-offloading-size": "would keep KV blocks in host memory",
    "--kv-cache-memory-bytes": "fixes the KV cache; give engine.num_gpu_blocks instead",
    "--enforce-eager": f"would launch kernels one by one; {_SPEED}",
    "--disable-cuda-graph": f"would launch kernels one by one; {_SPEED}",
    "--compilation-config": _SPEED,
    "--attention-backend": _SPEED,
    "--moe-backend": _SPEED,
    "--disable-custom-all-reduce": _SPEED,
    "--enable-torch-compile": _SPEED,
    "--enable-dbo": "would overlap two half batches",
    "--max-num-partial-prefills": "would prefill several prompts at once; one after the other is simulated",
    "--max-long-partial-prefills": "would prefill several long prompts at once",
    "--long-prefill-token-threshold": "would cap the chunk of a long prompt",
    "--scheduler-cls": "would replace the scheduler; write it as a policy (`servesim list schedulers`)",
    "--schedule-conservativeness": "would admit earlier or later by the KV cache expected to be used",
    "--stream-interval": "would send several tokens at once to the client",
    "--enable-lora": "would serve adapters, which cost memory and time",
    "--max-concurrent-requests": "would refuse requests beyond; queues are unlimited here",
    "--max-queued-requests": "would refuse requests beyond; queues are unlimited here",
    "--trust-remote-code": _FRONT,
    "--served-model-name": _FRONT,
    "--chat-template": _FRONT,
    "--tokenizer": _FRONT,
    "--tokenizer-mode": _FRONT,
    "--enable-auto-tool-choice": _FRONT,
    "--tool-call-parser": _FRONT,
    "--reasoning-parser": _FRONT,
    "--api-key": _FRONT,
    "--generation-config": _FRONT,
    "--api-server-count": "would tokenise in more processes; that is engine.admission_time_s here",
    "--host": _WHERE,
    "--port": _WHERE,
    "--root-path": _WHERE,
    "--seed": "is of sampling; the simulation has its own seed",
    "--download-dir": _LOADING,
    "--load-format": _LOADING,
    "--revision": _LOADING,
    "--disable-log-requests": _LOG,
    "--disable-log-stats": _LOG,
    "--enable-metrics": _LOG,
    "--uvicorn-log-level": _LOG,
    "--limit-mm-per-prompt": "is about images and sound, which are not simulated",
}
WITHOUT_VALUE = frozenset(
    {
        "--headless",
        "--enforce-eager",
        "--skip-tokenizer-init",
        "--json-output",
        "--async-scheduling",
        "--calculate-kv-scales",
        "--fully-sharded-loras",
    }
)
_WITHOUT_VALUE_STARTS = ("--enable-", "--disable-", "--no-", "--trust-", "--use-", "--skip-", "--log-requests")


def effect_of(flag: str) -> str:
    """Return what a flag that is not modelled would do."""
    return EFFECTS.get(flag, "is not known to servesim")


def takes_no_value(flag: str) -> bool:
    """Say whether a flag that is not modelled stands alone."""
    return flag in WITHOUT_VALUE or flag.startswith(_WITHOUT_VALUE_STARTS)
