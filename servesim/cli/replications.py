"""The options of `servesim run` for independent replications."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from servesim.cli.group import FiniteRange

if TYPE_CHECKING:
    from servesim.experiment.replicate import Replications
    from servesim.scenario.schema import Scenario

_MOST = 200
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Replicating:
    """How often to run: `number` times, or until `precision` is reached, at most `most` times."""

    number: int | None
    precision: float | None
    most: int | None
    metrics: tuple[str, ...]
    workers: int

    @property
    def wanted(self) -> bool:
        """True if there are to be replications."""
        return self.number is not None or self.precision is not None

    def run(self, scenario: Scenario, quiet: bool) -> Replications:
        """Run the replications; says on stderr if the precision was not reached."""
        from servesim.cli.progress import steps_bar
        from servesim.experiment.precision import replicate_until, stopping_warning
        from servesim.experiment.replicate import replicate

        with steps_bar("replications", enabled=not quiet) as progress:
            if self.precision is None:
                assert self.number is not None
                return replicate(scenario, self.number, workers=self.workers, progress=progress)
            most = self.most or _MOST
            found = replicate_until(
                scenario, self.precision, most, self.metrics, workers=self.workers, progress=progress
            )
        if not quiet and (warning := stopping_warning(found)):
            click.echo(f"warning: {warning}", err=True)
        return found


def replication_options(command: F) -> F:
    """Add the options, which reach the command as `replicating`."""

    @click.option(
        "--replications", "number", type=click.IntRange(1), metavar="N", help="Run N independent replications."
    )
    @click.option(
        "--precision",
        type=FiniteRange(0, 1, min_open=True, max_open=True),
        metavar="R",
        help="Replicate until the 95 % half-widths are at most R times their values.",
    )
    @click.option(
        "--max-replications",
        "most",
        type=click.IntRange(10),
        metavar="N",
        help=f"Of --precision; {_MOST} unless given.",
    )
    @click.option(
        "--metric",
        "metrics",
        multiple=True,
        metavar="NAME",
        help="What --precision is about, such as e2e_s.p99 or chat.ttft_s.mean; the headline metrics unless given.",
    )
    @click.option(
        "--workers",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        metavar="N",
        help="Processes for replications.",
    )
    @wraps(command)
    def with_replicating(
        *args: Any,
        number: int | None,
        precision: float | None,
        most: int | None,
        metrics: tuple[str, ...],
        workers: int,
        **rest: Any,
    ) -> Any:
        if number is not None and precision is not None:
            raise click.UsageError("give either --replications or --precision, with --max-replications")
        if precision is None and (most is not None or metrics):
            raise click.UsageError("--max-replications and --metric are for --precision")
        replicating = Replicating(number, precision, most, metrics, workers)
        return command(*args, replicating=replicating, **rest)

    return with_replicating  # type: ignore[return-value]
