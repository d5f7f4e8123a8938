"""Measured iterations of an engine: what each one computed, and how long it took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Iterations:
    """Iterations of one deployment, in order of time within each `part`; one entry per iteration in every array.

    `decode_context` is the summed context: KV tokens already computed before the iteration over all decoding
    sequences. `prefill_pairs` counts (query, key) pairs of causal attention. `device_s` is what the form is fitted to,
    `host_s` the rest of the time to the next iteration (NaN where it is not known, e.g. before an idle spell).
    `admissions` is 1 where `device_s` also holds a request's way to the engine, as seen from outside on an idle server.
    `part` numbers what was measured apart (files, loads): fits are judged on parts they have not seen.
    """

    prefill_tokens: Floats
    prefill_seqs: Floats
    prefill_pairs: Floats
    decode_seqs: Floats
    decode_context: Floats
    device_s: Floats
    host_s: Floats
    admissions: Floats
    part: NDArray[np.int64]

    @classmethod
    def of_rows(cls, rows: Sequence[tuple[float, ...]]) -> Iterations:
        """Return one part of iterations with nothing of admissions; a row is the first seven fields, in order."""
        columns = np.asarray(rows, dtype=np.float64).reshape(-1, 7).T
        named = dict(zip((f.name for f in fields(cls)), columns, strict=False))
        return cls(**named, admissions=np.zeros(len(rows)), part=np.zeros(len(rows), dtype=np.int64))

    def __len__(self) -> int:
        return len(self.device_s)

    def __getitem__(self, chosen: Bools | NDArray[np.int64]) -> Iterations:
        """Return the iterations where `chosen` holds, or those of these positions."""
        return Iterations(*(getattr(self, f.name)[chosen] for f in fields(self)))

    @property
    def kind(self) -> NDArray[np.str_]:
        """Whether each iteration is one of decode, prefill, mixed."""
        prefill, decode = self.prefill_tokens > 0, self.decode_seqs > 0
        found: NDArray[np.str_] = np.where(prefill & decode, "mixed", np.where(prefill, "prefill", "decode"))
        return found

    @property
    def tokens(self) -> Floats:
        """Scheduled tokens: one per decoding sequence plus the prefill chunks."""
        return self.decode_seqs + self.prefill_tokens

    @property
    def mean_context(self) -> Floats:
        """Tokens of context per decoding sequence; 0 where none decodes."""
        return self.decode_context / np.maximum(self.decode_seqs, 1.0)


def joined(parts: Sequence[Iterations]) -> Iterations:
    """Return several measurements as one, each with a `part` number (or numbers) of its own."""
    arrays: dict[str, list[NDArray[np.float64]]] = {f.name: [] for f in fields(Iterations)}
    first = 0
    for one in parts:
        for name, found in arrays.items():
            found.append(getattr(one, name) + (first if name == "part" else 0))
        first += int(one.part.max(initial=-1)) + 1
    return Iterations(**{name: np.concatenate(found) for name, found in arrays.items()})  # type: ignore[arg-type]
