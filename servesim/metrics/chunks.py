"""Reading a spool a chunk at a time, by column name."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from servesim.metrics.spool import Spool

Columns = dict[str, NDArray[np.float64]]

# Enough rows that numpy's cost per call does not matter, few enough that a chunk stays in the processor's cache.
_LEAST_ROWS = 16_384


def named_chunks(spool: Spool) -> Iterator[Columns]:
    """Yield the rows in order as dicts of column views (strided); each column has shape (rows,)."""
    for chunk in _joined(spool):
        yield {name: chunk[:, index] for index, name in enumerate(spool.columns)}


def _joined(spool: Spool) -> Iterator[NDArray[np.float64]]:
    """Yield the spool's chunks, small ones joined."""
    small: list[NDArray[np.float64]] = []
    rows = 0
    for chunk in spool.chunks():
        small.append(chunk)
        rows += len(chunk)
        if rows >= _LEAST_ROWS:
            yield small[0] if len(small) == 1 else np.concatenate(small)
            small, rows = [], 0
    if small:
        yield np.concatenate(small)
