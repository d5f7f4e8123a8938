"""The processes among which a model is split: how torchrun's launcher starts them, and how they speak to each other.

Every process (rank) has a GPU of its own and holds its part of the model. Collectives on tensors are NCCL's on GPUs
and gloo's on processors; what the ranks tell each other goes through gloo always, so that it leaves the GPUs alone.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from servesim.calibrate.torch_measure import OutOfMemory
from servesim.errors import InputError, ServesimError

T = TypeVar("T")
Kind = Literal["cuda", "cpu"]
_FREE_SHARE = 0.95  # the rest is for NCCL's buffers, which PyTorch does not count
_SILENCE = timedelta(minutes=10)  # after which a rank that waits for another one gives up


@dataclass(frozen=True, slots=True)
class Ranks:
    """One rank among `size`; a single one has nobody to talk to, and all of this costs nothing."""

    rank: int = 0
    size: int = 1
    kind: Kind = "cpu"

    def add(self, part: torch.Tensor) -> torch.Tensor:
        """Return the sum of all ranks' tensors, in the place of `part`."""
        dist.all_reduce(part)
        return part

    def gather(self, part: torch.Tensor) -> torch.Tensor:
        """Return all ranks' tensors side by side in their last dimension."""
        found = [torch.empty_like(part) for _ in range(self.size)]
        dist.all_gather(found, part)
        return torch.cat(found, dim=-1)

    def meet(self) -> None:
        """Let all ranks begin together: what is queued on a GPU after this waits for the others there."""
        dist.all_reduce(torch.zeros(1, device=self.kind))

    def largest(self, value: float) -> float:
        """Return the largest of all ranks' values."""
        if self.size == 1:
            return value
        found = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return float(found)

    def smallest(self, value: float) -> float:
        """Return the smallest of all ranks' values."""
        return -self.largest(-value)

    def all_say(self, answer: bool) -> bool:
        """Return whether all ranks say yes."""
        return self.smallest(float(answer)) == 1.0

    def fit(self, make: Callable[[], T]) -> T:
        """Return what `make` makes here; OutOfMemory on all ranks where one of them has no room for its own."""
        made: list[T] = []
        with suppress(OutOfMemory):
            made.append(make())
        if not self.all_say(bool(made)):
            raise OutOfMemory
        return made[0]

    def tell(self, what: Any) -> None:
        """Say something to the other ranks, who `hear` it."""
        dist.broadcast_object_list([what], src=0, device=torch.device("cpu"))

    def hear(self) -> Any:
        """Return what the first rank says next."""
        said: list[Any] = [None]
        dist.broadcast_object_list(said, src=0, device=torch.device("cpu"))
        return said[0]

    def each(self, own: str) -> tuple[str, ...]:
        """Return what each rank says of itself, in their order."""
        said: list[Any] = [own] * self.size
        if self.size > 1:
            dist.all_gather_object(said, own)
        return tuple(said)


ALONE = Ranks()


def launched(size: int, kind: Kind, run: Callable[..., T | None], *arguments: Any) -> T | None:
    """Return what `run(ranks, *arguments)` returns on the first of `size` ranks, each a process of its own.

    Where torchrun has started this process already, it is one of them, and None is returned on the others. What
    servesim refuses in a rank is raised here.
    """
    if dist.is_torchelastic_launched():
        started = int(os.environ["WORLD_SIZE"])
        if started != size:
            raise InputError(
                f"--tp {size}: torchrun started {started} processes; without torchrun they are started here"
            )
        said = _in_rank(kind, run, *arguments)
    else:
        config = LaunchConfig(1, 1, size, rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=0)
        config.run_id = f"servesim-{os.getpid()}"
        try:
            with _own_signals():
                said = elastic_launch(config, _in_rank)(kind, run, *arguments)[0]
        except SignalException:
            raise KeyboardInterrupt from None
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            raise ServesimError(
                f"rank {rank} of {size} failed ({failure.exitcode}): see its message above; points measured so far "
                "are kept"
            ) from error
    if isinstance(said, ServesimError):
        raise said
    return said


def _in_rank(kind: Kind, run: Callable[..., T | None], *arguments: Any) -> T | ServesimError | None:
    """Return what `run` returns in this rank, or the error that it raises on purpose."""
    with _quiet_stdout(), _joined(kind) as ranks:
        try:
            return run(ranks, *arguments)
        except ServesimError as error:
            return error


@contextmanager
def _joined(kind: Kind) -> Iterator[Ranks]:
    if kind == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo", timeout=_SILENCE)
    try:
        ranks = Ranks(dist.get_rank(), dist.get_world_size(), kind)
        if kind == "cuda":
            _equal_memory(ranks)
        yield ranks
    finally:
        dist.destroy_process_group()


def _equal_memory(ranks: Ranks) -> None:
    """Allow every rank what the fullest GPU has free.

    Equal parts then run out of memory at the same allocation, and no rank waits in a collective for one that did.
    """
    free, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(ranks.smallest(_FREE_SHARE * free / total))


@contextmanager
def _quiet_stdout() -> Iterator[None]:
    """Send what libraries print (gloo greets its peers) to stderr: stdout belongs to the result."""
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Put back the signal handlers that the launcher replaces."""
    names = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    kept = {name: signal.getsignal(name) for name in names}
    try:
        yield
    finally:
        for name, handler in kept.items():
            signal.signal(name, handler)
