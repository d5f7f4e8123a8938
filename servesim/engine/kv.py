"""KV-cache blocks as counters: how many are free, and which iterations will need new ones.

All decoding sequences grow by one token per iteration, so a sequence whose context is c before iteration i needs a
new block at exactly the iterations j with (c + j - i) divisible by the block size. Counting sequences by that residue
gives the blocks any future run of iterations needs, without touching a sequence.
"""

from __future__ import annotations

from servesim.metrics.record import UNLIMITED_BLOCKS as UNLIMITED_BLOCKS


def blocks_for(tokens: int, block_size: int) -> int:
    """Return the blocks that hold `tokens` KV entries."""
    return -(-tokens // block_size)


class BlockCounter:
    """Counter-only block allocator of one replica.

    `usable` is what sequences can have: one block of `num_gpu_blocks` is the null block, which vLLM's block pool
    keeps for itself (vllm/v1/core/block_pool.py). `due[r]` counts decoding sequences that need a block at iterations
    congruent to r modulo the block size; it is stored twice in a row so that a slice never wraps.
    """

    __slots__ = ("block_size", "due", "free", "usable")

    def __init__(self, num_gpu_blocks: int, block_size: int) -> None:
        self.block_size = block_size
        self.usable = self.free = num_gpu_blocks - 1
        self.due = [0] * (2 * block_size)

    def leave(self, tail: int) -> None:
        """Stop counting a sequence whose context minus the iteration index is `tail`."""
        size = self.block_size
        residue = -tail % size
        self.due[residue] -= 1
        self.due[residue + size] -= 1

    def needed(self, iteration: int, iterations: int, decode_seqs: int) -> int:
        """Return the blocks that `iterations` iterations from `iteration` on take with the batch unchanged."""
        if iterations == 1:
            return self.due[iteration % self.block_size]
        cycles, rest = divmod(iterations, self.block_size)
        residue = iteration % self.block_size
        return cycles * decode_seqs + sum(self.due[residue : residue + rest])

    def affordable(self, iteration: int, iterations: int, decode_seqs: int) -> int:
        """Return how many of `iterations` iterations from `iteration` on the free blocks allow.

        Every sequence takes a block per `block_size` iterations, so (iterations // block_size + 1) * decode_seqs free
        blocks are always enough; the caller asks only where that is not so.
        """
        size = self.block_size
        cycles = self.free // decode_seqs
        left = self.free - cycles * decode_seqs
        count = cycles * size
        residue = iteration % size
        for due in self.due[residue : residue + size]:
            if due > left:
                break
            left -= due
            count += 1
        return min(count, iterations)
