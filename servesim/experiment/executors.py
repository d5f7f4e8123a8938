"""Where the points of a sweep run: this process, local processes (joblib), a Dask cluster, a Ray cluster.

Every executor yields outcomes as they are ready. A worker that dies costs its points' time: they are run again. A point
that takes its worker with it time and again, alone too, has failed, which its outcome says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

from servesim.errors import InputError, ServesimError
from servesim.experiment.sweep_point import Outcome, Task, failure, run_task

Run = Callable[[list[Task]], Iterator[tuple[int, Outcome]]]
Outcomes = Iterator[tuple[int, Outcome]]
_STALLS = 2
_ALONE = 2
_IDLE_S = 20
_LOST = "its worker process died each time it was tried (killed, or out of memory)"


def executor(name: str, workers: int) -> Run:
    """Return what runs tasks: `local` on `workers` processes, `dask`, `dask://host:port`, `ray` or `ray://host:port`.

    `dask` and `ray` alone start a cluster of `workers` processes on this machine. Raises InputError for other names and
    where the package is not installed.
    """
    kind, _, address = name.partition("://")
    if name == "local":
        return _in_turn if workers == 1 else lambda tasks: _local(tasks, workers)
    if kind in ("dask", "ray") and (address or name == kind):
        _wanted({"dask": "distributed", "ray": "ray"}[kind], kind)
        where = {"dask": _dask, "ray": _ray}[kind]
        return lambda tasks: where(tasks, address, workers)
    raise InputError(f"executor {name!r}: expected local, dask, dask://host:port, ray or ray://host:port")


def _wanted(package: str, extra: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise InputError(f"executor {extra}: {package} is not installed; pip install 'servesim[{extra}]'")


def _in_turn(tasks: list[Task]) -> Outcomes:
    return map(run_task, tasks)


def _lost() -> Outcome:
    return failure(ServesimError(_LOST))


def _local(tasks: list[Task], workers: int) -> Outcomes:
    """Run on local processes; after a death the remaining points get new ones, alone if that keeps happening."""
    from joblib.externals.loky.process_executor import BrokenProcessPool  # type: ignore[import-untyped]

    left = {task.index: task for task in tasks}
    stalls = 0
    while left and stalls < _STALLS:
        before = len(left)
        try:
            with closing(_parallel(list(left.values()), workers)) as outcomes:
                for index, outcome in outcomes:
                    del left[index]
                    yield index, outcome
        except BrokenProcessPool:
            stalls = stalls + 1 if len(left) == before else 0
    for task in left.values():
        yield _alone(task, BrokenProcessPool)


def _parallel(tasks: list[Task], workers: int) -> Any:
    from joblib import Parallel, delayed  # type: ignore[import-untyped]

    # One point at a time to each worker, and nothing written to disk on the way: a kill leaves nothing behind, and
    # workers whose sweep was killed end soon.
    parallel = Parallel(
        workers, return_as="generator_unordered", batch_size=1, max_nbytes=None, idle_worker_timeout=_IDLE_S
    )
    return parallel(delayed(run_task)(task) for task in tasks)


def _alone(task: Task, broken: type[Exception]) -> tuple[int, Outcome]:
    for _ in range(_ALONE):
        try:
            # With one worker joblib would stay in this process, which the point might take with it.
            found: list[tuple[int, Outcome]] = list(_parallel([task], 2))
            return found[0]
        except broken:
            continue
    return task.index, _lost()


def _dask(tasks: list[Task], address: str, workers: int) -> Outcomes:
    """Run on a Dask cluster, which itself runs again what a dead worker had; three deaths and a point has failed."""
    from distributed import Client, KilledWorker, LocalCluster, as_completed

    with ExitStack() as stack:
        where: Any = f"tcp://{address}"
        if not address:
            where = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=50)
            stack.enter_context(where)
        try:
            client = stack.enter_context(Client(where))
        except OSError as error:
            raise ServesimError(f"no Dask scheduler at {address}: {error}") from None
        # Not through joblib's Dask backend: that waits for ever for a task whose worker died too often.
        futures = {client.submit(run_task, task, pure=False): task.index for task in tasks}
        for future in as_completed(futures):
            try:
                yield future.result()
            except KilledWorker:
                yield futures[future], _lost()


def _ray(tasks: list[Task], address: str, workers: int) -> Outcomes:
    """Run on a Ray cluster, which itself runs again what a dead worker had, three times at most."""
    import ray

    given = {"address": f"ray://{address}"} if address else {"num_cpus": workers, "include_dashboard": False}
    ray.init(**given, log_to_driver=False)
    try:
        remote = ray.remote(max_retries=3)(run_task)
        left = {remote.remote(task): task.index for task in tasks}
        while left:
            done, _ = ray.wait(list(left), num_returns=1)
            index = left.pop(done[0])
            try:
                yield ray.get(done[0])
            except ray.exceptions.WorkerCrashedError:
                yield index, _lost()
    finally:
        ray.shutdown()
