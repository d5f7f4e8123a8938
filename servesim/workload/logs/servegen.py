"""ServeGen's descriptions of production clients, made into requests.

A client is two files: `chunk-N-trace.csv` (no header: window start in seconds, rate, coefficient of variation, pattern,
two parameters) and `chunk-N-dataset.json` (window start -> laws of input and output tokens). These are descriptions
and no log: the requests are drawn here, with a seed, as ServeGen draws them: gaps of the pattern's shape, scaled to the
window's rate; lengths independent of each other. Source: Xiang et al., "ServeGen: Workload Characterization and
Generation of Large Language Model Serving in Production", arXiv:2505.09999.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from servesim import rng as random_streams
from servesim.errors import InputError, Problem
from servesim.workload.base import FloatArray, IntArray
from servesim.workload.logs.rows import LogRows

_NAME = re.compile(r"chunk-(\d+)-trace\.csv")
_LAW = re.compile(r"\{(?:\s*\d+\s*:\s*[0-9.eE+-]+\s*(?:,\s*|(?=\})))*\}")
_ENTRY = re.compile(r"(\d+)\s*:\s*([0-9.eE+-]+)")
_MIN_SHAPE = {"Gamma": 1e-3, "Weibull": 0.02}  # below, the scale leaves the range of floats
_MAX_WINDOW_REQUESTS = 50_000_000

Law = tuple[IntArray, FloatArray]


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of constant rate; `shape` is that of the gaps' gamma or Weibull law."""

    start_s: float
    rate_rps: float
    pattern: str
    shape: float
    line: int


@dataclass(frozen=True, slots=True)
class Client:
    """One client: its windows, and the laws of its lengths by their window's start."""

    number: int
    windows: dict[float, Window]
    laws: dict[float, tuple[Law, Law]]

    def lengths(self, start_s: float) -> tuple[Law, Law] | None:
        """Return the laws of the length window that contains a time; None where nothing is known."""
        starts = [start for start in self.laws if start <= start_s]
        return self.laws[max(starts)] if starts else None


def is_servegen(path: str) -> bool:
    """Return whether a path looks like a client's trace file or a directory of them."""
    place = Path(path)
    return bool(_NAME.fullmatch(place.name)) or (place.is_dir() and any(map(_is_trace, place.iterdir())))


def _is_trace(path: Path) -> bool:
    return bool(_NAME.fullmatch(path.name))


def servegen_rows(path: str) -> Iterator[LogRows]:
    """Yield the requests of one client (a trace file) or of all in a directory, drawn with a fixed seed.

    Times count from the first window. Windows without known lengths have no requests.
    """
    return drawn_rows(read_clients(path))


def drawn_rows(
    clients: Sequence[Client],
    start_s: float = 0.0,
    end_s: float = math.inf,
    *,
    seed: int = 0,
    name: str = "",
    factor: float = 1.0,
) -> Iterator[LogRows]:
    """Yield the clients' requests, window by window, in order of time.

    Only windows that begin in [start_s, end_s), in the description's own seconds, are drawn, at `factor` times their
    rate, and times count from the first of them. `line` is the window's line in the trace file. Every window of every
    client has a random stream of its own, so that a request does not depend on what else is read.
    """
    starts = sorted({start for client in clients for start in client.windows if start_s <= start < end_s})
    width_s = window_width_s(clients)
    for start in starts:
        parts = [
            drawn for client in clients if (drawn := _draw(client, start, width_s, factor, (seed, name))) is not None
        ]
        if parts:
            time_s, prompt, output, line = (np.concatenate(column) for column in zip(*parts, strict=True))
            order = np.argsort(time_s, kind="stable")
            yield LogRows(time_s[order] - starts[0], prompt[order], output[order], line[order])


def left_out(clients: Sequence[Client], start_s: float = 0.0, end_s: float = math.inf) -> list[str]:
    """Return what of the description has no requests between two times because its lengths are not known."""
    found = []
    for client in clients:
        inside = (window for window in client.windows.values() if start_s <= window.start_s < end_s)
        active = [window for window in inside if window.rate_rps > 0]
        unknown = [window for window in active if client.lengths(window.start_s) is None]
        if unknown:
            why = "no dataset file" if not client.laws else "no lengths for them"
            found.append(f"client {client.number}: {len(unknown)} of {len(active)} active windows left out ({why})")
    return found


def window_width_s(clients: Sequence[Client]) -> float:
    """Return the length of a window: the least distance of two, 600 s (ServeGen's own) where there is but one."""
    starts = sorted({start for client in clients for start in client.windows})
    return float(min(np.diff(starts), default=600.0))


def mean_rate_rps(clients: Sequence[Client], start_s: float, end_s: float) -> float:
    """Return the mean rate of requests with known lengths over the windows that begin in [start_s, end_s)."""
    starts = {start for client in clients for start in client.windows if start_s <= start < end_s}
    known = (
        window.rate_rps
        for client in clients
        for window in client.windows.values()
        if window.start_s in starts and client.lengths(window.start_s) is not None
    )
    return sum(known) / max(1, len(starts))


def _draw(
    client: Client, start_s: float, width_s: float, factor: float, key: tuple[int, str]
) -> tuple[FloatArray, IntArray, IntArray, IntArray] | None:
    window, laws = client.windows.get(start_s), client.lengths(start_s)
    if window is None or window.rate_rps == 0 or laws is None:
        return None
    rng = random_streams.stream(key[0], "servegen", key[1], client.number, round(start_s))
    time_s = start_s + _times(window, window.rate_rps * factor, width_s, rng)
    prompt, output = (tokens[_pick(weights, rng.random(len(time_s)))] for tokens, weights in laws)
    return time_s, prompt, output, np.full(len(time_s), window.line)


def _times(window: Window, rate_rps: float, width_s: float, rng: np.random.Generator) -> FloatArray:
    """Return the arrivals inside the window, from its start."""
    mean_gap_s, chunk = 1 / rate_rps, int(rate_rps * width_s * 1.1) + 16
    # Each window is a stretch of a stationary process: its first gap is what is left of one that began before.
    last_s = _rest_of_a_gap_s(window, mean_gap_s, rng)
    parts = [np.array([last_s])]
    while last_s < width_s:
        if window.pattern == "Gamma":
            gaps_s = rng.standard_gamma(window.shape, chunk) * (mean_gap_s / window.shape)
        else:
            gaps_s = rng.weibull(window.shape, chunk) * (mean_gap_s / math.gamma(1 + 1 / window.shape))
        parts.append(last_s + np.cumsum(gaps_s))
        last_s = float(parts[-1][-1])
        if len(parts) * chunk > _MAX_WINDOW_REQUESTS:
            break
    times_s = np.concatenate(parts)
    return times_s[times_s < width_s]


def _rest_of_a_gap_s(window: Window, mean_gap_s: float, rng: np.random.Generator) -> float:
    """Return the time from any instant to the next arrival: a uniform part of a gap drawn in proportion to its length.

    Were every window to begin with a whole gap, as if a request had come just before it, a window would hold about
    (scv - 1) / 2 requests too many (Cox, "Renewal Theory", 1962, section 4.3).
    """
    if window.pattern == "Gamma":
        gap_s = rng.standard_gamma(window.shape + 1) * mean_gap_s / window.shape
    else:
        long = math.pow(rng.standard_gamma(1 + 1 / window.shape), 1 / window.shape)
        gap_s = long * mean_gap_s / math.gamma(1 + 1 / window.shape)
    return gap_s * rng.random()


def _pick(cumulative: FloatArray, uniform: FloatArray) -> IntArray:
    chosen: IntArray = np.searchsorted(cumulative, uniform * cumulative[-1], side="right")
    return np.minimum(chosen, len(cumulative) - 1)


def read_clients(path: str) -> list[Client]:
    """Return the clients; raise InputError for what is malformed, and where no client has both files."""
    place = Path(path)
    files = [place] if place.is_file() else sorted(entry for entry in place.iterdir() if _is_trace(entry))
    clients = []
    for file in files:
        if place.is_dir() and not file.resolve().is_relative_to(place.resolve()):
            raise InputError(Problem("a link that leads out of the directory", file=str(file)))
        match = _NAME.fullmatch(file.name)
        if match is None:
            raise InputError(Problem("expected a file called chunk-N-trace.csv, or a directory of them", file=path))
        dataset = file.with_name(f"chunk-{match[1]}-dataset.json")
        if dataset.exists() and not dataset.resolve().is_relative_to(file.parent.resolve()):
            raise InputError(Problem("a link that leads out of the directory", file=str(dataset)))
        laws = _read_laws(dataset) if dataset.exists() else {}
        clients.append(Client(int(match[1]), _read_windows(file), laws))
    if not any(client.laws for client in clients):
        raise InputError(Problem("no chunk-N-dataset.json beside the trace, so no lengths", file=path))
    return sorted(clients, key=lambda client: client.number)


def _read_windows(path: Path) -> dict[float, Window]:
    windows = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        for line, row in enumerate(csv.reader(file), 1):
            if row:
                window = _window(row, line)
                if isinstance(window, str):
                    raise InputError(Problem(window, file=str(path), line=line))
                windows[window.start_s] = window
    return windows


def _window(row: list[str], line: int) -> Window | str:
    """Return the window in a row, or what is wrong with it."""
    try:
        start_s, rate_rps, pattern, shape = float(row[0]), float(row[1]), row[3], float(row[4])
    except (IndexError, ValueError):
        return "expected window start, rate, coefficient of variation, pattern and two parameters"
    if not (math.isfinite(start_s) and 0 <= rate_rps < math.inf):
        return f"the rate must be a finite number of requests/s, 0 or more, not {row[1]}"
    if rate_rps > 0 and not _MIN_SHAPE.get(pattern, math.inf) <= shape < math.inf:
        return f"expected the pattern Gamma or Weibull with a shape of at least 0.001 or 0.02, not {pattern} {row[4]}"
    return Window(start_s, rate_rps, pattern, shape, line)


def _read_laws(path: Path) -> dict[float, tuple[Law, Law]]:
    laws = {}
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
        for start, entry in document.items():
            pair = [_law(entry[name]) for name in ("input_tokens", "output_tokens")]
            if pair[0] is not None and pair[1] is not None:
                laws[float(start)] = (pair[0], pair[1])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(Problem(f"not a ServeGen dataset: {error}", file=str(path))) from error
    return laws


def _law(text: Any) -> Law | None:
    """Return (tokens, cumulative weights) of a law written as text such as `{9: 0.25, 12: 0.75}`; None if empty."""
    if not isinstance(text, str) or not _LAW.fullmatch(text.strip()):
        raise ValueError("a law is not written as {tokens: probability, ...}")
    entries = [(int(tokens), float(weight)) for tokens, weight in _ENTRY.findall(text)]
    entries = [(max(1, tokens), weight) for tokens, weight in entries if weight > 0]
    if not entries:
        return None
    tokens, weights = zip(*entries, strict=True)
    return np.array(tokens, dtype=np.int64), np.cumsum(weights)
