"""Conversations and shared prefixes in figures: against simulated caches and known answers."""

import json
from collections import OrderedDict

import numpy as np
import pytest
from click.testing import CliRunner

from servesim.cli import main
from servesim.workload.logs.rows import LogRows
from servesim.workload.logs.structure import prefixes, quantile_table, reuse_distances, sessions
from tests.logs import samples


def rows_of(prompt, output=None, **more):
    n = len(prompt)
    output = np.ones(n, dtype=np.int64) if output is None else output
    return LogRows(np.arange(n, dtype=float), np.array(prompt), output, np.arange(1, n + 1), **more)


def test_reuse_distances_by_definition():
    rng = np.random.default_rng(0)
    blocks = rng.zipf(1.3, 5000) % 400  # several chunks long
    last, previous, expected = {}, [], []
    for place, block in enumerate(blocks.tolist()):
        before = last.get(block, -1)
        previous.append(before)
        expected.append(len(set(blocks[before + 1 : place].tolist())) if before >= 0 else -1)
        last[block] = place
    assert reuse_distances(np.array(previous)).tolist() == expected


@pytest.mark.parametrize("capacity", [32, 128])
def test_hit_shares_are_those_of_a_simulated_cache(capacity):
    rng = np.random.default_rng(1)
    prefix = [[chain * 100 + depth for depth in range(rng.integers(1, 20))] for chain in rng.zipf(1.5, 2000) % 30]
    found = prefixes(rows_of([16 * len(ids) for ids in prefix], prefix=prefix), 16)
    cache, seen, hits = OrderedDict(), set(), 0
    for ids in prefix:
        for block in ids:
            hits += block in cache and block in seen
            cache[block] = None
            cache.move_to_end(block)
            if len(cache) > capacity:
                cache.popitem(last=False)
        seen.update(ids)
    shares = dict(map(tuple, found["hit_share_by_cache_blocks"]))
    assert shares[capacity] == pytest.approx(hits / sum(map(len, prefix)), abs=1e-4)
    assert found["reusable_share_of_prompt_tokens"] == pytest.approx(max(shares.values()), abs=1e-4)


def test_sessions_turn_by_turn():
    """A hundred conversations of two turns, one after the other's end; the second turn adds 5 new tokens."""
    session = [f"s{n}" for n in range(100) for _ in range(2)]
    prompt = [value for _ in range(100) for value in (40, 40 + 7 + 5)]
    found = sessions(rows_of(prompt, np.full(200, 7), session=session))
    assert (found["sessions"], found["requests_in_sessions"], found["mean_turns"]) == (100, 200, 2.0)
    assert found["turns"] == [[2.0, 1.0]]
    assert found["gap_between_turns_s"] == [[1.0, 1.0]]
    assert found["new_prompt_tokens_per_turn"] == [[5.0, 1.0]]


def test_quantile_tables_reach_one_and_tell_no_single_values():
    values = np.random.default_rng(2).exponential(1.0, 10_000)
    table = quantile_table(values)
    assert table[-1][1] == 1.0
    for value, probability in table[1:-1]:
        assert np.mean(values <= value) == pytest.approx(probability, abs=0.002)
    assert quantile_table(values[:49]) is None


def test_the_side_file_of_a_fit(tmp_path):
    rng = np.random.default_rng(3)
    log, structure = tmp_path / "log.jsonl", tmp_path / "structure.json"
    record = json.loads(samples.MOONCAKE.splitlines()[0])
    log.write_text(samples.jsonl(*(record | {"timestamp": int(t), "hash_ids": [1, 2 + n % 9]}
                                   for n, t in enumerate(np.cumsum(rng.exponential(900, 400))))))  # fmt: skip
    arguments = ["workload", "fit", str(log), "-o", str(tmp_path / "part.yaml"), "--structure", str(structure)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(structure.read_text())
    assert (found["schema_version"], found["requests"], found["sessions"]) == (1, 400, None)
    assert found["prefixes"]["distinct_blocks"] == 10
    assert found["prefixes"]["requests_with_reuse"] == pytest.approx(399 / 400)
    assert found["prefixes"]["hit_share_by_cache_blocks"][-1] == [10, pytest.approx(1 - 10 / 800)]
