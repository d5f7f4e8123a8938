"""The transformer behind the live server."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from servesim.calibrate.torch_decoder import Decoder, FlatBatch, Group
from servesim.calibrate.torch_device import Device
from servesim.calibrate.torch_server import Part, ServerSettings
from servesim.calibrate.torch_subjects import Subject
from servesim.errors import InputError


class Transformer:
    """Computes iterations with a decoder whose cache has a slot of `max_model_len` tokens for every sequence."""

    def __init__(self, subject: Subject, device: Device, dtype: str, settings: ServerSettings) -> None:
        wanted = settings.max_num_seqs * settings.max_model_len
        self._decoder = Decoder(subject, device, dtype, None, False, wanted)
        if self._decoder.cache.tokens < wanted:
            raise InputError(f"the KV cache has room for {self._decoder.cache.tokens} tokens, {wanted} are needed")
        self._length = settings.max_model_len
        self._kind = device.kind

    def compute(self, parts: Sequence[Part]) -> list[int]:
        """Return the greedy next token of each part that emits one."""
        groups: list[Group] = []
        ids: list[int] = []
        positions: list[int] = []
        emit: list[int] = []
        for part in parts:
            count = len(part.tokens)
            groups.append(Group(part.slot * self._length, 1, self._length, part.before, count))
            ids += part.tokens
            positions += range(part.before, part.before + count)
            if part.emits:
                emit.append(len(ids) - 1)
        with torch.inference_mode():
            tokens = self._decoder.step(
                torch.tensor([ids], device=self._kind),
                torch.tensor([positions], device=self._kind),
                torch.tensor(emit, dtype=torch.long, device=self._kind),
                FlatBatch(self._decoder.cache, groups),
            )
            found: list[int] = tokens.tolist()
        return found

    def warm_up(self) -> None:
        """Run a few iterations of the usual shapes, so that the first request does not pay for it."""
        for count in (self._length // 2, 1, 1):
            self.compute([Part(0, 0, [0] * count, True)])
