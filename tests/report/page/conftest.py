"""Result directories to make pages of, and a browser to look at them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from servesim.cli import main
from servesim.experiment.replicate import replicate
from servesim.experiment.result import Result
from servesim.experiment.simulate import simulate
from servesim.report.page import NAME, page, write_page
from servesim.scenario.load import parse

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# Root may not have a sandbox, and the page is the project's own; the browser itself asks for nothing.
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
          "--disable-component-update", "--disable-sync"]  # fmt: skip
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


LOADED = """\
name: loaded
seed: 1
workload:
  num_requests: 1200
  classes:
    chat:
      arrivals: {kind: poisson, request_rate_rps: 20}
      prompt_tokens: {kind: lognormal, median_tokens: 200, sigma: 0.6, max_tokens: 2000}
      output_tokens: {kind: geometric, mean_tokens: 20}
      slo: {ttft_s: 0.05, attainment: 0.9}
pools:
  main:
    usd_per_gpu_hour: 2.0
    service_time: {kind: affine, base_s: 0.01, per_token_s: 2e-6}
    engine: {max_num_seqs: 8}
"""
PLAN = """\
name: small-plan
scenario: loaded.yaml
space:
  engine: {max_num_seqs: [8, 64]}
  replicas: {least: 1, most: 2}
"""
INVENTORY = """\
name: fleet
inventory: {h100_sxm: 4, per_node: 4}
survive: nothing
growth: {from: 1.0, to: 1.2}
models:
  chat:
    scenario:
      name: chat
      workload:
        duration_s: 20
        classes:
          chat:
            arrivals: {kind: poisson, request_rate_rps: 5}
            prompt_tokens: 200
            output_tokens: 20
            slo: {ttft_s: 1, attainment: 0.8}
      pools:
        main: {model: llama-3.1-8b, gpu: h100_sxm}
    space: {tensor_parallel_size: [1]}
    max_breach: 0.2
"""
RATE = "workload.classes.chat.arrivals.request_rate_rps"
DECISIONS = ("line", "grid", "points", "sensitivity", "comparison", "check", "plan", "load", "over_time", "inventory")


@pytest.fixture(scope="session")
def decisions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the results of DECISIONS: sweeps of three kinds, and of every other command that decides."""
    root = tmp_path_factory.mktemp("decisions")
    scenario, base = root / "loaded.yaml", root / "base.yaml"
    scenario.write_text(LOADED)
    (root / "plan.yaml").write_text(PLAN)

    def servesim(*arguments: object, code: int = 0) -> str:
        done = CliRunner().invoke(main, [*map(str, arguments), "--quiet"])
        assert done.exit_code == code, done.output
        return done.stdout

    sweep = ("sweep", scenario, "--no-pictures", "--replications", 3)
    servesim(*sweep, "--vary", f"{RATE}=10,20,30,60", "-o", root / "line")
    servesim(*sweep, "--vary", f"{RATE}=20,40,80", "--vary", "pools.main.replicas=1,2", "-o", root / "grid")
    servesim(*sweep, "--vary", "pools.main.engine.scheduler=fcfs,shortest_prompt", "-o", root / "points")
    servesim("sweep", scenario, "--sensitivity", "--replications", 2, "-o", root / "sensitivity")
    servesim("compare", scenario, "--set-b", "pools.main.service_time.base_s=0.011", "-o", root / "comparison")
    servesim("check", scenario, "--baseline", base, "--update", "--replications", 4)
    scenario.write_text(LOADED.replace("base_s: 0.01,", "base_s: 0.011,"))
    servesim("check", scenario, "--baseline", base, "-o", root / "check", code=3)
    scenario.write_text(LOADED)
    servesim("plan", root / "plan.yaml", "-o", root / "plan")
    servesim("plan", scenario, "--how-much-load", "--replications", 2, "-o", root / "load")
    servesim("plan", scenario, "--over-time", "--window", 20, "--replications", 1, "-o", root / "over_time")
    (root / "inventory.yaml").write_text(INVENTORY)
    servesim("plan", root / "inventory.yaml", "-o", root / "inventory")
    return root


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
def copied(results: Path, decisions: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that copies a result, to be broken."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree((decisions if name in DECISIONS else results) / name, tmp_path / name))

    return copy


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """Return a headless Chromium, or skip: `.ci/browser` installs one."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = os.environ.get("SERVESIM_BROWSER") or next(filter(None, map(shutil.which, _BROWSERS)), None)
    if path is None:
        pytest.skip("no Chromium is installed; .ci/browser installs one")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=_FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def written(results: Path, decisions: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes the page about one of the results and returns its path."""

    def write(name: str) -> Path:
        write_page(tmp_path / NAME, page((decisions if name in DECISIONS else results) / name))
        return tmp_path / NAME

    return write
