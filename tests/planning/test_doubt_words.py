"""What is said of a decision at both ends of the error of the iteration times."""

from pathlib import Path

import pytest
import yaml

from servesim.errors import InputError
from servesim.experiment.planning.candidates import candidates
from servesim.experiment.planning.doubt import End, not_tried, stretched
from servesim.report.plan import doubt_words
from servesim.scenario.load_plan import load_plan
from servesim.service_time.base import IterationTimeSpec
from tests.planning.known import small_space


def test_times_that_the_gpu_cannot_reach_are_left_out_in_a_few_words(tmp_path: Path) -> None:
    document = small_space(100).document
    document["space"] = {"gpu": ["a100_sxm"], "tensor_parallel_size": [1], "replicas": {"most": 2}}
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump(document))
    (candidate,), _ = candidates(load_plan(file))
    service = candidate.scenario.pools[candidate.pool].service_time
    assert isinstance(service, IterationTimeSpec)
    with pytest.raises(InputError, match="faster than the GPU can be") as caught:
        stretched(candidate, service, 0.1)
    end = End(0.1, None, not_tried(0.1, caught.value))
    found = {"of": "calibration", "hangs_on_it": False, "ends": [vars_of(end), {"factor": 1.5, "size": 2}]}
    said = doubt_words(found, {"replicas": 2})
    assert said.endswith("(times x 0.1: not tried as this GPU cannot be so fast, times x 1.5: 2).")
    assert stretched(candidate, service, 1.5).gpus == candidate.gpus


def vars_of(end: End) -> dict[str, object]:
    return {"factor": end.factor, "size": end.size, "reason": end.reason}
