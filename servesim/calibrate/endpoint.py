"""`servesim calibrate endpoint`: from a running server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from servesim.calibrate.bench import HOST_NOTE, outside
from servesim.calibrate.calibration_file import Source
from servesim.calibrate.endpoint_drive import Design, Seen, drive
from servesim.calibrate.server import Server
from servesim.calibrate.target import Target, delivered

_METHOD = "a designed load of closed loops; iterations reconstructed from the arrivals of all tokens at the client"


def calibrate_endpoint(
    url: str, target: Target, server: Server, design: Design, say: Callable[[str], None]
) -> tuple[list[str], dict[str, Any]]:
    """Drive the server at `url`, fit what was seen and write the calibration; return lines to print and data.

    Raises InputError for a server that does not answer as OpenAI's API does.
    """
    seen = drive(url, design, say)
    if seen.num_gpu_blocks is not None:
        server = replace(server, num_gpu_blocks=seen.num_gpu_blocks, block_size=seen.block_size or server.block_size)
    found = outside(seen.loads, target, server)
    answered = sum(len(load.start_s) for load in seen.loads)
    source = Source(seen.model, "as served", (), f"{_METHOD}; {answered} requests", date=target.date)
    notes = [*_notes(seen), *found.notes]
    return delivered(target, found.fitted, found.rows, source, notes, HOST_NOTE, server.given())


def _notes(seen: Seen) -> list[str]:
    notes = []
    if seen.num_gpu_blocks is None:
        notes.append("the server does not publish its number of KV blocks (vllm:cache_config_info in /metrics)")
    if seen.busy_before:
        notes.append(f"the server held {seen.busy_before:.0f} requests of others before: their work is in the times")
    if seen.text_prompts:
        notes.append("the server takes no token ids as prompts: text was sent, lengths are as the server counted them")
    failed = sum(load.failed for load in seen.loads)
    if failed:
        sent = failed + sum(len(load.start_s) for load in seen.loads)
        notes.append(f"{failed} of {sent} requests failed and are left out, the first by: {seen.failure}")
    shares = [float(np.mean([len(t) for t in load.token_s or ()]) / load.output_tokens.mean()) for load in seen.loads]
    if min(shares) < 0.98:
        notes.append("the server sends several tokens at once: iterations are told less well")
    return notes
