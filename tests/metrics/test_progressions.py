"""Percentiles of progressions against numpy on the written-out list."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servesim.metrics import progressions
from servesim.metrics.progressions import Progressions, Source, describe


def in_chunks(rows: Progressions, size: int) -> Source:
    def source() -> Iterator[Progressions]:
        for start in range(0, len(rows.first), size):
            yield Progressions(*(column[start : start + size] for column in rows))

    return source


def written_out(rows: Progressions) -> np.ndarray:
    return np.array(
        [
            first + step * i
            for first, step, length, weight in zip(*rows, strict=True)
            for i in range(int(length))
            for _ in range(int(weight))
        ]
    )


def assert_exact(rows: Progressions, chunk: int) -> None:
    found, values = describe(in_chunks(rows, chunk)), written_out(rows)
    assert found["mean"] == pytest.approx(values.mean(), rel=1e-12, abs=0)
    for percent in (50, 90, 95, 99):
        assert found[f"p{percent}"] == pytest.approx(np.percentile(values, percent), rel=1e-12, abs=0), percent


# Few distinct numbers make ties and bin edges; the others make everything else.
FIRST = st.one_of(st.sampled_from([0.0, 0.01, 0.0078125, 0.015625, 1.0]), st.floats(1e-6, 1e3))
STEP = st.one_of(st.sampled_from([0.0, 1e-6, 0.0078125]), st.floats(0.0, 0.5, allow_subnormal=False))
ROW = st.tuples(FIRST, STEP, st.integers(1, 12), st.integers(1, 5))


@pytest.mark.parametrize("most_listed", [1 << 18, 16, 1])
@settings(max_examples=300, deadline=None)
@given(table=st.lists(ROW, min_size=1, max_size=25), chunk=st.integers(1, 30))
def test_equals_numpy_on_the_list_of_all_terms(
    most_listed: int, table: list[tuple[float, float, int, int]], chunk: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:  # so small that brackets must be narrowed
        patch.setattr(progressions, "_MAX_LISTED", most_listed)
        assert_exact(Progressions(*np.array(table, dtype=float).T), chunk)


def test_long_overlapping_progressions_are_narrowed_not_listed() -> None:
    rng = np.random.default_rng(5)
    n = 4000
    rows = Progressions(
        0.005 + 1e-5 * rng.random(n), 5e-8 * rng.integers(1, 64, n), rng.integers(1, 600, n).astype(float), np.ones(n)
    )
    assert rows.length.sum() > 4 * progressions._MAX_LISTED
    terms, _ = rows.listed()
    found = describe(in_chunks(rows, 512))
    for percent in (50, 90, 95, 99):
        assert found[f"p{percent}"] == pytest.approx(np.percentile(terms, percent), rel=1e-12, abs=0)


def test_nothing_has_no_percentiles() -> None:
    assert all(np.isnan(value) for value in describe(lambda: iter(())).values())


def test_steps_lost_in_rounding_still_count_every_term_once() -> None:
    rows = Progressions(np.array([1.0, 0.5]), np.array([1e-20, 3e-17]), np.array([1e6, 1000.0]), np.array([1.0, 2.0]))
    for value in (0.5, 0.5 + 1e-14, 1.0, np.nextafter(1.0, 2.0), 2.0):
        expected = [(first + step * np.arange(n) < value).sum() for first, step, n, _ in zip(*rows, strict=True)]
        assert rows.terms_below(value).tolist() == expected
