"""The free blocks of a replica one by one, with what they hold: the readable definition behind `ResumeCache`."""

from __future__ import annotations

from collections import OrderedDict

from servesim.request import Request


class BlockQueue:
    """vLLM's queue of free blocks: taken from the head, given back at the tail, content kept until taken.

    Blocks never used so far stand at the head, as a counter, so that the queue may be endless. A block is a number;
    `_content[block]` says which block of which request it still holds.
    """

    def __init__(self, blocks: int) -> None:
        self._unused = blocks
        self._next = 0
        self._queue: OrderedDict[int, None] = OrderedDict()
        self._content: dict[int, tuple[Request, int]] = {}
        self._place: dict[tuple[Request, int], int] = {}

    def take(self, count: int) -> list[int]:
        """Return `count` blocks from the head; what they held is lost."""
        taken = []
        for _ in range(count):
            if self._unused:
                self._unused -= 1
                self._next += 1
                taken.append(self._next)
            else:
                block, _ = self._queue.popitem(last=False)
                self._forget(block)
                taken.append(block)
        return taken

    def give_back(self, blocks: list[int]) -> None:
        """Put blocks at the tail, the last one first."""
        for block in reversed(blocks):
            self._queue[block] = None

    def remember(self, request: Request, blocks: list[int]) -> None:
        """Note that `blocks` hold the first full blocks of `request`, in order."""
        for index, block in enumerate(blocks):
            self._content[block] = (request, index)
            self._place[request, index] = block

    def found(self, request: Request) -> int:
        """Return how many of the request's first blocks are still in the queue."""
        count = 0
        while (request, count) in self._place:
            count += 1
        return count

    def claim(self, request: Request, count: int) -> list[int]:
        """Take the request's first `count` blocks out of the queue, wherever they stand; the others are forgotten."""
        claimed = [self._place[request, index] for index in range(count)]
        for block in claimed:
            del self._queue[block]
        for block in [block for block, (owner, _) in self._content.items() if owner is request]:
            self._forget(block)
        return claimed

    def _forget(self, block: int) -> None:
        content = self._content.pop(block, None)
        if content is not None:
            del self._place[content]
