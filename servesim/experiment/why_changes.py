"""Changes of one setting that might shorten latencies: what `--why` tries out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from servesim import catalog
from servesim.catalog.calibrations import calibration, calibrations, key_of
from servesim.engine.spec import ContinuousBatching
from servesim.errors import InputError
from servesim.registry import kinds
from servesim.scenario.resolve import resolve
from servesim.scenario.schema import PoolSpec, Scenario

_MEMORY_UTILIZATION = 0.95


@dataclass(frozen=True, slots=True)
class Change:
    """One setting of one pool at another value. `setting` is what `--set` takes; `why_not` says why it cannot be tried.

    `scenario` is the changed scenario; None exactly where `why_not` is given.
    """

    pool: str
    setting: str
    scenario: Scenario | None = None
    why_not: str = ""


def changes(scenario: Scenario) -> list[Change]:
    """Return the changes worth trying on every pool of a scenario, illegal ones with the reason."""
    resolved = resolve(scenario).scenario
    return [
        change
        for name, pool in resolved.pools.items()
        for change in (
            _ContinuousChanges(scenario, name, pool.engine)
            if isinstance(pool.engine, ContinuousBatching)
            else _PoolChanges(scenario, name)
        ).all()
    ]


class _PoolChanges:
    """Changes of one pool, whatever its engine; they are made to what the scenario says."""

    def __init__(self, scenario: Scenario, name: str) -> None:
        self._scenario = scenario
        self._name = name
        self._pool = scenario.pools[name]
        self._engine = scenario.pools[name].engine

    def all(self) -> Iterator[Change]:
        """Yield every change worth trying."""
        yield self._set("replicas", self._pool.replicas + 1)
        if self._pool.replicas > 1 and self._pool.router.kind != "least_outstanding":
            yield self._set("router", "least_outstanding")

    def _engine_set(self, field: str, value: Any) -> Change:
        engine = {name: getattr(self._engine, name) for name in type(self._engine).model_fields}
        setting = f"engine.{field}={_text(value)}"
        try:
            changed = type(self._engine).model_validate({**engine, field: value})
        except ValidationError as error:
            return self._refused(setting, _first_line(error))
        return self._changed(setting, engine=changed)

    def _set(self, field: str, value: Any) -> Change:
        pool = {name: getattr(self._pool, name) for name in PoolSpec.model_fields}
        setting = f"{field}={_text(value)}"
        try:
            changed = PoolSpec.model_validate({**pool, field: value})
        except ValidationError as error:
            return self._refused(setting, _first_line(error))
        return self._changed(setting, **{field: getattr(changed, field)})

    def _changed(self, setting: str, **fields: Any) -> Change:
        """Return the change if the changed scenario resolves (fits the GPU, has service times)."""
        pool = self._pool.model_copy(update=fields)
        scenario = self._scenario.model_copy(update={"pools": {**self._scenario.pools, self._name: pool}})
        try:
            resolve(scenario)
        except InputError as error:
            return self._refused(setting, error.problems[0].message)
        return Change(self._name, f"pools.{self._name}.{setting}", scenario)

    def _refused(self, setting: str, why_not: str) -> Change:
        return Change(self._name, f"pools.{self._name}.{setting}", why_not=why_not)


class _ContinuousChanges(_PoolChanges):
    """Changes of a pool with continuous batching; `found` is its resolved engine."""

    def __init__(self, scenario: Scenario, name: str, found: ContinuousBatching) -> None:
        super().__init__(scenario, name)
        self._found = found

    def all(self) -> Iterator[Change]:
        """Yield every change worth trying."""
        yield from super().all()
        tokens, seqs = self._found.max_num_batched_tokens or 1, self._found.max_num_seqs or 1
        yield self._engine_set("max_num_batched_tokens", 2 * tokens)
        yield self._engine_set("max_num_batched_tokens", max(tokens // 2, 1))
        yield self._engine_set("max_num_seqs", 2 * seqs)
        yield self._more_blocks()
        yield self._more_parallel()
        yield from self._schedulers()
        yield self._engine_set("async_scheduling", not self._found.async_scheduling)

    def _more_blocks(self) -> Change:
        """More GPU memory for the KV cache; a number of blocks given by hand is first replaced by what fits."""
        name = "gpu_memory_utilization"
        if self._pool.gpu is None or self._pool.model is None:
            return self._refused(f"engine.{name}", "without `gpu` and `model`, memory is not known")
        by_hand = getattr(self._engine, "num_gpu_blocks", None)
        if by_hand == "unlimited":
            return self._refused(f"engine.{name}", "num_gpu_blocks is unlimited")
        if by_hand is not None:
            change = self._engine_set("num_gpu_blocks", None)
            fits = None if change.scenario is None else _blocks(change.scenario, self._name)
            if fits is not None and fits <= by_hand:
                return self._refused(
                    "engine.num_gpu_blocks=null", f"only {fits} blocks fit the GPU, {by_hand} are given"
                )
            return change
        share = self._found.gpu_memory_utilization or 0.0
        if share >= _MEMORY_UTILIZATION:
            return self._refused(f"engine.{name}", f"is {share:g} already")
        return self._engine_set(name, _MEMORY_UTILIZATION)

    def _more_parallel(self) -> Change:
        """The next larger tensor parallelism there are service times for."""
        name, now = "tensor_parallel_size", self._found.tensor_parallel_size
        kind = self._pool.service_time.kind
        if kind == "roofline":
            return self._engine_set(name, 2 * now)
        if kind != "calibrated" or getattr(self._pool.service_time, "file", None) is not None:
            return self._refused(f"engine.{name}", "the scenario's own service times are of this parallelism only")
        assert self._pool.gpu is not None  # resolve asked for both
        assert self._pool.model is not None
        gpu, model = catalog.gpu_of(self._pool.gpu), catalog.model_of(self._pool.model)
        entry = calibration(model, gpu, self._pool.backend, now, self._found.quantization, self._found.kv_cache_dtype)
        same = key_of(entry)
        sizes = [
            key.tensor_parallel_size
            for key in calibrations(same.model, same.gpu)
            if key._replace(tensor_parallel_size=now) == same and key.tensor_parallel_size > now
        ]
        if not sizes:
            return self._refused(f"engine.{name}", f"no calibration above {now} for this deployment")
        return self._engine_set(name, min(sizes))

    def _schedulers(self) -> Iterator[Change]:
        priorities = {
            spec.priority
            for name, spec in self._scenario.workload.classes.items()
            if self._scenario.pool_of(name) == self._name
        }
        for kind in kinds("scheduler"):
            if kind == self._found.scheduler.kind:
                continue
            if kind == "priority" and len(priorities) == 1:
                yield self._refused("engine.scheduler=priority", "all classes have the same priority")
            else:
                yield self._engine_set("scheduler", kind)


def _blocks(scenario: Scenario, pool: str) -> int | None:
    engine = resolve(scenario).scenario.pools[pool].engine
    blocks = getattr(engine, "num_gpu_blocks", None)
    return blocks if isinstance(blocks, int) else None


def _text(value: Any) -> str:
    """Return a plain value as YAML, as `--set` wants it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _first_line(error: ValidationError) -> str:
    message = error.errors()[0]["msg"]
    return message.removeprefix("Value error, ")
