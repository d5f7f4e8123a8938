"""What replicas have in common that serve a request as a whole: how requests end, and how that is logged."""

from __future__ import annotations

from servesim.engine.base import Surroundings
from servesim.metrics.record import RUN_COLUMNS, SEGMENT_COLUMNS, ReplicaRecord
from servesim.metrics.spool import Spool
from servesim.request import COMPLETED, GONE, Request


class Holding:
    """The books of one replica. All tokens of a request come at its end; a row of `runs` is one service or batch."""

    def __init__(self, around: Surroundings, index: int, servers: float, max_batch: float = 1) -> None:
        self.index = index
        self._clock = around.clock
        self._record = around.record
        self.runs = Spool(RUN_COLUMNS)
        self.segments = Spool(SEGMENT_COLUMNS)
        self._servers = servers
        self._max_batch = max_batch
        self._rows = 0

    def spools(self) -> list[Spool]:
        """Return the logs that grow as the replica works."""
        return [self.runs, self.segments]

    def log(self) -> ReplicaRecord:
        """Return what the replica did."""
        return ReplicaRecord(self.runs, self.segments, max_num_seqs=self._max_batch, servers=self._servers)

    def refuse(self, request: Request, reason: str) -> None:
        """Reject a request on arrival."""
        request.refuse(reason, self._clock.now_s)
        request.done(request)
        self._record(request)

    def log_service(self, start_s: float, seconds: float, requests: int, prompt_tokens: int) -> None:
        """Log that a server worked `seconds` on requests that are now done or were broken off."""
        self.runs.add((start_s, 0, 0, requests, prompt_tokens, seconds, 0.0, 0, 1, 0))
        self._rows += 1

    def completed(self, request: Request) -> None:
        """End a request whose service, alone on a server since it was first scheduled, is over now."""
        start_s, now_s = request.first_scheduled_s, self._clock.now_s
        self.log_service(start_s, now_s - start_s, 1, request.prompt_tokens)
        self.answer(request, now_s)

    def answer(self, request: Request, now_s: float) -> None:
        """End a request that has its whole answer now; the last row of `runs` is the one that it was in."""
        request.first_row = request.last_row = self._rows - 1
        request.first_token_s = request.finish_s = now_s
        request.generated_tokens = request.output_tokens
        request.host_ttft_s = request.host_s = 0.0
        request.stage = GONE
        request.outcome = COMPLETED
        request.done(request)
        self._record(request)

    def computed_in_vain(self, request: Request) -> None:
        """Record a cancelled request whose batch, the last row of `runs`, computed it to the end all the same."""
        request.first_row = request.last_row = self._rows - 1
        self._record(request)

    def broken_off(self, request: Request) -> None:
        """End a cancelled request that was alone on a server since it was first scheduled; it gets nothing."""
        start_s = request.first_scheduled_s
        self.log_service(start_s, self._clock.now_s - start_s, 0, 0)
        self.left(request)

    def left(self, request: Request) -> None:
        """End a cancelled request of which nothing was computed."""
        request.end_cancelled()
        self._record(request)
