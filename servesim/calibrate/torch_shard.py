"""Splitting a decoder over ranks as serving engines do (Shoeybi et al., "Megatron-LM", arXiv:1909.08053).

Which matrix is split along which side is Transformers' own plan for the architecture (`base_model_tp_plan` of its
configuration); embedding and output head are split along the vocabulary. Transformers applies that plan only while it
loads a checkpoint. Here every matrix becomes a plain smaller one, so that nothing but the collectives is added.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from servesim.calibrate.torch_ranks import Ranks
from servesim.errors import InputError

Plan = dict[str, str]
_WHOLE = ("replicated_with_grad_allreduce", "replicate", "mla_kv_a_proj")  # styles of what every rank keeps


def _attention(*projections: str) -> Plan:
    columns = {f"layers.*.self_attn.{name}": "colwise" for name in projections}
    return {**columns, "layers.*.self_attn.o_proj": "rowwise"}


_MORE: dict[str, Plan] = {
    "deepseek_v3": _attention("q_proj", "q_b_proj", "kv_b_proj"),
    "gpt_oss": {
        **_attention("q_proj", "k_proj", "v_proj"),
        "layers.*.mlp.experts.gate_up_proj": "last",  # gates and ups in turn, inputs first
        "layers.*.mlp.experts.gate_up_proj_bias": "last",
        "layers.*.mlp.experts.down_proj": "last_but_one",
        "layers.*.mlp.experts.down_proj_bias": "share",
        "layers.*.mlp.experts": "moe_tp_experts",
    },
}
"""What the plans of some architectures lack, split as engines do."""
_SPREAD = 0.02


def sharded(build: Callable[[], Any], kv_heads: int, ranks: Ranks) -> Any:
    """Return this rank's part of the model that `build` makes, with random weights; the whole is never in memory."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        model = build()
    if model.config.get_text_config().tie_word_embeddings:  # made empty, they are no longer one
        model.lm_head.weight = model.get_input_embeddings().weight
    shard(model, kv_heads, ranks)
    made: dict[nn.Parameter, nn.Parameter] = {}  # tied ones stay tied
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if weight not in made:
                made[weight] = _random(weight, ranks.kind)
            setattr(module, name, made[weight])
    return model.to(ranks.kind)


def _random(like: torch.Tensor, device: str) -> nn.Parameter:
    """Return weights of the shape of `like`: small normal numbers in matrices, ones elsewhere (norms)."""
    found = torch.empty(like.shape, dtype=like.dtype, device=device)
    return nn.Parameter(found.normal_(0.0, _SPREAD) if found.ndim > 1 else found.fill_(1.0), requires_grad=False)


def shard(model: Any, kv_heads: int, ranks: Ranks) -> None:
    """Leave of `model`, a ...ForCausalLM (on any device, meta included), what this rank computes, in place.

    Key and value heads are repeated where there are fewer than ranks. Raises InputError for an architecture without a
    plan, or with one that needs more than splitting.
    """
    plan = _plan_of(model)
    for name, module in model.model.named_modules():
        where = re.sub(r"\d+", "*", name)
        for parameter, _ in list(module.named_parameters(recurse=False)):
            style = plan.get(f"{where}.{parameter}")
            if style is not None:
                _PARAMETERS[style](module, parameter, ranks)
        style = plan.get(where)
        if style is None or style in _WHOLE:
            continue
        if name.endswith(("k_proj", "v_proj")) and ranks.size > kv_heads:
            _colwise(module, ranks.rank * kv_heads // ranks.size, kv_heads)
        else:
            _MODULES[style](module, ranks)
    _split_vocabulary(model, ranks)


def _plan_of(model: Any) -> Plan:
    plan: Plan = dict(getattr(model.config.get_text_config(), "base_model_tp_plan", None) or {})
    kind = model.config.model_type
    plan |= _MORE.get(kind, {})
    plan.pop("embed_tokens", None)  # see _split_vocabulary
    if not any(name.endswith("self_attn.o_proj") for name in plan):
        raise InputError(f"--tp: Transformers has no plan for splitting the attention of {kind!r} models")
    unknown = sorted({style for style in plan.values() if style not in (*_MODULES, *_PARAMETERS, *_WHOLE)})
    if unknown:
        raise InputError(f"--tp: Transformers' plan for {kind!r} models uses {', '.join(unknown)}: not supported")
    return plan


def _part(values: torch.Tensor, dim: int, index: int, count: int) -> nn.Parameter:
    """Return the `index`-th of `count` equal parts along `dim`, with memory of its own."""
    size = values.shape[dim] // count
    return nn.Parameter(values.detach().narrow(dim, index * size, size).clone(), requires_grad=False)


def _colwise(linear: Any, index: int, count: int) -> None:
    """Keep a part of the outputs."""
    linear.weight = _part(linear.weight, 0, index, count)
    if linear.bias is not None:
        linear.bias = _part(linear.bias, 0, index, count)
    linear.out_features = linear.weight.shape[0]


def _rowwise(linear: Any, ranks: Ranks) -> None:
    """Keep the weights of a part of the inputs; the outputs of all ranks are added, and each adds its share of bias."""
    linear.weight = _part(linear.weight, 1, ranks.rank, ranks.size)
    if linear.bias is not None:
        _share(linear, "bias", ranks)
    linear.in_features = linear.weight.shape[1]
    _add_outputs(linear, ranks)


def _add_outputs(module: nn.Module, ranks: Ranks) -> None:
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def outputs(_module: nn.Module, _given: Any, found: torch.Tensor) -> torch.Tensor:
        return ranks.add(found)

    module.register_forward_hook(outputs)


def _packed_columns(module: nn.Module, name: str, ranks: Ranks) -> None:
    """Keep a part of the outputs of each of two matrices that lie one above the other, of every expert."""
    halves = getattr(module, name).chunk(2, dim=-2)
    kept = torch.cat([_part(half, -2, ranks.rank, ranks.size) for half in halves], dim=-2)
    setattr(module, name, nn.Parameter(kept, requires_grad=False))


def _kept(dim: int) -> Callable[[nn.Module, str, Ranks], None]:
    """Return what keeps a part of every expert's weights along `dim`; who uses them adds the outputs."""

    def keep(module: nn.Module, name: str, ranks: Ranks) -> None:
        setattr(module, name, _part(getattr(module, name), dim, ranks.rank, ranks.size))

    return keep


def _share(module: nn.Module, name: str, ranks: Ranks) -> None:
    """Keep an equal share of what is added to the outputs that the ranks add up."""
    setattr(module, name, nn.Parameter(getattr(module, name).detach() / ranks.size, requires_grad=False))


_MODULES: dict[str, Callable[[Any, Ranks], None]] = {
    "colwise": lambda linear, ranks: _colwise(linear, ranks.rank, ranks.size),
    "rowwise": _rowwise,
    "moe_tp_experts": _add_outputs,
}
_PARAMETERS: dict[str, Callable[[nn.Module, str, Ranks], None]] = {
    "packed_colwise": _packed_columns,
    "rowwise": _kept(-1),
    "last": _kept(-1),
    "last_but_one": _kept(-2),
    "share": _share,
}


def _split_vocabulary(model: Any, ranks: Ranks) -> None:
    """Give each rank the rows of its tokens: it looks up and scores only those; padded to equal parts with zeros."""
    embedding, head = model.get_input_embeddings(), model.lm_head
    vocab = embedding.weight.shape[0]
    size = -(-vocab // ranks.size)
    first = ranks.rank * size
    tied = head.weight is embedding.weight
    embedding.weight = _padded_rows(embedding.weight, first, size)
    head.weight = embedding.weight if tied else _padded_rows(head.weight, first, size)
    if embedding.padding_idx is not None:
        embedding.padding_idx = None  # a row that would not be trained

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def inputs(_module: nn.Module, given: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        embedding.outside = (given[0] < first) | (given[0] >= first + size)
        return ((given[0] - first).clamp(0, size - 1),)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def outputs(_module: nn.Module, _given: Any, found: torch.Tensor) -> torch.Tensor:
        return ranks.add(found.masked_fill_(embedding.outside[..., None], 0.0))

    embedding.register_forward_pre_hook(inputs)
    embedding.register_forward_hook(outputs)
    head.register_forward_hook(lambda _module, _given, scores: ranks.gather(scores)[..., :vocab])


def _padded_rows(weight: torch.Tensor, first: int, size: int) -> nn.Parameter:
    kept = weight.detach()[first : first + size]
    padding = kept.new_zeros(size - kept.shape[0], kept.shape[1])
    return nn.Parameter(torch.cat([kept, padding]), requires_grad=False)
