"""Seeds of replications: a documented function of the scenario's seed, so that any replication can be made again."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice

import numpy as np


def replication_seeds(seed: int, number: int) -> list[int]:
    """Return the seeds of the first `number` replications of `seed`.

    Replication 0 has `seed` itself. Replication r > 0 has `SeedSequence(seed).spawn(r + 1)[r].generate_state(1)[0]`, a
    number below 2**32; in the rare case that an earlier replication has it already, the spawned sequence's next state.
    """
    return list(islice(_seeds(seed), number))


def _seeds(seed: int) -> Iterator[int]:
    taken = {seed}
    yield seed
    for r in count(1):
        sequence = np.random.SeedSequence(seed, spawn_key=(r,))  # what spawn() makes its r-th child of
        for words in count(1):
            found = int(sequence.generate_state(words)[-1])
            if found not in taken:
                break
        taken.add(found)
        yield found
