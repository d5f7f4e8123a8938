"""How long one iteration of a continuous batch takes on the device: the interface every model of it offers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from servesim.catalog import Gpu, Model
from servesim.registry import KindSpec
from servesim.service_time.noise import NoiseLaw


@dataclass(frozen=True, slots=True)
class Deployment:
    """What runs where: one replica's model, GPU and precision, as a service-time model needs to know it.

    `max_num_batched_tokens` and `max_num_seqs` are those of one of its `data_parallel_size` groups.
    """

    gpu: Gpu | None = None
    model: Model | None = None
    backend: str = "vllm"
    tensor_parallel_size: int = 1
    quantization: str | None = None
    kv_cache_dtype: str = "auto"
    max_num_batched_tokens: int = 8192
    max_num_seqs: int = 1024
    data_parallel_size: int = 1
    expert_parallel: bool = False

    @property
    def gpus(self) -> int:
        """How many GPUs share the replica."""
        return self.tensor_parallel_size * self.data_parallel_size


@dataclass(frozen=True, slots=True)
class Validity:
    """The range in which a service-time model was checked against measurements; outside it, it extrapolates."""

    max_decode_seqs: float = math.inf
    max_mean_context_tokens: float = math.inf
    max_prefill_tokens: float = math.inf
    max_batch_size: float = math.inf


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a service time comes from, for the summary's provenance and the reader's trust."""

    name: str
    measured: bool
    note: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


class IterationTime(ABC):
    """Device seconds of one iteration, without host time (the engine adds that).

    Inside a span the batch does not change and every context grows by one token per iteration, so the engine only
    needs a straight line in the summed context. A model that bends in the context says how far its line holds.
    `noise` says how iterations scatter about these times, if the engine is to draw that; `warnings` what every result
    made with them has to say.
    """

    validity: Validity = Validity()
    origin: Origin = Origin("inline", measured=False)
    noise: NoiseLaw | None = None
    warnings: tuple[str, ...] = ()

    @abstractmethod
    def decode_line(self, decode_seqs: int, context_tokens: int) -> tuple[float, float, float]:
        """Return `(base_s, slope_s, limit_tokens)` for a decode-only iteration of `decode_seqs` sequences.

        The iteration takes `base_s + slope_s * S` seconds, where S is the summed context: KV tokens already computed
        before this iteration over all decoding sequences. The line holds at `context_tokens` and for every larger S
        up to and including `limit_tokens` (`math.inf` if it never bends). `slope_s >= 0`.
        """

    @abstractmethod
    def mixed_s(
        self, decode_seqs: int, context_tokens: int, prefill_seqs: int, prefill_tokens: int, prefill_pairs: int
    ) -> float:
        """Return the seconds of an iteration with at least one prefill chunk.

        `prefill_tokens` is the sum of the chunks; `prefill_pairs` counts (query, key) pairs of causal attention:
        the sum of `chunk * computed_before + chunk * (chunk + 1) // 2` over the chunks.
        """


class ServiceTimeSpec(KindSpec):
    """A service time that a scenario can name: of iterations, of batches, or a law of single requests."""


class IterationTimeSpec(ServiceTimeSpec):
    """How long an iteration of a continuous batch takes."""

    def build(self, deployment: Deployment) -> IterationTime:
        """Return the model for one replica of `deployment`; raise InputError when it cannot say anything of it."""
        raise NotImplementedError


class BatchTime(ABC):
    """Device seconds of one batch that is computed as a whole.

    `pads_prompts` and `pads_outputs` say whether its time depends on those lengths, so that members shorter than the
    longest are padded.
    """

    validity: Validity = Validity()
    origin: Origin = Origin("inline", measured=False)
    pads_prompts: bool = False
    pads_outputs: bool = False

    @abstractmethod
    def batch_s(self, batch_size: int, prompt_tokens: int, output_tokens: int) -> float:
        """Return the seconds of a batch of `batch_size` requests, all padded to the longest.

        `prompt_tokens` and `output_tokens` are the largest of the batch. What a prompt token is, is the model's
        business: a token of text, or a fixed 1 for an image.
        """


class BatchTimeSpec(ServiceTimeSpec):
    """How long a batch takes that is computed as a whole."""

    def build(self, deployment: Deployment) -> BatchTime:
        """Return the model for one replica of `deployment`; raise InputError when it cannot say anything of it."""
        raise NotImplementedError
