"""Words for how far the numbers can be trusted: what the service times, host time and clock rest on."""

from __future__ import annotations

from typing import Any

from servesim.report.numbers import listed, percent, seconds


def validation_lines(summary: dict[str, Any]) -> list[str]:
    """Return one line for each pool, from `provenance.validation`; none if the summary holds no such thing."""
    found = summary["provenance"].get("validation")
    if found is None:
        return []
    several = len(found["pools"]) > 1
    return [
        (f"{name}: " if several else "") + "; ".join((_service_times(pool), _host_time(pool), *_whole(found, pool)))
        for name, pool in found["pools"].items()
    ]


def _service_times(pool: dict[str, Any]) -> str:
    how, name = pool["service_times"], pool["name"]
    if how == "calibrated":
        errors = [
            f"{title} {percent(pool[key])}"
            for title, key in (("median", "held_back_error_median"), ("p90", "held_back_error_p90"))
            if pool[key] is not None
        ]
        checked = f"held-back error {listed(errors)}" if errors else "error unknown"
        return f"service times: calibrated ({name}), {checked}"
    if how == "estimated":
        low, high = pool["band"]
        return f"service times: estimated ({name}), measured / estimated {low:g} to {high:g}, not calibrated"
    return f"service times: given by the scenario ({name}), not validated"


def _host_time(pool: dict[str, Any]) -> str:
    if pool["host_time"] == "left out":
        return "host time: left out"
    if pool["host_time"] == "included":
        return "host time: included in the service times"
    return f"host time: {pool['host_time']} ({seconds(pool['host_time_s'])} per iteration)"


def _whole(found: dict[str, Any], pool: dict[str, Any]) -> tuple[str, str]:
    clock = f"clock: {found['clock']}"
    if found["clock"] == "client":
        clock += f" (network {seconds(found['network_s'])}, assumed)"
    error = pool["end_to_end"]
    return clock, "end-to-end: no validated deployment is near" if error is None else f"end-to-end {error_words(error)}"


def error_words(error: dict[str, Any]) -> str:
    """Return the errors of the nearest validated deployments, and which those are."""
    parts = [f"{title} {_pair(error[key])}" for key, title in _TITLES.items() if key in error]
    names = error["deployments"]
    which = names[0] if len(names) == 1 else f"{len(names)} deployments, such as {names[0]}"
    full = [title for key, title in _TITLES.items() if key in error.get("kv_saturated", ())]
    more = f"; KV blocks ran full: {listed(full)} of measured runs where they did" if full else ""
    return f"error, median (p90): {', '.join(parts)}, on {error['nearest']}: {which}{more}"


_TITLES = {"ttft_s": "TTFT", "tpot_s": "TPOT", "e2e_s": "E2E"}


def _pair(error: dict[str, float]) -> str:
    return f"{percent(error['median'])} ({percent(error['p90'])})"
