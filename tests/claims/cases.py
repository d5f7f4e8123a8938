"""All claims, in the order of the page: claims.yaml says what they are, the other modules measure them."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.claims import cases_batching, cases_systems
from tests.claims.claim import Claim

_FINDINGS = {
    "batching-throughput": cases_batching.throughput,
    "batching-latency": cases_batching.latency,
    "continuous": cases_batching.continuous,
    "dollar": cases_batching.per_dollar,
    "targets": cases_batching.targets,
    "separate": cases_systems.separate,
    "right-size": cases_systems.right_size,
    "adaptive": cases_systems.adaptive,
    "tail": cases_systems.tail_first,
    "strategies": cases_systems.strategies,
}


def _claims() -> tuple[Claim, ...]:
    texts = yaml.safe_load(Path(__file__).with_name("claims.yaml").read_text(encoding="utf-8"))
    assert list(texts) == list(_FINDINGS), "claims.yaml and this module name the same claims in the same order"
    return tuple(Claim(key=key, findings=_FINDINGS[key], **text) for key, text in texts.items())


CLAIMS = _claims()
