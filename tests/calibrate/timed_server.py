"""An OpenAI-compatible server whose iterations take known times, in real time (run it with `python -m`).

First come first served with chunked prefill, on loopback. Prints its port, and ends after a while by itself.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from aiohttp import web

TRUTH = {"base": 0.02, "dense_0": 4e-5, "context_0": 2e-6, "per_prefill_pair": 1e-7}
ADMISSION_S = 0.012
BUDGET_TOKENS, BLOCKS = 512, 4321
LONGEST_LIFE_S = 300.0


class Sequence:
    def __init__(self, prompt: int, output: int) -> None:
        self.prompt, self.output, self.computed, self.sent = prompt, output, 0, 0
        self.events: asyncio.Queue[bool] = asyncio.Queue()


class Engine:
    """Iterations end when the law says, whatever the sleeps do: each starts where the one before was planned to end."""

    def __init__(self) -> None:
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.arrived = asyncio.Event()

    async def work(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while True:
            if not self.waiting and not self.running:
                self.arrived.clear()
                await self.arrived.wait()
                now = loop.time()
            decoding = [s for s in self.running if s.computed >= s.prompt]
            context = sum(s.prompt + s.sent - 1 for s in decoding)
            room, pairs, prefill = BUDGET_TOKENS - len(decoding), 0.0, 0
            ending = list(decoding)
            for s in [*(s for s in self.running if s.computed < s.prompt), *self.waiting]:
                chunk = min(s.prompt - s.computed, room)
                if chunk <= 0:
                    break
                pairs += chunk * s.computed + chunk * (chunk + 1) / 2
                prefill += chunk
                room -= chunk
                s.computed += chunk
                if s in self.waiting:
                    self.waiting.remove(s)
                    self.running.append(s)
                if s.computed == s.prompt:
                    ending.append(s)
            tokens = len(decoding) + prefill
            law = TRUTH
            now += law["base"] + law["dense_0"] * tokens + law["context_0"] * context + law["per_prefill_pair"] * pairs
            await asyncio.sleep(max(now - loop.time(), 0.0))
            for s in ending:
                s.sent += 1
                s.events.put_nowait(s.sent == s.output)
            self.running = [s for s in self.running if s.sent < s.output]


def application(engine: Engine, ids: bool = True) -> web.Application:
    async def models(_: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "timed", "max_model_len": 2048}]})

    async def metrics(_: web.Request) -> web.Response:
        info = f'vllm:cache_config_info{{block_size="32",num_gpu_blocks="{BLOCKS}"}} 1.0\n'
        return web.Response(text=info + "vllm:num_requests_running 0.0\n")

    async def completions(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if not ids and not isinstance(body["prompt"], str):
            return web.json_response({"error": "prompt must be a string"}, status=400)
        prompt = len(body["prompt"].split() if isinstance(body["prompt"], str) else body["prompt"])
        await asyncio.sleep(ADMISSION_S)
        sequence = Sequence(prompt, body["max_tokens"])
        engine.waiting.append(sequence)
        engine.arrived.set()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        last = False
        while not last:
            last = await sequence.events.get()
            await response.write(event({"choices": [{"text": "x", "index": 0}]}))
        usage = {"prompt_tokens": prompt, "completion_tokens": sequence.output}
        await response.write(event({"choices": [], "usage": usage}) + b"data: [DONE]\n\n")
        return response

    app = web.Application()
    app.add_routes(
        [web.get("/v1/models", models), web.get("/metrics", metrics), web.post("/v1/completions", completions)]
    )
    return app


def event(content: Any) -> bytes:
    return f"data: {json.dumps(content)}\n\n".encode()


async def serve(ids: bool) -> None:
    engine = Engine()
    worker = asyncio.create_task(engine.work())
    runner = web.AppRunner(application(engine, ids))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.wait({worker}, timeout=LONGEST_LIFE_S)


if __name__ == "__main__":
    asyncio.run(serve("--text" not in sys.argv))
