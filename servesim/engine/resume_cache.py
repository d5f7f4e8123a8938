"""What preempted requests find again of their KV cache when they resume: vLLM's prefix cache, for own blocks only.

vLLM's free blocks are a queue: blocks given back join at the tail, a request's last block first, and new ones are taken
from the head. A block keeps its content until it is taken. So of the blocks that a preempted request left behind, its
last ones are lost first, and how many are left follows from how many blocks are free and how many came in behind them
(`vllm/v1/core/kv_cache_utils.py`, FreeKVCacheBlockQueue; `vllm/v1/core/block_pool.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from servesim.request import Request


@dataclass(slots=True)
class ResumeCache:
    """The blocks preempted requests left in the free queue of one replica, as counters.

    `freed_blocks` counts all blocks given back so far. `_left[request]` is that count when the request's own blocks
    had just joined the queue, less what of the blocks behind them was claimed again, and how many blocks were full:
    only full ones can be found again.
    """

    freed_blocks: int = 0
    _left: dict[Request, tuple[int, int]] = field(default_factory=dict)

    def leave(self, request: Request, blocks: int, full_blocks: int) -> None:
        """Note that a preempted request gave back `blocks`, the first `full_blocks` of them with reusable content."""
        self.freed_blocks += blocks
        self._left[request] = (self.freed_blocks, full_blocks)

    def found(self, request: Request, free_blocks: int) -> int:
        """Return how many of its first blocks a request would find now, with `free_blocks` in the queue."""
        mark, full = self._left.get(request, (0, 0))
        return max(0, min(full, free_blocks - (self.freed_blocks - mark)))

    def claim(self, request: Request, blocks: int) -> None:
        """Take the `blocks` that a resuming request found out of the queue."""
        mark, _ = self._left.pop(request, (0, 0))
        for other, (earlier, full) in self._left.items():
            if earlier < mark:
                self._left[other] = (earlier + blocks, full)

    def forget(self, request: Request) -> None:
        """Drop a request that will not resume."""
        self._left.pop(request, None)
