"""Arrivals by gaps, drawn in blocks that must not show."""

from __future__ import annotations

from itertools import islice

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from servesim.workload.renewal import renewal_times


@given(st.lists(st.lists(st.floats(0.0, 1e3), min_size=1, max_size=5), min_size=1, max_size=6))
def test_blocks_of_gaps_make_one_long_sum(blocks: list[list[float]]) -> None:
    drawn = iter(blocks)
    found = list(islice(renewal_times(lambda: np.array(next(drawn))), len(blocks)))
    assert np.concatenate(found).tolist() == np.cumsum([gap for block in blocks for gap in block]).tolist()
