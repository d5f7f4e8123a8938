"""Calibration files: what was measured, the fitted coefficients, how good they are, and finding the right one."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, ValidationError, model_validator

from servesim.catalog.entries import read_mapping
from servesim.catalog.gpu import Gpu, same_speed
from servesim.catalog.iteration_form import Coefficients
from servesim.catalog.iteration_table import IterationTable
from servesim.catalog.model import Model, same_shape
from servesim.errors import InputError, Problem
from servesim.registry import Spec

SYNONYMS = {"bfloat16": "bf16", "auto": "bf16", "fp16": "bf16", "float16": "bf16", "fp4": "nvfp4"}
SYNONYMS |= {"modelopt_fp4": "nvfp4", "modelopt": "fp8", "fbgemm_fp8": "fp8", "fp8_e4m3": "fp8", "fp8_e5m2": "fp8"}
_FILE_NAME = re.compile(
    r"(?P<backend>[a-z]+)-tp(?P<tp>\d+)(?:-dp(?P<dp>\d+))?(?P<ep>-ep)?-(?P<precision>[a-z0-9]+?)(?:-kv(?P<kv>[a-z0-9]+))?\.yaml"
)


FASTER_THAN_THE_GPU = frozenset(f"qwen3-30b-a3b/l40s/{backend}-tp1-bf16" for backend in ("sglang", "trtllm", "vllm"))
"""Calibrations below the physical bound at batch 1, which no run accepts: 0.79 to 0.93 of the time that reading takes.

Not the fit (it follows its points within 5 %) and not the bandwidth, but the measurements: operators were timed one
at a time, and the experts that a token wakes in one layer, 75 MB, probably stayed in the L40S's 96 MB L2 cache from one
repetition to the next. The RTX PRO 6000, with as slow a memory beside a cache as large, comes nearest (1.06 to 1.28);
all others take more than twice the bound.
"""


class Provenance(Spec):
    """Where the measurements come from."""

    source: str
    version: str
    licence: str
    date: str | None = None
    method: str
    input_file: str
    input_sha256: str
    rows: PositiveInt


class Range(Spec):
    """The largest values measured; beyond them the form extrapolates."""

    max_decode_seqs: PositiveFloat
    max_mean_context_tokens: PositiveFloat
    max_prefill_tokens: PositiveFloat


class ErrorSummary(Spec):
    """Absolute relative error |predicted / measured - 1| over `n` rows."""

    median: NonNegativeFloat
    p90: NonNegativeFloat
    max: NonNegativeFloat
    n: PositiveInt


class Errors(Spec):
    """Errors per kind of iteration (decode, prefill, mixed, all).

    `interior`: rows predicted by a fit without their whole slice (all rows of one decode batch size, one decode
    context, one number of prefill tokens, one prompt length), the slice lying between others. `edge`: the same for the
    smallest and the largest slice, which is extrapolation. `in_sample`: the final fit on all rows. Empty where nothing
    was held back.
    """

    interior: dict[str, ErrorSummary]
    edge: dict[str, ErrorSummary]
    in_sample: dict[str, ErrorSummary]


class Host(Spec):
    """Host seconds between iterations, if known; the calibration itself holds device time only.

    A host that also takes time per sequence has `per_seq_s` beside `iteration_s`; `admission_s` is latency per request
    before it is queued. A scenario says these two in its `engine:` part.
    """

    iteration_s: NonNegativeFloat | None = None
    note: str
    per_seq_s: NonNegativeFloat | None = None
    admission_s: NonNegativeFloat | None = None


class Noise(Spec):
    """How iterations scatter about the fit: by a log-normal factor of median 1 that some iterations in a row share.

    `sigma` is the standard deviation of its logarithm; `iterations` how long it holds, from the autocorrelation.
    """

    sigma: NonNegativeFloat
    iterations: PositiveInt


class Confounded(Spec):
    """Terms that the data cannot tell apart, and what is known: their seconds together in an average iteration."""

    terms: list[str]
    together_s: NonNegativeFloat
    standard_error_s: NonNegativeFloat


class Estimates(Spec):
    """How well the fit knows its coefficients, by name; a standard error of null: not at all."""

    standard_error: dict[str, NonNegativeFloat | None]
    condition: PositiveFloat | None
    confounded: list[Confounded]


class Calibration(Spec):
    """One deployment's iteration time, as fitted coefficients or as a table.

    `data_parallel_size` groups of `tensor_parallel_size` GPUs each compute the attention of their own requests and
    share the experts; batches are then those of one group. `expert_parallel`: experts lie whole on GPUs.
    """

    schema_version: Literal[1]
    model: str
    gpu: str
    backend: str
    tensor_parallel_size: PositiveInt
    precision: str
    kv_cache_dtype: str
    provenance: Provenance
    validity: Range
    error: Errors
    scatter: str
    host: Host
    coefficients: Coefficients | None = None
    table: IterationTable | None = None
    noise: Noise | None = None
    estimates: Estimates | None = None
    data_parallel_size: PositiveInt = 1
    expert_parallel: bool = False

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.coefficients is None) == (self.table is None):
            raise ValueError("give either coefficients or table")
        return self

    @property
    def name(self) -> str:
        """The catalog path without its ending."""
        return f"{self.model}/{self.gpu}/{file_stem(self)}"

    def facts(self) -> dict[str, Any]:
        """Return what a result's provenance should repeat."""
        error = self.error.interior.get("all")
        return {
            "source": f"{self.provenance.source} {self.provenance.version}",
            "input_sha256": self.provenance.input_sha256,
            "held_back_error_median": None if error is None else error.median,
            "held_back_error_p90": None if error is None else error.p90,
            "kv_cache_dtype": self.kv_cache_dtype,
            "host_iteration_s": self.host.iteration_s,
        }


class Key(NamedTuple):
    """What a catalog calibration is found by."""

    model: str
    gpu: str
    backend: str
    tensor_parallel_size: int
    precision: str
    kv_cache_dtype: str
    data_parallel_size: int = 1
    expert_parallel: bool = False

    @property
    def stem(self) -> str:
        """The file name without its ending."""
        kv = "" if self.kv_cache_dtype == "bf16" else f"-kv{self.kv_cache_dtype}"
        shared = "" if self.data_parallel_size == 1 else f"-dp{self.data_parallel_size}"
        shared += "-ep" if self.expert_parallel else ""
        return f"{self.backend}-tp{self.tensor_parallel_size}{shared}-{self.precision}{kv}"


def key_of(entry: Calibration) -> Key:
    """Return the key of a calibration."""
    return Key(*(getattr(entry, name) for name in Key._fields))


def file_stem(entry: Calibration) -> str:
    """Return the file name of a calibration without its ending."""
    return key_of(entry).stem


def _root() -> Path:
    return Path(str(files("servesim.catalog"))) / "calibrations"


@cache
def _keys_of(model: str, gpu: str) -> tuple[Key, ...]:
    folder = _root() / model / gpu
    matches = (_FILE_NAME.fullmatch(path.name) for path in folder.glob("*.yaml"))
    return tuple(sorted(_key_of(model, gpu, match) for match in matches if match))


def _key_of(model: str, gpu: str, match: re.Match[str]) -> Key:
    backend, tp, precision, kv, dp = match.group("backend", "tp", "precision", "kv", "dp")
    return Key(model, gpu, backend, int(tp), precision, kv or "bf16", int(dp or 1), match["ep"] is not None)


def calibrations(model: str | None = None, gpu: str | None = None) -> tuple[Key, ...]:
    """Return the keys of all catalogued calibrations, or those of a model and a GPU (catalog names), sorted."""
    folders = sorted(_root().glob(f"{model or '*'}/{gpu or '*'}"))
    return tuple(key for folder in folders for key in _keys_of(folder.parent.name, folder.name))


def read_calibration(path: Path) -> Calibration:
    """Return the calibration in the file `path`; InputError if it cannot be read or does not fit the schema."""
    data = read_mapping(path)
    if not {"coefficients", "table"} & set(data):
        message = "is not a calibration file: it has neither `coefficients` nor a `table`"
        if "points" in data:
            message = "holds times of whole batches: use kind: batch_calibrated"
        raise InputError(Problem(message, file=str(path)))
    try:
        return Calibration.model_validate(data)
    except ValidationError as error:
        problems = [
            Problem(part["msg"], path=".".join(map(str, part["loc"])), file=str(path)) for part in error.errors()
        ]
        raise InputError(problems) from error


@cache
def read_key(key: Key) -> Calibration:
    """Return the catalogued calibration called `key`."""
    return read_calibration(_root() / key.model / key.gpu / f"{key.stem}.yaml")


def calibration(
    model: Model,
    gpu: Gpu,
    backend: str,
    tensor_parallel_size: int = 1,
    quantization: str | None = None,
    kv_cache_dtype: str = "auto",
    data_parallel_size: int = 1,
    expert_parallel: bool = False,
) -> Calibration:
    """Return the catalog's calibration of a deployment; InputError lists what there is for this model and GPU.

    `quantization` None means the model's published precision; `kv_cache_dtype` "auto" means 16 bits.
    """
    precision = quantization or model.native_quantization or "bf16"
    known_model, known_gpu = same_shape(model), same_speed(gpu)
    wanted = Key(
        model.name if known_model is None else known_model.name,
        gpu.name if known_gpu is None else known_gpu.name,
        backend,
        tensor_parallel_size,
        SYNONYMS.get(precision, precision),
        SYNONYMS.get(kv_cache_dtype, kv_cache_dtype),
        data_parallel_size,
        expert_parallel,
    )
    if known_model is None or known_gpu is None:
        raise InputError(_unknown_to_the_catalog(wanted, known_model is None, known_gpu is None))
    here = _keys_of(wanted.model, wanted.gpu)
    if wanted in here:
        return read_key(wanted)
    if here:
        hint = f"the catalog has for this model and GPU: {', '.join(key.stem for key in here)}"
    else:
        others = sorted({key.gpu for key in calibrations(model=wanted.model)})
        hint = f"nothing for this GPU; this model is calibrated on: {', '.join(others) or 'no GPU'}"
    raise InputError(f"no calibration {wanted.stem!r} of {wanted.model} on {wanted.gpu}; {hint}. {_ESTIMATE}")


_ESTIMATE = "For an estimate write service_time: {kind: roofline} or, nearer to what is measured, {kind: transferred}"


def _unknown_to_the_catalog(key: Key, model: bool, gpu: bool) -> str:
    """Return why there can be no calibration: none has ever been made of this model, or on this GPU."""
    subjects = [f"model {key.model!r}"] * model + [f"GPU {key.gpu!r}"] * gpu
    equals = [f"a model of the catalog ({', '.join(sorted({k.model for k in calibrations()}))})"] * model
    equals += [f"a GPU of the catalog ({', '.join(sorted({k.gpu for k in calibrations()}))})"] * gpu
    return f"no calibration of {' on '.join(subjects)}: it is not equal to {' or '.join(equals)}. {_ESTIMATE}"
