"""Records as tables: requests, iterations, token times; as pandas frames and as parquet files.

pandas and pyarrow are imported where they are used, so that importing servesim stays fast. Parquet files are written
a row group at a time, with the same bytes for the same record.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from servesim.errors import InputError
from servesim.metrics.attempts import Attempts, as_logical, logical_chunks
from servesim.metrics.chunks import Columns, named_chunks
from servesim.metrics.definitions import e2e_s, tpot_s, ttft_s
from servesim.metrics.record import PoolRecord, ReplicaRecord, RunRecord
from servesim.metrics.split import PARTS, Splitter, network_s
from servesim.metrics.spool import Spool
from servesim.metrics.timeseries import timeseries
from servesim.metrics.waiting import Waiting
from servesim.request import COMPLETED, OUTCOMES

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa  # type: ignore[import-untyped]

Table = dict[str, NDArray[Any]]

# Columns of REQUEST_COLUMNS kept as whole numbers. "class", "pool" and "outcome" are codes here and names outside.
_WHOLE = ("prompt_tokens", "output_tokens", "generated_tokens")
_ATTEMPT_TIMES = ("arrival_s", "first_scheduled_s", "first_token_s", "finish_s")
# The parts that differ before the first token.
_TTFT_PARTS = ("own_compute_s", "preemption_s", "host_s", "interference_s")


def requests_frame(record: RunRecord) -> pd.DataFrame:
    """Return one row per logical request, sorted by `request_id`; see docs/metrics.md for the columns.

    Latencies are NaN where a request did not get there, and parts are those of completed requests only: PARTS split
    E2E, and `ttft_` before a part's name means the share of it in TTFT.
    """

    return _frame(list(_request_tables(record)), _names(record), "request_id")


def attempts_frame(record: RunRecord) -> pd.DataFrame:
    """Return one row per attempt, sorted by `attempt_id`: the order in which they were sent. See docs/metrics.md."""
    return _frame(list(_attempt_tables(record)), _names(record), "attempt_id")


def _frame(tables: list[Table], names: dict[str, list[str]], key: str) -> pd.DataFrame:
    import pandas as pd

    whole = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    order = np.argsort(whole[key], kind="stable")
    return pd.DataFrame(
        {
            name: _categorical(column[order], names[name]) if name in names else column[order]
            for name, column in whole.items()
        }
    )


def write_requests_parquet(record: RunRecord, path: str | Path) -> None:
    """Write the table of `requests_frame`, in the order in which requests ended."""
    names = _names(record)
    _write(path, (_arrow(table, names) for table in _request_tables(record)))


def write_attempts_parquet(record: RunRecord, path: str | Path) -> None:
    """Write the table of `attempts_frame`, in the order in which attempts ended."""
    names = _names(record)
    _write(path, (_arrow(table, names) for table in _attempt_tables(record)))


def write_timeseries_parquet(record: RunRecord, path: str | Path, interval_s: float | None = None) -> None:
    """Write the table of `servesim.metrics.timeseries.timeseries`."""
    table = timeseries(record, interval_s)
    names = [pool.name for pool in record.pools]
    codes = np.repeat(np.arange(len(names), dtype=np.int32), len(table["pool"]) // max(len(names), 1))
    _write(path, [_arrow({**table, "pool": codes}, {"pool": names})])


def iterations_frame(record: RunRecord) -> pd.DataFrame:
    """Return one row per iteration, replica after replica, in order of time.

    `context_tokens` is the summed context of the decoding sequences before the iteration.
    """
    import pandas as pd

    parts = [
        _iterations(chunk, code, pool.first_replica + number)
        for code, pool in enumerate(record.pools)
        for number, replica in enumerate(pool.replicas)
        for chunk in named_chunks(replica.runs)
    ]
    if not parts:
        parts = [_iterations(_no_rows(record.pools[0].replicas[0].runs), 0, 0)]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    pools = _categorical(whole.pop("pool"), [pool.name for pool in record.pools])
    return pd.DataFrame({"pool": pools, **whole})


def token_times(record: RunRecord, request_id: int, attempt: int | None = None) -> list[float]:
    """Return when each output token of a request was out at the server, in absolute seconds.

    Of its last attempt, or of attempt 1, 2, ... A request that was cut off has the tokens of the iterations that ended
    before it. Raises InputError if there is no such request or attempt.
    """
    request_id = _attempt_id(record, request_id, attempt)
    for chunk in named_chunks(record.requests):
        where = np.flatnonzero(chunk["request_id"] == request_id)
        if len(where):
            return _token_times(record, {name: float(column[where[0]]) for name, column in chunk.items()})
    raise InputError(f"there is no request {request_id}; ids are 0 to {len(record.requests) - 1}")


def _attempt_id(record: RunRecord, request_id: int, attempt: int | None) -> int:
    """Return the id of a request's last attempt, or of the one with this number."""
    attempts = Attempts(record)
    ids = attempts.request_id[attempts.first_id == request_id].tolist() or [request_id]
    if attempt is None:
        return int(ids[-1])
    if not 1 <= attempt <= len(ids):
        raise InputError(f"request {request_id} has no attempt {attempt}; it has {len(ids)}")
    return int(ids[attempt - 1])


def _token_times(record: RunRecord, request: dict[str, float]) -> list[float]:
    pool, replica = _replica_of(record, int(request["replica"]))
    if pool is None or replica is None or request["first_row"] < 0 or np.isnan(request["first_token_s"]):
        return []
    start, iterations, first, bend = replica.runs.column("start_s", "iterations", "first_s", "bend_s")

    def boundaries(first_row: float, last_row: float) -> Iterator[float]:
        for row in range(int(first_row), int(last_row)):
            j = np.arange(1, int(iterations[row]) + 1)
            yield from (start[row] + j * (first[row] + bend[row] * (j - 1))).tolist()

    times = [request["first_token_s"]]
    for chunk in named_chunks(replica.segments):
        for at in np.flatnonzero(chunk["request_id"] == request["request_id"]):
            times += boundaries(chunk["first_row"][at], chunk["last_row"][at])
            times.append(float(chunk["gap_end_s"][at]))
    times += boundaries(request["first_row"], request["last_row"])
    return [time for time in times if time <= request["finish_s"]]


def _replica_of(record: RunRecord, number: int) -> tuple[PoolRecord | None, ReplicaRecord | None]:
    for pool in record.pools:
        if 0 <= number - pool.first_replica < len(pool.replicas):
            return pool, pool.replicas[number - pool.first_replica]
    return None, None


def _names(record: RunRecord) -> dict[str, list[str]]:
    """Return what the codes of a request table mean."""
    classes, pools = [one.name for one in record.classes], [pool.name for pool in record.pools]
    return {"class": classes, "pool": pools, "outcome": list(OUTCOMES)}


def _categorical(codes: NDArray[np.int32], names: list[str]) -> pd.Categorical[str]:
    import pandas as pd

    return pd.Categorical.from_codes(codes, categories=pd.Index(names, dtype="object"))


def _request_tables(record: RunRecord) -> Iterator[Table]:
    splitter, waiting, network = Splitter(record), Waiting(record), network_s(record)
    pools = [pool.name for pool in record.pools]
    pool_of_class = np.array([pools.index(one.pool) for one in record.classes], dtype=np.int32)
    nothing, at_once = np.empty(0), record.answered_at_once()
    chunks = (
        logical_chunks(record)
        if len(record.requests)
        else [as_logical(_no_rows(record.requests), nothing, nothing, nothing)]
    )
    turns = None if record.session_turns is None else record.session_turns.column("request_id", "session_id", "turn")
    for chunk in chunks:
        table = _request_table(chunk, splitter, waiting, network, pool_of_class, at_once)
        yield table if turns is None else {**table, **_session_columns(table["request_id"], *turns)}


def _session_columns(request_id: NDArray[Any], known: NDArray[Any], *values: NDArray[Any]) -> Table:
    """Return session and turn of each request; -1 and 0 where it is part of none."""
    at = np.minimum(np.searchsorted(known, request_id), len(known) - 1)
    found = known[at] == request_id if len(known) else np.zeros(len(request_id), dtype=np.bool_)
    columns = zip(("session_id", "turn"), values, (-1, 0), strict=True)
    return {
        name: np.where(found, value[at] if len(known) else none, none).astype(np.int64) for name, value, none in columns
    }


def _attempt_tables(record: RunRecord) -> Iterator[Table]:
    attempts = Attempts(record)
    for chunk in named_chunks(record.requests) if len(record.requests) else [_no_rows(record.requests)]:
        attempt_id = chunk["request_id"].astype(np.int64)
        request_id, number = attempt_id, np.ones(len(attempt_id), dtype=np.int64)
        if len(attempts):
            here, place = attempts.find(chunk["request_id"])
            request_id = np.where(here, attempts.first_id[place], request_id)
            number = np.where(here, attempts.number[place], number)
        yield {
            "attempt_id": attempt_id,
            "request_id": request_id,
            "attempt": number,
            "class": chunk["class_index"].astype(np.int32),
            "replica": chunk["replica"].astype(np.int32),
            "outcome": chunk["outcome"].astype(np.int32),
            "generated_tokens": chunk["generated_tokens"].astype(np.int64),
            **{name: chunk[name].copy() for name in _ATTEMPT_TIMES},
        }


def _no_rows(spool: Spool) -> Columns:
    """Return the columns of an empty table, so that whatever is made of it has its columns too."""
    return {name: np.empty(0) for name in spool.columns}


def _request_table(
    chunk: Columns,
    splitter: Splitter,
    waiting: Waiting,
    network: float,
    pool_of_class: NDArray[np.int32],
    at_once: NDArray[np.bool_],
) -> Table:
    which = chunk["class_index"].astype(np.int32)
    done = chunk["outcome"] == COMPLETED
    arrival = chunk["arrival_s"]
    queue, formation = waiting.of(chunk)
    ttft = ttft_s(arrival, chunk["first_token_s"], network)
    e2e = np.where(done, e2e_s(arrival, chunk["finish_s"], network), np.nan)
    split = splitter.split({name: column[done] for name, column in chunk.items()})
    parts = {name: split.e2e_s[name] for name in PARTS} | {f"ttft_{name}": split.ttft_s[name] for name in _TTFT_PARTS}
    table: Table = {
        "request_id": chunk["logical_id"].astype(np.int64),
        "class": which,
        "pool": pool_of_class[which],
        "replica": chunk["replica"].astype(np.int32),
        "outcome": chunk["outcome"].astype(np.int32),
        "attempts": chunk["attempts"].astype(np.int32),
        **{name: chunk[name].astype(np.int64) for name in _WHOLE},
        "arrival_s": arrival.copy(),
        "finish_s": chunk["finish_s"].copy(),
        "ttft_s": ttft,
        "tpot_s": tpot_s(e2e, ttft, chunk["output_tokens"], at_once[which]),
        "e2e_s": e2e,
        "queue_s": queue,
        "formation_s": formation,
        "preemptions": chunk["preemptions"].astype(np.int32),
    }
    for name, values in parts.items():
        if name not in table:
            table[name] = np.full(len(arrival), np.nan)
            table[name][done] = values
    return table


def _iterations(chunk: Columns, pool: int, replica: int) -> Table:
    count = chunk["iterations"].astype(np.int64)
    run = np.repeat(np.arange(len(count)), count)
    i = np.arange(len(run)) - np.repeat(np.cumsum(count) - count, count)
    first, bend = chunk["first_s"][run], chunk["bend_s"][run]
    seqs = chunk["decode_seqs"].astype(np.int64)
    return {
        "pool": np.full(len(run), pool, dtype=np.int32),
        "replica": np.full(len(run), replica, dtype=np.int32),
        "start_s": chunk["start_s"][run] + i * (first + bend * (i - 1)),
        "duration_s": first + 2 * bend * i,
        "decode_seqs": seqs[run],
        "context_tokens": chunk["context_tokens"].astype(np.int64)[run] + i * seqs[run],
        "prefill_seqs": chunk["prefill_seqs"].astype(np.int64)[run],
        "prefill_tokens": chunk["prefill_tokens"].astype(np.int64)[run],
    }


def _arrow(table: Table, names: dict[str, list[str]]) -> pa.Table:
    import pyarrow as pa

    return pa.table(
        {
            name: pa.DictionaryArray.from_arrays(pa.array(column, pa.int32()), pa.array(names[name], pa.string()))
            if name in names
            else pa.array(column, from_pandas=True)  # NaN, a latency that never was, becomes null
            for name, column in table.items()
        }
    )


def _write(path: str | Path, tables: Any) -> None:
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    writer = None
    try:
        for table in tables:
            if writer is None:
                coded = [field.name for field in table.schema if str(field.type).startswith("dictionary")]
                writer = pq.ParquetWriter(path, table.schema, compression="zstd", use_dictionary=coded)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
