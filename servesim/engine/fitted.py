"""Engine settings left out: those fitted to measured runs of the deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from servesim.catalog.deployments import EngineWide, Fitted, FittedDeployment, fitted_deployment
from servesim.catalog.gpu import same_speed
from servesim.catalog.model import same_shape
from servesim.engine.base import Site
from servesim.service_time.base import Origin
from servesim.service_time.calibrated import Calibrated

if TYPE_CHECKING:
    from servesim.engine.spec import ContinuousBatching

PER_LAYER = ("iteration_time_per_layer_s", "communication_time_per_layer_s", "prefill_floor_per_layer_s")
"""Settings in seconds per layer of the model."""

FITTED_TABLES = "aiconfigurator"
"""Whose times the fits correct. What is pooled over deployments corrects those of other sources for nothing."""


def fitted(engine: ContinuousBatching, site: Site, origin: Origin) -> tuple[FittedDeployment | None, dict[str, Any]]:
    """Return the catalog's entry for the deployment, if its times are the catalog's, and the settings to fill in.

    Settings that are given stay. A host time that is given, or that the calibration knows, stands instead of the time
    per layer.
    """
    host_s = origin.facts.get("host_iteration_s")
    known = _known(site)
    pooled = known is not None and (known.gpu is None or known.model is None)
    foreign = pooled and not str(origin.facts.get("source", "")).startswith(FITTED_TABLES)
    if foreign or engine.corrections == "none":
        known = None
    values, wide = (Fitted(), EngineWide()) if known is None else (known.fitted, known.engine_wide)
    experts = site.model is not None and site.model.experts > 0
    fields: dict[str, Any] = {**values.model_dump(), **wide.settings(experts, engine.quantization)}
    if engine.host_time_s is not None or engine.host_time_per_seq_s or host_s:
        fields["iteration_time_per_layer_s"] = 0.0
    fields["host_time_s"] = float(host_s or 0.0)
    return known, {name: value for name, value in fields.items() if getattr(engine, name) is None}


def _known(site: Site) -> FittedDeployment | None:
    times = site.service_time
    if not isinstance(times, Calibrated) or times.file is not None or site.gpu is None or site.model is None:
        return None
    gpu, model = same_speed(site.gpu), same_shape(site.model)
    if gpu is None or model is None:
        return None
    return fitted_deployment(site.backend, gpu.name, model.name)
