from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from servesim.service_time.affine import Affine
from servesim.service_time.base import Deployment


def test_every_term_alone() -> None:
    def mixed(**coefficient: float) -> float:
        return Affine(**coefficient).build(Deployment()).mixed_s(3, 100, 2, 50, 700)

    assert mixed(base_s=1.0) == 1.0
    assert mixed(per_seq_s=1.0) == 5.0
    assert mixed(per_token_s=1.0) == 53.0
    assert mixed(per_context_token_s=1.0) == 100.0
    assert mixed(per_prefill_pair_s=1.0) == 700.0
    assert mixed(per_prefill_token_s=1.0) == 50.0
    assert mixed() == 0.0


def test_decode_is_one_line_for_ever() -> None:
    time = Affine(base_s=0.5, per_seq_s=0.25, per_token_s=0.125, per_context_token_s=2.0).build(Deployment())
    assert time.decode_line(4, 10) == (0.5 + 4 * 0.375, 2.0, math.inf)
    base_s, slope_s, _ = time.decode_line(4, 10)
    assert time.mixed_s(4, 10, 0, 0, 0) == base_s + slope_s * 10


@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf])
def test_coefficients_are_finite_and_not_negative(value: float) -> None:
    with pytest.raises(ValidationError):
        Affine(base_s=value)
