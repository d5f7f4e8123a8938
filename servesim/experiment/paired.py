"""Two scenarios under the same random numbers: how much they differ, and how sure that is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from servesim.experiment.replicate import Replications, Told, replicate
from servesim.metrics.intervals import Interval, across_replications
from servesim.scenario.schema import Scenario


class Paired:
    """Replications of two scenarios, the r-th of each with the same seed."""

    def __init__(self, a: Replications, b: Replications) -> None:
        self.a = a
        self.b = b

    def differences(self, *path: str) -> list[float]:
        """Return b - a, replication by replication, of a number of the summary: `("classes", "all", "e2e_s", "p99")`.

        Replications in which either does not define it are left out.
        """
        pairs = zip(self.a.summaries, self.b.summaries, strict=True)
        values = [(_at(a, path), _at(b, path)) for a, b in pairs]
        return [b - a for a, b in values if a is not None and b is not None]

    def interval(self, *path: str) -> Interval:
        """Return the mean difference b - a with its 95 % interval: Student's t on paired differences.

        Refused where either side's own interval would be (overloaded, a thin tail), where the sides measure different
        requests, where a replication does not define the number, or where nothing differs from pair to pair.
        """
        refusal = self.a.refusal(*path) or self.b.refusal(*path) or self._unlike()
        if refusal:
            return Interval(float("nan"), reason=refusal)
        return difference_interval(self.differences(*path), len(self.a))

    def _unlike(self) -> str:
        """Say in how many pairs the warm-up differs though the same was offered, or its rule; empty if in none."""
        pairs = [
            (a["measurement"], b["measurement"], _offered(a) == _offered(b))
            for a, b in zip(self.a.summaries, self.b.summaries, strict=True)
        ]
        unlike = sum(a["warmup"] != b["warmup"] or (same and a["left_out"] != b["left_out"]) for a, b, same in pairs)
        if not unlike:
            return ""
        return (
            f"different requests are measured in {unlike} of {len(pairs)} pairs: give both the same measurement.warmup"
        )


def _offered(summary: dict[str, Any]) -> int:
    """Return how many requests were offered, the warm-up included."""
    return int(summary["classes"]["all"]["offered"] + summary["measurement"]["left_out"])


def difference_interval(differences: list[float], replications: int) -> Interval:
    """Return the mean of paired differences with its 95 % interval; refused where one is missing or all are equal."""
    missing = replications - len(differences)
    if missing:
        return Interval(float("nan"), reason=f"not defined in {missing} of {replications} replications")
    if len(differences) > 1 and min(differences) == max(differences):
        return Interval(differences[0], reason="the same in all replications: no spread to judge by")
    return across_replications(differences)


def paired(
    a: Scenario | str | Path,
    b: Scenario | str | Path,
    number: int,
    seed: int | None = None,
    workers: int = 1,
    progress: Told | None = None,
) -> Paired:
    """Run `number` replications of each scenario under the same seeds, those of `a` unless `seed` is given.

    Streams of random numbers are named by purpose, so both see the same arrivals and lengths in the classes they share
    (common random numbers), and differences vary less than either. `progress(done, of)` counts the runs of both.
    """
    tell = progress or (lambda done, of: None)
    first = replicate(a, number, seed, workers, lambda done, of: tell(done, 2 * of))
    second = replicate(b, number, first.seeds[0], workers, lambda done, of: tell(of + done, 2 * of))
    return Paired(first, second)


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        tree = tree[step]
    return tree
