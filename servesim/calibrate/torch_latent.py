"""Multi-head latent attention (DeepSeek-AI, arXiv:2405.04434, section 2.1) on a cache of latent vectors, as engines do.

The cache holds one vector per token and layer, the latent one and the rotary key beside it. A decoding sequence
attends in the latent space: the matrix that would expand keys is applied to its queries instead, that of the values to
the result, so that its cost is that of reading latent vectors. A prompt's chunk expands what it attends to.
Transformers always expands; its modules are used as they are, but for that step.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as functional

from servesim.calibrate.torch_device import memory_errors
from servesim.errors import InputError


def keep_compressed(model: Any) -> None:
    """Let the model's attention hand on latent vectors; a model without latent attention stays as it is.

    Raises InputError where the installed Transformers has no such step to be replaced.
    """
    for module in model.modules():
        if is_latent(module):
            if not hasattr(module, "expand_kv"):
                raise InputError(
                    f"{model.config.model_type}: this Transformers does not keep latent vectors compressed "
                    f"({type(module).__name__} has no expand_kv); a later one does"
                )
            module.expand_kv = _as_they_are


def absorb(model: Any) -> None:
    """Give every latent attention of `model` what decoding needs, from its weights as they are now.

    These are the matrices from queries to the latent space, (heads, nope, rank), and from there to values, (heads,
    v_head_dim, rank). Weights in any format will do.
    """
    for module in filter(is_latent, model.modules()):
        rank, nope = int(module.kv_lora_rank), int(module.qk_nope_head_dim)
        like = next(module.kv_a_layernorm.parameters())
        with memory_errors(), torch.no_grad():
            both = module.kv_b_proj(torch.eye(rank, dtype=like.dtype, device=like.device)).T
            both = both.reshape(-1, nope + int(module.v_head_dim), rank)
            module.absorbed = both[:, :nope].contiguous(), both[:, nope:].contiguous()


def is_latent(module: Any) -> bool:
    """Whether an attention module is one of latent attention."""
    return hasattr(module, "kv_lora_rank") and hasattr(module, "kv_b_proj")


def _as_they_are(latent: torch.Tensor, rotary: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what is cached of each token as the key, and its latent part as the value."""
    return torch.cat((latent, rotary), dim=-1), latent


def attend_latent(
    module: Any, q: torch.Tensor, seen: torch.Tensor, scale: float | None, causal: dict[str, Any]
) -> torch.Tensor:
    """Return attention of `q` (seqs, heads, new, dim) to cached vectors (seqs, 1, seen, rank + rotary).

    The result has the width of a value, (seqs, heads, new, v_head_dim). `causal` says what is masked.
    """
    rank, nope = int(module.kv_lora_rank), int(module.qk_nope_head_dim)
    if q.shape[2] > 1:
        keys, values = _expanded(module, seen, rank, nope)
        return functional.scaled_dot_product_attention(q, keys, values, scale=scale, **causal)
    to_latent, to_value = module.absorbed
    query = torch.cat((torch.einsum("shnd,hdr->shnr", q[..., :nope], to_latent), q[..., nope:]), dim=-1)
    # All heads read the same vectors: they are queries of one head, so that the vectors are not repeated.
    found = functional.scaled_dot_product_attention(query.transpose(1, 2), seen, seen[..., :rank], scale=scale)
    return torch.einsum("snhr,hvr->shnv", found, to_value)


def _expanded(module: Any, seen: torch.Tensor, rank: int, nope: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return keys and values of all heads, (seqs, heads, seen, dim)."""
    both = module.kv_b_proj(seen[:, 0, :, :rank])
    both = both.view(*both.shape[:2], -1, nope + int(module.v_head_dim)).transpose(1, 2)
    rotary = seen[..., rank:].expand(-1, both.shape[1], -1, -1)
    return torch.cat((both[..., :nope], rotary), dim=-1), both[..., nope:]
