"""Milliseconds taken for seconds, and the other way round: a factor that no model of a server is off by."""

from __future__ import annotations

from collections.abc import Sequence

from servesim.validation.errors import Row

_LOW, _HIGH = 300.0, 3000.0


def unit_hints(rows: Sequence[Row]) -> list[str]:
    """Return a question about units where latencies are about 1000 times the simulated ones, or a thousandth.

    TTFT and E2E may be so long because a queue grew: they are doubted if the time per token is off too, or unknown.
    """
    ratios = {}
    for name in ("tpot_s", "ttft_s", "e2e_s"):
        row = next((row for which in ("p50", "mean") for row in rows if row.metric == f"{name}.{which}"), None)
        if row is not None and row.measured > 0 and row.simulated > 0:
            ratios[name] = row.measured / row.simulated
    per_token = ratios.get("tpot_s")
    hints = []
    for factor, question in (
        (1.0, "about 1000 times as long as simulated: milliseconds in a field of seconds?"),
        (1e-6, "about a thousandth of the simulated: seconds in a field of milliseconds?"),
    ):
        if per_token is not None and not _LOW < per_token / factor < _HIGH and factor == 1.0:
            continue
        names = [name.removesuffix("_s").upper() for name, ratio in ratios.items() if _LOW < ratio / factor < _HIGH]
        if names:
            hints.append(f"{' and '.join(names)} measured {question} A column of milliseconds ends in _ms")
    return hints
