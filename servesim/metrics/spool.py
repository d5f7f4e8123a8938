"""Rows of numbers that may outgrow memory: chunks in memory first, in an unlinked temporary file beyond a budget."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from typing import IO

import numpy as np
from numpy.typing import NDArray

_CHUNK_ROWS = 1_024
_MEMORY_BYTES = 48 << 20


class Spool:
    """An append-only table of float64 with named columns.

    `add(row)` takes one row as a flat tuple and is what the simulation calls; `settle()` moves full chunks on and is
    called now and then. Reading is by column: the whole table never needs to be in memory at once.
    """

    def __init__(self, columns: tuple[str, ...]) -> None:
        self.columns = columns
        self._width = len(columns)
        # A flat list of numbers: extending it and packing it at once costs a fifth of growing an array per row.
        self._open: list[float] = []
        self.add = self._open.extend
        self._chunks: list[NDArray[np.float64]] = []
        self._file: IO[bytes] | None = None
        self._spilled_rows = 0
        self._rows = 0

    def __len__(self) -> int:
        return self._rows + len(self._open) // self._width

    def settle(self, at_least: int = _CHUNK_ROWS) -> None:
        """Close the open chunk once it holds `at_least` rows; spill to disk beyond the memory budget."""
        rows = len(self._open) // self._width
        if rows < max(at_least, 1):
            return
        packed = struct.pack(f"{len(self._open)}d", *self._open)
        self._chunks.append(np.frombuffer(packed).reshape(rows, self._width))
        self._open.clear()
        self._rows += rows
        if (self._rows - self._spilled_rows) * self._width * 8 > _MEMORY_BYTES:
            self._spill()

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="servesim-")  # noqa: SIM115 (lives as long as the spool)
        for chunk in self._chunks:
            chunk.tofile(self._file)
        self._chunks.clear()
        self._spilled_rows = self._rows

    def last(self) -> dict[str, float] | None:
        """Return the last row by column name; None if there is none."""
        if not len(self):
            return None
        if self._open:
            row = self._open[-self._width :]
        elif self._chunks:
            row = self._chunks[-1][-1].tolist()
        else:
            assert self._file is not None
            self._file.flush()
            self._file.seek(-8 * self._width, 2)
            row = np.fromfile(self._file, np.float64, self._width).tolist()
        return dict(zip(self.columns, row, strict=True))

    def chunks(self) -> Iterator[NDArray[np.float64]]:
        """Yield the rows in order as arrays of shape (rows, columns)."""
        self.settle(1)
        if self._file is not None:
            self._file.flush()
            self._file.seek(0)
            left = self._spilled_rows
            while left:
                rows = min(left, 128 * _CHUNK_ROWS)
                yield np.fromfile(self._file, np.float64, rows * self._width).reshape(rows, self._width)
                left -= rows
        yield from self._chunks

    def column(self, *names: str) -> list[NDArray[np.float64]]:
        """Return whole columns, one contiguous array per name."""
        where = [self.columns.index(name) for name in names]
        parts: list[list[NDArray[np.float64]]] = [[] for _ in names]
        for chunk in self.chunks():
            for part, index in zip(parts, where, strict=True):
                part.append(np.ascontiguousarray(chunk[:, index]))
        return [np.concatenate(part) if part else np.empty(0) for part in parts]
