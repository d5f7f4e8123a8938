"""A decoder with a real KV cache that computes a whole iteration in one pass, as serving engines do.

All scheduled tokens of an iteration, one per decoding sequence and the chunks of the prompts, form one row of tokens:
matrices are multiplied once for all of them. Only attention looks at sequences. It is put into the Transformers model
through its attention interface, so that every decoder architecture of Transformers works as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as functional
from torch.nn.attention.bias import causal_lower_right
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_utils import AttentionInterface

from servesim.calibrate.torch_device import DTYPES, Device, memory_errors, quantize
from servesim.calibrate.torch_latent import absorb, attend_latent, is_latent, keep_compressed
from servesim.calibrate.torch_measure import OutOfMemory
from servesim.calibrate.torch_points import IterationPoint
from servesim.calibrate.torch_ranks import ALONE, Ranks
from servesim.calibrate.torch_shard import sharded
from servesim.calibrate.torch_subjects import Subject
from servesim.catalog import Model
from servesim.errors import InputError

ATTENTION = "servesim_flat"
_GRAPH_WARM_UP = 3


class KvCache:
    """Keys and values of all layers in one pool of tokens; a part of it is seen as equal sequences.

    Of a model with latent attention it holds one vector per token instead.
    """

    def __init__(self, entry: Model, ranks: int, tokens: int, dtype: torch.dtype, device: str) -> None:
        self._heads, self._dim, kinds = _cached(entry, ranks)
        self._per_token = self._heads * self._dim
        self.tokens = tokens
        with memory_errors():
            self._kept = [
                [torch.zeros(tokens * self._per_token, dtype=dtype, device=device) for _ in range(entry.layers)]
                for _ in range(kinds)
            ]

    def seen(self, layer: int, first_token: int, seqs: int, length: int) -> list[torch.Tensor]:
        """Return keys and values (or what is kept) of `seqs` sequences, each (seqs, heads, length, dim)."""
        part = slice(first_token * self._per_token, (first_token + seqs * length) * self._per_token)
        return [kept[layer][part].view(seqs, self._heads, length, self._dim) for kept in self._kept]


def _cached(entry: Model, ranks: int) -> tuple[int, int, int]:
    """Return (heads, their width, how many such tensors) of what a rank caches of a token in a layer."""
    if entry.latent is not None:
        return 1, entry.latent.kv_lora_rank + entry.latent.qk_rope_head_dim, 1
    return max(1, entry.kv_heads // ranks), entry.head_dim, 2


@dataclass(frozen=True, slots=True)
class Group:
    """Equal sequences in an iteration: each computes `new` tokens after `before` that the cache holds.

    Their place in the cache begins at `first_token`, with room for `length` tokens each.
    """

    first_token: int
    seqs: int
    length: int
    before: int
    new: int

    @property
    def rows(self) -> int:
        """How many of the iteration's tokens are theirs."""
        return self.seqs * self.new


@dataclass(frozen=True, slots=True)
class FlatBatch:
    """An iteration as attention sees it: groups in the order of their tokens."""

    cache: KvCache
    groups: Sequence[Group]

    def attend(
        self, module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None, window: int | None
    ) -> torch.Tensor:
        """Return attention of `q` (heads, tokens, dim) as (tokens, heads, dim), with `k` and `v` put into the cache."""
        found, first = [], 0
        for group in self.groups:
            rows = slice(first, first + group.rows)
            first += group.rows
            kept = self.cache.seen(int(module.layer_idx), group.first_token, group.seqs, group.length)
            end = group.before + group.new
            for place, one in zip(kept, (k, v), strict=False):
                place[:, :, group.before : end] = _by_sequence(one[:, rows], group)
            low = 0 if window is None else max(0, group.before + 1 - window)
            seen = [place[:, :, low:end] for place in kept]
            more = _causal(group.new, end - low, window, q.device.type)
            query = _by_sequence(q[:, rows], group)
            if is_latent(module):
                out = attend_latent(module, query, seen[0], scale, more)
            else:
                keys, values = seen
                out = functional.scaled_dot_product_attention(query, keys, values, scale=scale, enable_gqa=True, **more)
            found.append(out.transpose(1, 2).reshape(group.rows, q.shape[0], -1))
        return found[0] if len(found) == 1 else torch.cat(found)


def _by_sequence(x: torch.Tensor, group: Group) -> torch.Tensor:
    """Return (heads, tokens, dim) as (seqs, heads, tokens of each, dim)."""
    return x.view(x.shape[0], group.seqs, group.new, x.shape[2]).transpose(0, 1)


def _causal(new: int, seen: int, window: int | None, device: str) -> dict[str, Any]:
    """Return which keys each query attends to, in the words of PyTorch's attention: itself and what is before it."""
    if new == 1:
        return {}
    if window is not None and seen > window:
        return {"attn_mask": _mask(new, seen, window, device)}
    if new == seen:
        return {"is_causal": True}
    if device == "cuda":
        return {"attn_mask": causal_lower_right(new, seen)}  # fused kernels take this, but not an explicit mask
    return {"attn_mask": _mask(new, seen, None, device)}


@lru_cache(maxsize=4)
def _mask(new: int, seen: int, window: int | None, device: str) -> torch.Tensor:
    mask = torch.ones(new, seen, dtype=torch.bool, device=device).tril(seen - new)
    return mask if window is None else mask.triu(seen - new - window + 1)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    flat: FlatBatch | None = None,
    **_others: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as `flat` says. What only changes values, such as sinks and soft caps, is left out: weights are random."""
    if flat is None:
        raise TypeError("the model was called without its batch")
    out = flat.attend(module, query[0], key[0], value[0], scaling, sliding_window)
    return out[None], None


class Decoder:
    """A decoder with random weights on a device, or this rank's part of it, and a KV cache of so many tokens."""

    def __init__(
        self,
        subject: Subject,
        device: Device,
        dtype: str,
        quantization: str | None,
        compiled: bool,
        kv_tokens: int,
        ranks: Ranks = ALONE,
    ) -> None:
        entry = subject.entry
        if entry is None:
            raise InputError(f"{subject.name} is not a decoder")
        AttentionInterface.register(ATTENTION, _attention)
        self.device, self.entry = device, entry
        number = getattr(torch, DTYPES[dtype])
        self.model = ranks.fit(lambda: _model(_config(subject), number, entry.kv_heads, device, ranks))
        if quantization is not None:
            quantize(self.model, quantization)
        ranks.fit(lambda: absorb(self.model))
        self._body = torch.compile(self.model.model, dynamic=True) if compiled else self.model.model
        per_token = entry.layers * math.prod(_cached(entry, ranks.size)) * (torch.finfo(number).bits // 8)
        tokens = min(kv_tokens, int(ranks.smallest(device.memory_for_kv(ranks.size))) // per_token)
        if tokens < 2:
            raise OutOfMemory
        self.cache = ranks.fit(lambda: KvCache(entry, ranks.size, tokens, number, device.kind))

    def step(self, ids: torch.Tensor, positions: torch.Tensor, emit: torch.Tensor, flat: FlatBatch) -> torch.Tensor:
        """Return the next token of each row in `emit`: embedding, all layers, output head and the greedy choice."""
        hidden = self._body(input_ids=ids, position_ids=positions, use_cache=False, flat=flat).last_hidden_state
        token: torch.Tensor = self.model.lm_head(hidden[0, emit]).argmax(-1)
        return token


def _model(config: Any, number: torch.dtype, kv_heads: int, device: Device, ranks: Ranks) -> Any:
    """Return the model with random weights, or this rank's part of it."""

    def build() -> Any:
        model = AutoModelForCausalLM.from_config(config, dtype=number, attn_implementation=ATTENTION).eval()
        keep_compressed(model)
        return model

    torch.manual_seed(0)
    with memory_errors():
        if ranks.size > 1:
            return sharded(build, kv_heads, ranks)
        with torch.device(device.kind):
            return build()


def _config(subject: Subject) -> Any:
    fields = {name: value for name, value in subject.fields.items() if name not in ("quantization_config", "auto_map")}
    kind = fields.pop("model_type", None)
    if kind is None:
        raise InputError(f"{subject.name}: its config has no `model_type`")
    try:
        return AutoConfig.for_model(kind, **fields)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{subject.name}: Transformers cannot build it: {str(error).splitlines()[0][:200]}") from error


class DecoderBackend:
    """Runs iteration points on a decoder; on CUDA, decode iterations are replayed as CUDA graphs where they can be."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._timed = decoder.device.timer()
        self.without_graph: list[str] = []

    def prepare(self, point: IterationPoint) -> Callable[[], float]:
        """Return what runs the iteration once; every run writes the same places of the cache."""
        decoder, device = self._decoder, self._decoder.device
        if point.kv_tokens > decoder.cache.tokens:
            raise OutOfMemory
        step = self._step(point)

        def run() -> float:
            with memory_errors(), torch.inference_mode():
                return self._timed(step)

        if device.is_cuda and point.kind == "decode":
            graph = self._captured(step)
            if graph is not None:
                return lambda: self._timed(graph.replay)
        return run

    def _step(self, point: IterationPoint) -> Callable[[], Any]:
        decoder, kind = self._decoder, self._decoder.device.kind
        groups, positions, emit, first = [], [], [], 0
        if point.decode_seqs:
            groups.append(Group(0, point.decode_seqs, point.decode_context + 1, point.decode_context, 1))
        if point.prefill_seqs:
            place = point.decode_seqs * (point.decode_context + 1)
            length = point.prefill_before + point.prefill_tokens
            groups.append(Group(place, point.prefill_seqs, length, point.prefill_before, point.prefill_tokens))
        for group in groups:
            positions += list(range(group.before, group.before + group.new)) * group.seqs
            emit += [first + (i + 1) * group.new - 1 for i in range(group.seqs)]
            first += group.rows
        flat = FlatBatch(decoder.cache, groups)
        with memory_errors():
            ids = torch.randint(decoder.entry.vocab, (1, first), device=kind)
            at = torch.tensor([positions], device=kind)
            rows = torch.tensor(emit, device=kind)
        return lambda: decoder.step(ids, at, rows, flat)

    def _captured(self, step: Callable[[], Any]) -> torch.cuda.CUDAGraph | None:
        """Return the iteration as a graph, or None where the model does something on the host that cannot be one."""
        with memory_errors(), torch.inference_mode():
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(_GRAPH_WARM_UP):
                    step()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            try:
                with torch.cuda.graph(graph):
                    step()
            except torch.cuda.OutOfMemoryError:
                raise
            except RuntimeError as error:
                torch.cuda.synchronize()
                self.without_graph.append(str(error).splitlines()[0][:200])
                return None
            return graph

    def state(self) -> dict[str, float]:
        """Return clock and power."""
        return self._decoder.device.state()
