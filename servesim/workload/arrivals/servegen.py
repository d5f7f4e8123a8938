"""Requests drawn from ServeGen's descriptions of production clients."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, Strict

from servesim.errors import InputError, Problem
from servesim.registry import register
from servesim.workload.base import RequestRate
from servesim.workload.logs.servegen import Client, drawn_rows, left_out, mean_rate_rps, read_clients
from servesim.workload.logs.text import named_faults
from servesim.workload.trace import TraceArrivals, TraceReplay, TraceRows

ClientNumber = Annotated[int, Field(ge=0, le=10**9)]


@register("arrivals")
class ServegenArrivals(TraceArrivals):
    """The superposed requests of ServeGen's clients, each with its own rate, burstiness and lengths per window.

    `path` is the folder with `chunk-N-trace.csv` and `chunk-N-dataset.json`, or one client's trace file. `start_s` and
    `end_s` choose windows by their start in the description's seconds; `request_rate_rps` scales all clients alike so
    that the chosen windows have that mean rate, while `rate_scale` plays everything faster. Unlike a log's, the
    requests are drawn anew for every seed: gamma or Weibull gaps in every window of every client, lengths independent
    of each other. Source: Xiang et al., "ServeGen: Workload Characterization and Generation of Large Language Model
    Serving in Production", arXiv:2505.09999.
    """

    kind: Literal["servegen"] = "servegen"
    clients: (
        Annotated[
            tuple[ClientNumber, ...],
            Strict(False),
            Field(min_length=1, description="Numbers of the clients; none: all."),
        ]
        | None
    ) = None
    request_rate_rps: RequestRate | None = None
    unknown_lengths: Annotated[
        Literal["refuse", "drop"],
        Field(description="Active windows without lengths: an input error, or leave them out."),
    ] = "refuse"

    def joint(self, seed: int = 0, class_name: str = "") -> TraceReplay:
        """Return the requests drawn under a seed for a class, the first chosen window's start shifted to 0."""
        return _DrawnReplay(self, seed, class_name)

    def rows(self) -> Iterator[TraceRows]:
        """Yield the requests drawn with seed 0."""
        return self.rows_of(0, "")

    def rows_of(self, seed: int, class_name: str) -> Iterator[TraceRows]:
        """Yield the requests drawn for a class under a seed; raise InputError for a description that is malformed."""
        with named_faults(self.path):
            chosen = self._chosen(read_clients(self.path))
        end_s = math.inf if self.end_s is None else self.end_s
        unknown = left_out(chosen, self.start_s, end_s)
        if unknown and self.unknown_lengths == "refuse":
            hint = "; name other clients, or say unknown_lengths: drop"
            raise InputError(Problem(f"lengths are not known: {'; '.join(unknown)}{hint}", file=self.path))
        factor = 1.0
        if self.request_rate_rps is not None:
            mean_rps = mean_rate_rps(chosen, self.start_s, end_s)
            factor = self.request_rate_rps / mean_rps if mean_rps > 0 else 1.0
        for rows in drawn_rows(chosen, self.start_s, end_s, seed=seed, name=class_name, factor=factor):
            yield TraceRows(rows.time_s + self.start_s, rows.prompt_tokens, rows.output_tokens, rows.line)

    def _chosen(self, found: list[Client]) -> list[Client]:
        if self.clients is None:
            return found
        missing = sorted(set(self.clients) - {client.number for client in found})
        if missing:
            there = ", ".join(str(client.number) for client in found)
            raise InputError(Problem(f"no client {', '.join(map(str, missing))}; there are {there}", file=self.path))
        return [client for client in found if client.number in self.clients]


class _DrawnReplay(TraceReplay):
    """A pass over drawn requests, whose window the drawing has already chosen."""

    def __init__(self, spec: ServegenArrivals, seed: int, class_name: str) -> None:
        super().__init__(spec)
        self._rows = spec.rows_of(seed, class_name)

    def _windowed(self) -> Iterator[TraceRows]:
        return self._rows
