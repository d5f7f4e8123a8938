"""Random streams named by purpose.

A stream's seed is derived from the run's seed and a hash of the stream's name, so that adding a stream never
shifts another, and two policies compared under one seed see the same arrivals (common random numbers).
"""

from __future__ import annotations

import hashlib

import numpy as np


def stream(seed: int, *name: str | int) -> np.random.Generator:
    """Return the generator of the stream called `name` under `seed`.

    `name` says the purpose and then whom it is for, e.g. `("lengths", "chat")` or `("think", "chat", 17)`.
    The same (seed, name) gives the same numbers on every platform and in every process.
    """
    digest = hashlib.blake2b("\x1f".join(map(repr, name)).encode(), digest_size=16).digest()
    words = [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4)]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=words)))
