"""Random streams named by purpose.

A stream's seed is derived from the run's seed and a hash of the stream's name, so that adding a stream never
shifts another, and two policies compared under one seed see the same arrivals (common random numbers).
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import numpy as np


def stream(seed: int, *name: str | int) -> np.random.Generator:
    """Return the generator of the stream called `name` under `seed`.

    `name` says the purpose and then whom it is for, e.g. `("lengths", "chat")` or `("think", "chat", 17)`.
    The same (seed, name) gives the same numbers on every platform and in every process.
    """
    return np.random.Generator(np.random.PCG64(_sequence(seed, *name)))


def _sequence(seed: int, *name: str | int) -> np.random.SeedSequence:
    digest = hashlib.blake2b(_text(name), digest_size=16).digest()
    words = [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4)]
    return np.random.SeedSequence(seed, spawn_key=words)


def _text(name: tuple[str | int, ...]) -> bytes:
    return "\x1f".join(map(repr, name)).encode()


class KeyedUniform:
    """Uniform numbers that can be asked for in any order: one for each (ordinal, attempt).

    What a client draws thus depends on nothing but who it is: two systems compared under one seed see the same patience
    of the same request, however many others asked before. A hash costs about a microsecond, a generator ten.
    """

    def __init__(self, seed: int, *name: str | int) -> None:
        self._hash = hashlib.blake2b(_text((seed, *name)), digest_size=8)

    def at(self, ordinal: int, attempt: int = 0) -> float:
        """Return the number of `ordinal` and `attempt`, in [0, 1), a multiple of 2**-53."""
        one = self._hash.copy()
        one.update(struct.pack("<QQ", ordinal, attempt))
        return (int.from_bytes(one.digest(), "little") >> 11) * 2.0**-53


class NumberedStreams:
    """Streams of one purpose told apart by two numbers (a client and its block, a session and its block).

    Making a generator costs ten times what a few draws do, so there is one, of a kind whose state is a counter (Salmon
    et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a stream begins where its numbers put the counter,
    2^64 blocks away from every other.
    """

    def __init__(self, seed: int, *name: str | int) -> None:
        self._bits = np.random.Philox(_sequence(seed, *name))
        self._generator = np.random.Generator(self._bits)
        self._start: Any = self._bits.state

    def at(self, number: int, block: int = 0) -> np.random.Generator:
        """Return a generator at the beginning of a stream; it is good until the next call."""
        self._start["state"]["counter"][:] = (0, block, number, 0)
        self._bits.state = self._start
        return self._generator
