"""A small scenario that runs in milliseconds, and a way to call the command line in this process."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from servesim.cli import main

SCENARIO = """\
name: small
workload:
  num_requests: 200
  classes:
    chat:
      arrivals: {kind: poisson, request_rate_rps: 5.0}
      prompt_tokens: 64
      output_tokens: 16
      slo: {ttft_s: 1.0, attainment: 0.9}
pools:
  main: {service_time: {kind: affine, base_s: 0.01}}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SCENARIO)
    return path


@pytest.fixture
def run() -> Callable[..., Result]:
    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(main, ["run", *map(str, arguments)])

    return invoke
