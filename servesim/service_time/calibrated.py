"""Iteration time from a calibration file."""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from servesim.catalog.calibrations import Calibration, calibration, read_calibration
from servesim.catalog.iteration_form import Coefficients
from servesim.errors import InputError
from servesim.registry import register
from servesim.service_time.base import Deployment, IterationTime, IterationTimeSpec, Origin, Validity
from servesim.service_time.noise import NoiseLaw
from servesim.service_time.other_deployment import other_deployment
from servesim.service_time.tabulated import TabulatedIterationTime


class _BatchLines(NamedTuple):
    """One decode batch size: where its lines over the summed context end, the lines, and what they add to a prefill."""

    limits: list[float]
    lines: list[tuple[float, float, float]]
    added: list[tuple[float, float]]


class FormIterationTime(IterationTime):
    """Table look-ups over `Coefficients`: lists indexed by token count, and lines over the context by batch size."""

    def __init__(self, coefficients: Coefficients, max_num_batched_tokens: int, max_num_seqs: int) -> None:
        self._coefficients = coefficients
        self._per_seq_s = coefficients.per_seq_s
        self._per_pair_s = coefficients.per_prefill_pair_s
        self._mixed_decode = coefficients.mixed_decode
        self._prefill_start_tokens = coefficients.prefill_start_tokens
        self._grow(min(max_num_batched_tokens + max_num_seqs, 65_536))  # grows on demand beyond
        self._batches: list[_BatchLines | None] = [None] * (min(max_num_seqs, 4096) + 1)

    def _grow(self, tokens: int) -> None:
        """Extend the tables to `tokens` scheduled tokens."""
        self._token_s = self._coefficients.token_seconds(tokens + 1)
        self._prefill_s, self._mixed_s = self._coefficients.prefill_seconds(tokens + 1)

    def _batch(self, decode_seqs: int) -> _BatchLines:
        """Return the lines of one batch size, worked out when first asked for."""
        if decode_seqs >= len(self._batches):
            self._batches += [None] * (decode_seqs + 1 - len(self._batches))
        if decode_seqs >= len(self._token_s):
            self._grow(2 * decode_seqs)
        batch = self._batches[decode_seqs]
        if batch is None:
            token_s = self._token_s[decode_seqs]
            lines = self._coefficients.decode_pieces(decode_seqs, token_s + self._per_seq_s * decode_seqs)
            added = [(base_s - token_s, slope_s) for base_s, slope_s, _ in lines]
            batch = _BatchLines([line[2] for line in lines], lines, added)
            self._batches[decode_seqs] = batch
        return batch

    def decode_line(self, decode_seqs: int, context_tokens: int) -> tuple[float, float, float]:
        """Return the line of this batch size that holds at `context_tokens`."""
        try:
            limits, lines, _ = self._batches[decode_seqs]  # type: ignore[misc]
        except (IndexError, TypeError):  # not worked out yet: once per batch size
            limits, lines, _ = self._batch(decode_seqs)
        return lines[bisect_left(limits, context_tokens)]

    def mixed_s(
        self, decode_seqs: int, context_tokens: int, prefill_seqs: int, prefill_tokens: int, prefill_pairs: int
    ) -> float:
        """Return the seconds of an iteration that prefills: the decode batch's time and what the prefill adds."""
        try:
            prefill_s = (
                self._token_s[decode_seqs + prefill_tokens]
                + self._per_seq_s * prefill_seqs
                + self._per_pair_s * prefill_pairs
            )
            if not decode_seqs:
                return prefill_s + self._prefill_s[prefill_tokens]
            limits, _, added = self._batches[decode_seqs]  # type: ignore[misc]
        except (IndexError, TypeError):
            self._batch(decode_seqs)
            if decode_seqs + prefill_tokens >= len(self._token_s):
                self._grow(2 * (decode_seqs + prefill_tokens))
            return self.mixed_s(decode_seqs, context_tokens, prefill_seqs, prefill_tokens, prefill_pairs)
        base_s, slope_s = added[bisect_left(limits, context_tokens)]
        if (slower := self._mixed_decode) is not None:
            share = min(1.0, prefill_tokens / max(1, self._prefill_start_tokens))
            base_s += share * slower.per_seq_s * decode_seqs
            slope_s += share * slower.per_context_token_s
        return prefill_s + self._mixed_s[prefill_tokens] + base_s + slope_s * context_tokens


class CalibratedIterationTime(FormIterationTime):
    """The times of a calibration file, with its origin, error and range of validity."""

    def __init__(self, entry: Calibration, max_num_batched_tokens: int, max_num_seqs: int) -> None:
        if entry.coefficients is None:
            raise InputError(f"calibration {entry.name} is a table and has no coefficients")
        super().__init__(entry.coefficients, max_num_batched_tokens, max_num_seqs)
        self.origin, self.validity = _origin(entry)


def _origin(entry: Calibration) -> tuple[Origin, Validity]:
    origin = Origin(entry.name, measured=True, note=entry.provenance.method, facts=entry.facts())
    return origin, Validity(**entry.validity.model_dump())


@register("service_time")
class Calibrated(IterationTimeSpec):
    """A calibration that ships with servesim for the pool's model, GPU, backend, parallelism and precision.

    `file` names another calibration file instead. Its origin, held-back error and range of validity come with it, and
    results warn where it was measured on another deployment than the pool's.
    """

    kind: Literal["calibrated"] = "calibrated"
    file: str | None = Field(None, description="path of a calibration file; default: the catalog's for this pool")

    noise: bool = Field(False, description="scatter iterations as the measured ones did; the file must say how")

    def build(self, deployment: Deployment) -> IterationTime:
        """Return the model; InputError lists what the catalog has for this model and GPU if this is not in it."""
        entry = self._entry(deployment)
        times: IterationTime
        if entry.table is not None:
            times = TabulatedIterationTime(entry.table, *_origin(entry), deployment.max_num_batched_tokens)
        else:
            times = CalibratedIterationTime(entry, deployment.max_num_batched_tokens, deployment.max_num_seqs)
        if self.noise:
            if entry.noise is None:
                raise InputError(f"noise: calibration {entry.name} does not know its scatter ({entry.scatter})")
            times.noise = NoiseLaw(entry.noise.sigma, entry.noise.iterations)
        if self.file is not None and (differs := other_deployment(entry, deployment)) is not None:
            times.warnings = (differs,)
        return times

    def _entry(self, deployment: Deployment) -> Calibration:
        if self.file is not None:
            return read_calibration(Path(self.file))
        if deployment.gpu is None or deployment.model is None:
            raise InputError("calibrated needs the pool's `gpu` and `model`, or a `file`")
        return calibration(
            deployment.model,
            deployment.gpu,
            deployment.backend,
            deployment.tensor_parallel_size,
            deployment.quantization,
            deployment.kv_cache_dtype,
            deployment.data_parallel_size,
            deployment.expert_parallel,
        )
