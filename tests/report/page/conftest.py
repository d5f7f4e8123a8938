"""Result directories to make pages of, and a browser to look at them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from servesim.experiment.replicate import replicate
from servesim.experiment.result import Result
from servesim.experiment.simulate import simulate
from servesim.report.page import NAME, page, write_page
from servesim.scenario.load import parse

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# Of one class that asks for an attainment, with enough requests for an interval.
STEADY = """\
name: steady
workload:
  num_requests: 4000
  classes:
    chat:
      arrivals: {kind: poisson, request_rate_rps: 40}
      prompt_tokens: {kind: lognormal, median_tokens: 200, sigma: 0.6, max_tokens: 2000}
      output_tokens: {kind: geometric, mean_tokens: 20}
      slo: {ttft_s: 0.03, attainment: 0.8}
pools:
  main: {service_time: {kind: affine, base_s: 0.01, per_token_s: 2e-6}}
"""


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory, two_pools: Result, nothing_completed: Result) -> Path:
    """Return a folder with results: `two_pools`, `nothing`, `steady` and `replications` of it."""
    root = tmp_path_factory.mktemp("results")
    two_pools.write(root / "two_pools")
    nothing_completed.write(root / "nothing")
    simulate(parse(STEADY)).write(root / "steady")
    replicate(parse(STEADY), 3).write(root / "replications")
    return root


@pytest.fixture
def copied(results: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that copies a result, to be broken."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(results / name, tmp_path / name))

    return copy


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """Return a headless Chromium, or skip: `.ci/browser` installs one."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = os.environ.get("SERVESIM_BROWSER") or next(filter(None, map(shutil.which, _BROWSERS)), None)
    if path is None:
        pytest.skip("no Chromium is installed; .ci/browser installs one")
    with playwright.sync_playwright() as driver:
        # Root may not have a sandbox, and the page is the project's own.
        opened = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def written(results: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes the page about one of the results and returns its path."""

    def write(name: str) -> Path:
        write_page(tmp_path / NAME, page(results / name))
        return tmp_path / NAME

    return write
