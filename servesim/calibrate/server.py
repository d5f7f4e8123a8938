"""The settings of a measured server that cannot be seen in latencies, but shape them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from servesim.calibrate.target import Target
from servesim.catalog import gpus
from servesim.engine.spec import ContinuousBatching
from servesim.errors import InputError, Problem
from servesim.scenario.resolve import resolve
from servesim.scenario.schema import Scenario


@dataclass(frozen=True, slots=True)
class Server:
    """A server's settings, under a scenario's names, with vLLM's defaults for what was not given.

    `num_gpu_blocks` None: unlimited, as far as is known.
    """

    max_num_batched_tokens: int
    max_num_seqs: int
    num_gpu_blocks: int | None
    block_size: int
    async_scheduling: bool
    tensor_parallel_size: int

    def given(self) -> dict[str, Any]:
        """Return the settings as a scenario's `engine:` says them."""
        found: dict[str, Any] = {
            "max_num_batched_tokens": self.max_num_batched_tokens,
            "max_num_seqs": self.max_num_seqs,
            "async_scheduling": str(self.async_scheduling).lower(),
        }
        if self.num_gpu_blocks is not None:
            found |= {"num_gpu_blocks": self.num_gpu_blocks, "block_size": self.block_size}
        return found


def server_of(target: Target, settings: Mapping[str, Any]) -> Server:
    """Return the settings given (those that are None are not), completed as `vllm serve` would on this GPU.

    Raises InputError for a combination that no engine takes.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    key = target.key
    pool: dict[str, Any] = {
        "engine": {"kind": "continuous", **given},
        "service_time": {"kind": "affine", "base_s": 1.0},
    }
    if key.gpu in gpus():
        pool["gpu"] = key.gpu
        try:
            pool["engine"]["num_gpu_blocks"] = given.get("num_gpu_blocks") or _blocks(target, given)
        except (InputError, ValidationError):  # too large for the GPU as described: the server ran all the same
            pool["engine"]["num_gpu_blocks"] = "unlimited"
    try:
        scenario = Scenario.model_validate({**_NOTHING, "pools": {"main": pool}})
    except ValidationError as error:
        said = [part["msg"].removeprefix("Value error, ") for part in error.errors()]
        raise InputError([Problem(one) for one in said]) from error
    engine = resolve(scenario).pools[0].spec.engine
    assert isinstance(engine, ContinuousBatching)
    blocks = engine.num_gpu_blocks
    return Server(
        int(engine.max_num_batched_tokens or 0),
        int(engine.max_num_seqs or 0),
        blocks if isinstance(blocks, int) else None,
        engine.block_size or 16,
        engine.async_scheduling,
        key.tensor_parallel_size,
    )


def _blocks(target: Target, given: Mapping[str, Any]) -> int | str:
    """Return the KV blocks that weights and overhead leave on the GPU, if the model is known."""
    if target.model is None:
        return "unlimited"
    key = target.key
    engine = {"kind": "continuous", **given, "tensor_parallel_size": key.tensor_parallel_size}
    if key.precision != "bf16":
        engine["quantization"] = key.precision
    pool = {"model": target.model.name, "gpu": key.gpu, "engine": engine, "service_time": {"kind": "roofline"}}
    found = resolve(Scenario.model_validate({**_NOTHING, "pools": {"main": pool}})).pools[0].spec.engine
    assert isinstance(found, ContinuousBatching)
    return found.num_gpu_blocks or "unlimited"


_ANY = {"kind": "affine", "base_s": 1.0}
_NOTHING: dict[str, Any] = {
    "name": "settings",
    "workload": {
        "num_requests": 1,
        "classes": {
            "one": {
                "arrivals": {"kind": "poisson", "request_rate_rps": 1.0},
                "prompt_tokens": {"kind": "fixed", "tokens": 1},
                "output_tokens": {"kind": "fixed", "tokens": 1},
            }
        },
    },
}
