"""A progress bar on stderr: only on a terminal, and only for runs that take a while."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from servesim.scenario.schema import Scenario

_PATIENCE_S = 1.0


@contextmanager
def progress_bar(scenario: Scenario, *, enabled: bool) -> Iterator[Callable[[float, int], None] | None]:
    """Yield a callback for `simulate`, or None where no bar is wanted; the bar appears after a second."""
    if not enabled or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    total = expected_requests(scenario)
    task = bar.add_task("", total=total)
    started_s = time.monotonic()

    def show(now_s: float, requests: int) -> None:
        if not bar.live.is_started:
            if time.monotonic() - started_s < _PATIENCE_S:
                return
            bar.start()
        of = "" if total is None else f" of {total:,}"
        bar.update(task, completed=requests, description=f"{requests:,}{of} requests, {now_s:,.0f} s simulated")

    try:
        yield show
    finally:
        if bar.live.is_started:
            bar.stop()


@contextmanager
def steps_bar(what: str, *, enabled: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Yield a callback that is told (done, of) of several runs, called `what`; None where no bar is wanted."""
    if not enabled or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what)

        def show(done: int, of: int) -> None:
            bar.update(task, completed=done, total=of, description=f"{done} of {of} {what}")

        yield show


@contextmanager
def points_bar(*, enabled: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Yield a callback that is told (done, of) of a sweep's points and shows the remaining time, or None.

    Points that are there from the start, from a sweep that is resumed, say nothing of how long the others take.
    """
    if not enabled or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=600) as bar:
        task = bar.add_task("points", start=False)

        def show(done: int, of: int) -> None:
            bar.update(task, completed=done, total=of, description=f"{done} of {of} points")
            bar.start_task(task)

        yield show


def expected_requests(scenario: Scenario) -> int | None:
    """Return how many requests the scenario will offer, if it says so."""
    total = 0
    for spec in scenario.workload.classes.values():
        count = spec.num_requests or (None if spec.duration_s else scenario.workload.num_requests)
        if count is None:
            return None
        total += count
    return total


@contextmanager
def count_bar(what: str, *, enabled: bool) -> Iterator[Callable[[int], None] | None]:
    """Yield a callback that is told how many of `what` are done, of an unknown number; None where it is not wanted."""
    if not enabled or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what)
        yield lambda done: bar.update(task, description=f"{done} {what}")
