"""Against a server in a process of its own, whose iterations take known times; loopback only."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("aiohttp")

from aiohttp import web

from servesim.calibrate.endpoint_drive import Design, drive
from servesim.catalog.calibrations import read_calibration
from servesim.cli import main
from servesim.service_time.calibrated import CalibratedIterationTime
from tests.calibrate.timed_server import ADMISSION_S, BLOCKS, TRUTH
from tests.data import ROOT

TARGET = [
    "--model",
    "mine",
    "--gpu",
    "loopback",
    "--unlisted",
    "--max-num-batched-tokens",
    "512",
    "--max-num-seqs",
    "64",
]


@contextmanager
def timed_server(*flags: str) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.calibrate.timed_server", *flags], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


def endpoint(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["calibrate", "endpoint", *map(str, arguments), *TARGET])


@pytest.mark.slow
def test_a_server_of_known_speed_is_recovered_from_outside(tmp_path: Path) -> None:
    """Within 5 %, in wall-clock time: iterations take 20 ms and more, timers of a quiet machine are late by about 1.

    On a busy machine they are late by as much as an iteration: then the tolerance is the 95 % interval of the fit.
    """
    out = tmp_path / "o.yaml"
    with timed_server() as url:
        load = ["--budget", "30s", "--max-concurrency", "16", "--max-prompt-tokens", "900", "--max-output-tokens", "40"]
        result = endpoint(url, *load, "--no-async-scheduling", "-o", out, "--picture", tmp_path / "o.png")
    assert result.exit_code == 0, result.output
    assert f"num_gpu_blocks: {BLOCKS}" in result.output
    entry = read_calibration(out)
    assert entry.estimates is not None
    found, errors = entry.coefficients, entry.estimates.standard_error
    pairs = 512 * 513 / 2
    times = CalibratedIterationTime(entry, 512, 64)
    checks = {
        "base": (found.base_s, TRUTH["base"], 2.1 * (errors["base"] or 0)),
        "context": (
            times.decode_line(16, 5000)[1],
            TRUTH["context_0"],
            2.1 * sum(error or 0 for name, error in errors.items() if name.startswith("context")),
        ),
        "a prompt of 512": (
            times.mixed_s(0, 0, 1, 512, int(pairs)) - found.base_s,
            TRUTH["dense_0"] * 512 + TRUTH["per_prefill_pair"] * pairs,
            2.1 * pairs * (errors["per_prefill_pair"] or 0),
        ),
    }
    for name, (value, truth, width) in checks.items():
        assert value == pytest.approx(truth, abs=max(0.05 * truth, width)), name
        assert width < 0.5 * truth, name  # an interval that says something
    assert entry.host.admission_s == pytest.approx(ADMISSION_S, abs=0.015)  # the network and this client are in it


@pytest.mark.slow
def test_a_server_that_takes_text_only_is_sent_text() -> None:
    with timed_server("--text") as url:
        seen = drive(url, Design(budget_s=2.0, max_concurrency=2, max_prompt_tokens=64, max_output_tokens=10))
    assert seen.text_prompts
    assert seen.num_gpu_blocks == BLOCKS
    assert [load.name for load in seen.loads] == ["1 clients", "2 clients"]
    assert all(
        len(times) == count
        for load in seen.loads
        for times, count in zip(load.token_s or (), load.output_tokens, strict=True)
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["127.0.0.1:9"], "expected the URL of a server"),
        (["http://127.0.0.1:9"], "does not answer"),
        (["http://127.0.0.1:9", "--budget", "soon"], "such as 90s, 10m or 1h30m"),
    ],
)
def test_what_is_no_server_is_refused(arguments: list[str], said: str, tmp_path: Path) -> None:
    result = endpoint(*arguments, "-o", tmp_path / "o.yaml")
    assert result.exit_code == 2, result.output
    assert said in result.output
    assert not (tmp_path / "o.yaml").exists()


FAULTS = {
    "HTML": "/v1/models lists no model: not an OpenAI-compatible server?",
    "error": "/v1/completions: HTTP 500: out of order",
    "closing": "/v1/completions: the connection was closed in the middle of an answer",
    "garbage": "/v1/completions: an event of the answer is no JSON object: b'{not json'",
    "out of memory": "/v1/completions: the answer ended with {'message': 'out of memory'}",
    "whole answers": "/v1/completions: the answer had no token: does the server stream?",
    "binary metrics": "/v1/completions: HTTP 500: out of order",  # /metrics itself is nothing to stop for
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_server_is_told_in_plain_words(fault: str, tmp_path: Path) -> None:
    with faulty_server(fault) as url:
        result = endpoint(url, "--budget", "2s", "--max-concurrency", "1", "-o", tmp_path / "o.yaml")
    assert result.exit_code in (1, 2), result.output
    assert FAULTS[fault] in result.output
    assert "internal error" not in result.output
    assert not (tmp_path / "o.yaml").exists()


def test_a_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("servesim.calibrate.endpoint_drive._FIRST_S", 0.2)
    with faulty_server("silence") as url:
        result = endpoint(url, "-o", tmp_path / "o.yaml")
    assert result.exit_code == 1
    assert "/v1/completions: no whole answer in 0 s" in result.output


def test_requests_that_fail_are_counted_with_the_first_reason() -> None:
    with faulty_server("every third fails") as url:
        seen = drive(url, Design(budget_s=0.5, max_concurrency=2, max_prompt_tokens=32, max_output_tokens=9))
    failed, answered = sum(load.failed for load in seen.loads), sum(len(load.start_s) for load in seen.loads)
    assert 0.2 < failed / (failed + answered) < 0.5
    assert seen.failure is not None
    assert "HTTP 500" in seen.failure


@contextmanager
def faulty_server(fault: str) -> Iterator[str]:
    """Serve on loopback, in a thread, with one fault."""
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(_application(fault), shutdown_timeout=0.1)
    loop.run_until_complete(runner.setup())
    loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", 0).start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _application(fault: str) -> web.Application:
    asked = itertools.count(1)

    async def models(_: web.Request) -> web.Response:
        if fault == "HTML":
            return web.Response(text="<html>", content_type="text/html")
        return web.json_response({"data": [{"id": "m"}]})

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=b"\xff\xfe\x00" if fault == "binary metrics" else b"")

    async def completions(request: web.Request) -> web.StreamResponse:
        body, number = await request.json(), next(asked)
        if fault == "silence":
            await asyncio.sleep(30)
        third = fault == "every third fails" and number > 3 and number % 3 == 0
        if fault in ("error", "binary metrics") or third:
            return web.Response(status=500, text="out of order")
        if fault == "whole answers":
            return web.json_response({"choices": [{"text": "x"}]})
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(body["max_tokens"]):
            if fault == "closing" and number == 2:
                assert request.transport is not None
                request.transport.close()
            if fault == "garbage":
                await response.write(b"data: {not json\n\n")
            if fault == "out of memory" and number == 2:
                await response.write(b'data: {"error": {"message": "out of memory"}}\n\n')
            if request.transport is None or request.transport.is_closing():
                return response  # the client went away
            await response.write(b'data: {"choices": [{"text": "x"}]}\n\n')
        return response

    app = web.Application()
    app.add_routes([web.get("/v1/models", models), web.get("/metrics", metrics)])
    app.add_routes([web.post("/v1/completions", completions)])
    return app


def test_the_design_doubles_its_clients_up_to_the_most() -> None:
    assert list(Design(max_concurrency=1).phases()) == [1]
    assert list(Design(max_concurrency=16).phases()) == [1, 2, 4, 8, 16]
    assert list(Design(max_concurrency=20).phases()) == [1, 2, 4, 8, 16, 20]
