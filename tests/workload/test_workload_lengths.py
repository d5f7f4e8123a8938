"""Length laws: exactness of tables, bounds, and specifications that make no sense."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from servesim.errors import InputError
from servesim.rng import stream
from servesim.workload.cdf import cdf_mean_tokens, inverse_cdf
from servesim.workload.lengths.empirical import EmpiricalLengths
from servesim.workload.lengths.fixed import FixedLength
from servesim.workload.lengths.geometric import GeometricLength
from servesim.workload.lengths.joint_quantiles import JointQuantilesLengths
from servesim.workload.lengths.lognormal import LognormalLength
from servesim.workload.lengths.quantiles import QuantilesLength
from servesim.workload.lengths.uniform import UniformLength


@st.composite
def tables(draw):
    tokens = sorted(draw(st.sets(st.integers(0, 500), min_size=2, max_size=8)))
    inner = sorted(draw(st.lists(st.floats(0, 1), min_size=len(tokens) - 2, max_size=len(tokens) - 2)))
    return tuple(zip(tokens, [0.0, *inner, 1.0], strict=True))


@given(table=tables())
def test_a_table_gives_its_points_their_probabilities(table):
    """On an even grid of u, the share of counts up to a point is its probability, to the grid's resolution."""
    grid = (np.arange(10_000) + 0.5) / 10_000
    counts = inverse_cdf(QuantilesLength(cdf=table).cdf, grid)
    for tokens, probability in table:
        assert np.mean(counts <= tokens) == pytest.approx(probability, abs=1.01e-4)
    assert np.all(np.diff(counts) >= 0)
    assert counts.min() > table[0][0]
    assert counts.mean() == pytest.approx(cdf_mean_tokens(table), abs=0.06)


@given(table=tables())
def test_a_table_holds_at_the_ends_of_the_unit_interval(table):
    ends = inverse_cdf(table, np.array([0.0, 5e-324, np.nextafter(1.0, 0.0)]))
    assert ends.min() > table[0][0]
    assert ends.max() <= table[-1][0]


def test_an_atom_is_an_atom():
    counts = QuantilesLength(cdf=((0, 0.0), (99, 0.25), (100, 0.75), (400, 1.0))).draw(stream(1, "x"), 40_000)
    assert np.mean(counts == 100) == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / 40_000))
    assert np.mean(counts < 100) == pytest.approx(0.25, abs=4 * math.sqrt(0.1875 / 40_000))


def test_uniform_reaches_both_bounds_evenly():
    counts = np.bincount(UniformLength(min_tokens=3, max_tokens=6).draw(stream(1, "x"), 40_000))
    assert counts[:3].sum() == 0
    assert counts[3:] == pytest.approx([10_000] * 4, abs=4 * math.sqrt(7500))


def test_geometric_law():
    counts = GeometricLength(mean_tokens=4).draw(stream(1, "x"), 100_000)
    for tokens in (1, 2, 5):
        expected = 0.75 ** (tokens - 1) / 4
        assert np.mean(counts == tokens) == pytest.approx(expected, abs=4 * math.sqrt(expected / 100_000))
    assert set(GeometricLength(mean_tokens=1).draw(stream(1, "x"), 100)) == {1}
    assert GeometricLength(mean_tokens=4, max_tokens=6).draw(stream(1, "x"), 10_000).max() == 6


def test_lognormal_clips_or_rejects():
    keys = {"median_tokens": 100.0, "sigma": 1.0, "min_tokens": 50, "max_tokens": 200}
    free = LognormalLength(median_tokens=100.0, sigma=1.0).draw(stream(1, "x"), 100_000)
    clipped = LognormalLength(**keys).draw(stream(1, "x"), 100_000)
    assert np.array_equal(clipped, np.clip(free, 50, 200))
    rejecting = LognormalLength(**keys, outside="reject")
    rejected = rejecting.draw(stream(1, "x"), 100_000)
    kept = free[(free >= 50) & (free <= 200)]
    assert rejecting.acceptance == pytest.approx(len(kept) / len(free), abs=0.007)
    assert rejected.min() == 50
    assert rejected.max() == 200
    assert np.mean(rejected == 200) < 0.01 < np.mean(clipped == 200)
    assert rejected.mean() == pytest.approx(kept.mean(), rel=0.01)


def test_lognormal_by_mean_or_median():
    by_mean = LognormalLength(mean_tokens=500.0, sigma=0.8)
    assert by_mean.mu == pytest.approx(math.log(500) - 0.32)
    draws = by_mean.draw(stream(1, "x"), 200_000)
    deviation = 500 * math.sqrt(math.expm1(0.64))
    assert abs(draws.mean() - 500) <= 4 * deviation / math.sqrt(200_000)
    by_median = LognormalLength(median_tokens=500.0, sigma=0.8).draw(stream(1, "x"), 200_000)
    assert np.median(by_median) == pytest.approx(500, rel=0.01)
    assert set(LognormalLength(median_tokens=7.0, sigma=0).draw(stream(1, "x"), 10)) == {7}


@pytest.mark.parametrize(
    ("law", "keys", "message"),
    [
        (FixedLength, {"tokens": 0}, "greater than or equal to 1"),
        (FixedLength, {"tokens": 5.0}, "valid integer"),
        (UniformLength, {"min_tokens": 9, "max_tokens": 8}, "at least min_tokens"),
        (GeometricLength, {"mean_tokens": 0.5}, "greater than or equal to 1"),
        (GeometricLength, {"mean_tokens": math.nan}, "finite"),
        (LognormalLength, {"sigma": 1.0}, "either median_tokens or mean_tokens"),
        (LognormalLength, {"sigma": 1.0, "median_tokens": 9.0, "mean_tokens": 9.0}, "either median_tokens or"),
        (LognormalLength, {"sigma": -1.0, "median_tokens": 9.0}, "greater than or equal to 0"),
        (LognormalLength, {"sigma": 1.0, "median_tokens": 9.0, "min_tokens": 5, "max_tokens": 4}, "at least min"),
        (LognormalLength, {"sigma": 0.1, "median_tokens": 9.0, "min_tokens": 90, "outside": "reject"}, "of the draws"),
        (QuantilesLength, {"cdf": [[1, 0.0]]}, "at least 2"),
        (QuantilesLength, {"cdf": [[1, 0.1], [2, 1.0]]}, "must be 0"),
        (QuantilesLength, {"cdf": [[1, 0.0], [2, 0.9]]}, "must be 0 and the last one's 1"),
        (QuantilesLength, {"cdf": [[2, 0.0], [2, 1.0]]}, "tokens must increase"),
        (QuantilesLength, {"cdf": [[1, 0.0], [2, 0.7], [3, 0.6], [4, 1.0]]}, "must not decrease"),
        (QuantilesLength, {"cdf": [[1, 0.0], [2, 1.5]]}, "less than or equal to 1"),
        (EmpiricalLengths, {}, "either rows or file"),
        (EmpiricalLengths, {"rows": [[1, 1]], "file": "x.csv"}, "either rows or file"),
        (EmpiricalLengths, {"rows": []}, "at least 1"),
        (EmpiricalLengths, {"rows": [[1, 0]]}, "greater than or equal to 1"),
        (EmpiricalLengths, {"rows": [[1, 1, -1.0]]}, "greater than or equal to 0"),
        (EmpiricalLengths, {"rows": [[1, 1, 0.0]]}, "at least one weight"),
        (EmpiricalLengths, {"rows": [[1, 1]], "max_total_tokens": 1}, "greater than or equal to 2"),
    ],
)
def test_senseless_laws_are_refused(law, keys, message):
    with pytest.raises(ValidationError, match=message):
        law(**keys)


def test_joint_ranges_must_rise_and_cover_the_prompts():
    laws = [{"up_to_prompt_tokens": end, "cdf": [[0, 0], [9, 1]]} for end in (10, 20)]
    with pytest.raises(ValidationError, match="must reach the longest prompt"):
        JointQuantilesLengths(prompt_cdf=[[0, 0], [21, 1]], output=laws)
    with pytest.raises(ValidationError, match="must increase"):
        JointQuantilesLengths(prompt_cdf=[[0, 0], [20, 1]], output=laws[::-1])


def test_joint_outputs_follow_their_prompt_range():
    laws = [
        {"up_to_prompt_tokens": end, "cdf": [[output - 1, 0], [output, 1]]}
        for end, output in ((1, 5), (10, 100), (20, 7))
    ]
    law = JointQuantilesLengths(prompt_cdf=[[0, 0], [20, 1]], output=laws)
    prompt, output = law.draw(stream(1, "x"), 10_000)
    assert np.array_equal(output, np.where(prompt <= 1, 5, np.where(prompt <= 10, 100, 7)))
    assert set(output) == {5, 100, 7}


def test_empirical_weights(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("user,output_tokens,prompt_tokens,weight\na,1,10,1\nb,2,20,0\nc,3,30,3\nd,4,40,0\n")
    prompt, output = EmpiricalLengths(file=str(path)).draw(stream(1, "x"), 40_000)
    assert set(zip(prompt.tolist(), output.tolist(), strict=True)) == {(10, 1), (30, 3)}
    assert np.mean(prompt == 30) == pytest.approx(0.75, abs=4 * math.sqrt(0.1875 / 40_000))
    path.write_text("prompt_tokens,output_tokens\n5,6\n")
    assert EmpiricalLengths(file=str(path)).draw(stream(1, "x"), 1) == ([5], [6])


@pytest.mark.parametrize(("uniform", "chosen"), [(0.0, 2), (np.nextafter(1.0, 0.0), 3)])
def test_rows_without_weight_are_never_drawn(uniform, chosen):
    class Edge:
        def random(self, n: int) -> np.ndarray:
            return np.full(n, uniform)

    law = EmpiricalLengths(rows=((1, 1, 0.0), (2, 1, 0.1), (3, 1, 0.2), (4, 1, 0.0)))
    assert law.draw(Edge(), 1)[0] == [chosen]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "missing column output_tokens, prompt_tokens"),
        ("prompt_tokens,weight\n5,1\n", 1, "missing column output_tokens"),
        ("prompt_tokens,output_tokens\n5,6\n5\n", 3, "expected whole numbers"),
        ("prompt_tokens,output_tokens\n5,6.5\n", 2, "expected whole numbers"),
        ("prompt_tokens,output_tokens\n5,0\n", 2, "must be 1 to"),
        ("prompt_tokens,output_tokens,weight\n5,6,nan\n", 2, "weight must be 0 or more"),
        ("prompt_tokens,output_tokens,weight\n5,6,0\n", None, "no row with a weight above 0"),
        ("prompt_tokens,output_tokens\n", None, "no row with a weight above 0"),
    ],
)
def test_faulty_pair_files(tmp_path, text, line, message):
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        EmpiricalLengths(file=str(path)).draw(stream(1, "x"), 1)
    assert (caught.value.problems[0].line, caught.value.problems[0].file) == (line, str(path))
    assert message in caught.value.problems[0].message


def test_absent_pair_file(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        EmpiricalLengths(file=str(tmp_path / "absent.csv")).draw(stream(1, "x"), 1)
