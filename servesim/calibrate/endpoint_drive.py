"""Driving an OpenAI-compatible server with a designed load, and noting when every token arrives.

Written here because the fit needs the arrival of single tokens, exact prompt lengths and no download: guidellm 0.8
keeps first and last tokens only, and aiperf 0.13 fetches a vocabulary even for the tokenizer that it calls built in.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from servesim.calibrate.loads import Requests
from servesim.errors import InputError, ServesimError

_CONNECT_S = 10.0
_REQUEST_S, _SILENT_S = 600.0, 180.0  # of a request of the load, and without a byte of its answer
_FIRST_S = 60.0  # of the first, short request: a server that does not answer it has nothing to be measured
_WARM_UP = 2
_LOWEST_ID, _HIGHEST_ID = 100, 4000  # token ids that every vocabulary has and few give a meaning
_WORDS = ("time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school")
_BLOCKS = re.compile(r'cache_config_info\{[^}]*\bnum_gpu_blocks="(\d+)"')
_BLOCK_SIZE = re.compile(r'cache_config_info\{[^}]*\bblock_size="(\d+)"')
_RUNNING = re.compile(r"^vllm:num_requests_(running|waiting)(?:\{[^}]*\})? ([0-9.e+]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Design:
    """The load: closed loops of 1, 2, 4, ... clients up to `max_concurrency`, `budget_s` seconds in all.

    Prompts are log-uniform from 16 to `max_prompt_tokens`, outputs uniform from 8 to `max_output_tokens`, so that
    batch, context and prefill vary apart from each other. No phase sends more than `max_requests`.
    """

    budget_s: float = 120.0
    max_concurrency: int = 32
    max_prompt_tokens: int = 2048
    max_output_tokens: int = 64
    max_requests: int = 2000
    seed: int = 0

    def phases(self) -> Iterator[int]:
        """Yield the number of clients of each phase."""
        for power in range(int(math.log2(self.max_concurrency)) + 1):
            yield 2**power
        if self.max_concurrency & (self.max_concurrency - 1):
            yield self.max_concurrency


@dataclass(slots=True)
class Seen:
    """What a server published and answered."""

    model: str
    max_model_len: int | None
    num_gpu_blocks: int | None = None
    block_size: int | None = None
    busy_before: float = 0.0
    text_prompts: bool = False
    failure: str | None = None
    loads: list[Requests] = field(default_factory=list)


class _RefusedError(ServesimError):
    """The server answered with another status than 200."""


@dataclass(slots=True)
class _Answer:
    start: float
    prompt: int
    output: int
    tokens: list[float]


def drive(url: str, design: Design, say: Callable[[str], None] = lambda _: None) -> Seen:
    """Return what the server at `url` published and did under the design's load; InputError if it does not answer.

    `say` hears of progress. Needs the optional extra `endpoint`.
    """
    if not url.startswith(("http://", "https://")):
        raise InputError(f"{url}: expected the URL of a server, such as http://127.0.0.1:8000")
    return asyncio.run(_drive(url.rstrip("/").removesuffix("/v1"), design, say, _aiohttp()))


def _aiohttp() -> Any:
    try:
        import aiohttp
    except ImportError as error:
        raise ServesimError("calibrate endpoint needs aiohttp: pip install 'servesim[endpoint]'") from error
    return aiohttp


async def _drive(url: str, design: Design, say: Callable[[str], None], aiohttp: Any) -> Seen:
    connector = aiohttp.TCPConnector(limit=0)
    limits = aiohttp.ClientTimeout(total=_REQUEST_S, sock_connect=_CONNECT_S, sock_read=_SILENT_S)
    async with aiohttp.ClientSession(connector=connector, timeout=limits) as session:
        client = _Client(session, url, design, aiohttp)
        seen = await client.look()
        for _ in range(_WARM_UP):
            await client.ask(seen)
        phases = list(design.phases())
        for clients in phases:
            say(f"{clients} client{'s' if clients > 1 else ''}, {design.budget_s / len(phases):.0f} s")
            seen.loads.append(await client.phase(seen, clients, design.budget_s / len(phases)))
        return seen


class _Client:
    """Sends requests and keeps the times of their tokens."""

    def __init__(self, session: Any, url: str, design: Design, aiohttp: Any) -> None:
        self._session, self._url, self._design, self._aiohttp = session, url, design, aiohttp
        self._rng = np.random.default_rng(design.seed)
        self._tokens_per_word = 1.0

    async def look(self) -> Seen:
        """Read what the server publishes, and find out whether it takes token ids as prompts."""
        try:
            models = json.loads(await self._get("/v1/models", needed=True))
        except ValueError:
            models = None
        data = models.get("data") if isinstance(models, dict) else None
        if not isinstance(data, list) or not data or not isinstance(data[0], dict):
            raise InputError(f"{self._url}/v1/models lists no model: not an OpenAI-compatible server?")
        seen = Seen(str(data[0].get("id")), data[0].get("max_model_len"))
        metrics = await self._get("/metrics", needed=False)
        for name, pattern in (("num_gpu_blocks", _BLOCKS), ("block_size", _BLOCK_SIZE)):
            if (found := pattern.search(metrics)) is not None:
                setattr(seen, name, int(found[1]))
        seen.busy_before = sum(float(number) for _, number in _RUNNING.findall(metrics))
        try:
            await self._ask(seen, 32, 4, _FIRST_S)
        except _RefusedError:
            seen.text_prompts = True
            answer = await self._ask(seen, 32, 4, _FIRST_S)
            self._tokens_per_word = max(answer.prompt / 32, 0.1)
        return seen

    async def ask(self, seen: Seen) -> _Answer:
        """Send one request of the design."""
        longest = self._design.max_prompt_tokens
        if seen.max_model_len is not None:
            longest = min(longest, seen.max_model_len - self._design.max_output_tokens - 1)
        prompt = round(math.exp(self._rng.uniform(math.log(16), math.log(max(longest, 17)))))
        return await self._ask(seen, prompt, int(self._rng.integers(8, max(self._design.max_output_tokens, 9))))

    async def phase(self, seen: Seen, clients: int, seconds: float) -> Requests:
        """Let so many clients send one request after another, for so long."""
        end = time.perf_counter() + seconds
        answers: list[_Answer] = []
        failed: list[str] = []

        async def client() -> None:
            while time.perf_counter() < end and len(answers) + len(failed) < self._design.max_requests:
                try:
                    answers.append(await self.ask(seen))
                except ServesimError as error:
                    failed.append(str(error))

        await asyncio.gather(*(client() for _ in range(clients)))
        seen.failure = seen.failure or next(iter(failed), None)
        if not answers:
            raise ServesimError(f"no request of {clients} clients was answered: {failed[0] if failed else 'no time'}")
        return _requests(f"{clients} clients", answers, len(failed))

    async def _ask(self, seen: Seen, prompt_tokens: int, output_tokens: int, most_s: float = _REQUEST_S) -> _Answer:
        body = {
            "model": seen.model,
            "prompt": self._prompt(seen, prompt_tokens),
            "max_tokens": output_tokens,
            "min_tokens": output_tokens,
            "ignore_eos": True,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        tokens: list[float] = []
        usage: dict[str, Any] = {}
        where = f"{self._url}/v1/completions"
        start = time.perf_counter()
        try:
            async with asyncio.timeout(most_s), self._session.post(where, json=body) as response:
                if response.status != 200:
                    text = await response.text(errors="replace")
                    raise _RefusedError(f"{where}: HTTP {response.status}: {text[:200]}")
                async for line in response.content:
                    now = time.perf_counter()
                    if not line.startswith(b"data:") or b"[DONE]" in line:
                        continue
                    event = _event(line[5:], where)
                    usage = event.get("usage") or usage
                    if event.get("choices"):
                        tokens.append(now)
        except (self._aiohttp.ClientError, TimeoutError) as error:
            raise ServesimError(f"{where}: {self._fault(error, most_s)}") from error
        if not tokens:
            raise ServesimError(f"{where}: the answer had no token: does the server stream?")
        output = _counted(usage, "completion_tokens", len(tokens))
        return _Answer(start, _counted(usage, "prompt_tokens", prompt_tokens), output, tokens[:output])

    def _fault(self, error: Exception, most_s: float) -> str:
        """Return in plain words what went wrong with a connection."""
        if isinstance(error, self._aiohttp.ClientPayloadError | self._aiohttp.ServerDisconnectedError):
            return "the connection was closed in the middle of an answer"
        if isinstance(error, self._aiohttp.SocketTimeoutError):
            return f"nothing came for {_SILENT_S:.0f} s"
        if isinstance(error, TimeoutError):
            return f"no whole answer in {most_s:.0f} s"
        return str(error)

    def _prompt(self, seen: Seen, tokens: int) -> list[int] | str:
        """Return a prompt that no other shares a beginning with, so that no prefix cache helps."""
        if not seen.text_prompts:
            found: list[int] = self._rng.integers(_LOWEST_ID, _HIGHEST_ID, tokens).tolist()
            return found
        words = self._rng.choice(_WORDS, max(round(tokens / self._tokens_per_word), 1))
        return " ".join(map(str, words))

    async def _get(self, path: str, needed: bool) -> str:
        try:
            async with self._session.get(self._url + path) as response:
                if response.status == 200:
                    return str(await response.text(errors="replace"))
                fault = f"HTTP {response.status}"
        except (self._aiohttp.ClientError, TimeoutError) as error:
            fault = self._fault(error, _REQUEST_S)
        if needed:
            raise InputError(f"{self._url}{path} does not answer: {fault}")
        return ""


def _event(text: bytes, where: str) -> dict[str, Any]:
    """Return one event of a streamed answer; ServesimError for one that is an error, or none."""
    try:
        event = json.loads(text)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise ServesimError(f"{where}: an event of the answer is no JSON object: {text.strip()[:100]!r}")
    if event.get("error"):
        raise ServesimError(f"{where}: the answer ended with {event['error']!r:.200}")
    return event


def _counted(usage: Any, key: str, otherwise: int) -> int:
    """Return a number of tokens as the server counted them, or the client's where it did not."""
    value = usage.get(key) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value > 0 else otherwise


def _requests(name: str, answers: list[_Answer], failed: int) -> Requests:
    answers = sorted(answers, key=lambda answer: answer.start)
    first = answers[0].start
    start = np.array([answer.start - first for answer in answers])
    tokens = [np.array(answer.tokens) - first for answer in answers]
    return Requests(
        name,
        start,
        np.array([float(answer.prompt) for answer in answers]),
        np.array([float(answer.output) for answer in answers]),
        np.array([t[0] for t in tokens]) - start,
        np.array([t[-1] for t in tokens]) - start,
        tokens,
        failed,
    )
