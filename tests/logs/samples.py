"""The same three requests in every format, written by hand from the formats' published descriptions."""

import json

TIMES_S = (0.0, 1.5, 4.0)
PROMPTS = (100, 200, 300)
OUTPUTS = (10, 20, 30)
ROWS = tuple(zip(TIMES_S, PROMPTS, OUTPUTS, strict=True))
EPOCH_S = 1_700_000_000


def csv_text(header="arrival_s,prompt_tokens,output_tokens", newline="\n", delimiter=","):
    rows = [header, *(",".join(map(str, row)) for row in ROWS)]
    return newline.join(row.replace(",", delimiter) for row in rows) + newline


def jsonl(*records):
    return "".join(json.dumps(record) + "\n" for record in records)


AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:00:{10 + time:010.7f},{prompt},{output}\n" for time, prompt, output in ROWS
)
BURSTGPT = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n" + "".join(
    f"{5 + time},s{at // 2},1,ChatGPT,{prompt},{output},{prompt + output},Conversation log\n"
    for at, (time, prompt, output) in enumerate(ROWS)
)
MOONCAKE = jsonl(
    *(
        {"timestamp": 27000 + 1000 * time, "input_length": prompt, "output_length": output, "hash_ids": [0, at]}
        for at, (time, prompt, output) in enumerate(ROWS)
    )
)
QWEN = jsonl(
    *(
        {
            "chat_id": at,
            "parent_chat_id": at - 1 if at == 1 else -1,
            "timestamp": 61 + time,
            "input_length": prompt,
            "output_length": output,
            "type": "text",
            "turn": 1,
            "hash_ids": [7, 8 + at],
        }
        for at, (time, prompt, output) in enumerate(ROWS)
    )
)
VLLM_BENCH = json.dumps(
    {
        "backend": "vllm",
        "num_prompts": 3,
        "start_times": [50.0, 54.0, 51.5],
        "input_lens": [100, 300, 200],
        "output_lens": [10, 30, 20],
        "errors": ["", "", ""],
    }
)
GUIDELLM = json.dumps(
    {
        "metadata": {"version": 1},
        "benchmarks": [
            {
                "requests": {
                    "successful": [
                        {"request_start_time": EPOCH_S + time, "prompt_tokens": prompt, "output_tokens": output}
                        for time, prompt, output in reversed(ROWS)
                    ],
                    "incomplete": [],
                    "errored": [],
                }
            }
        ],
    }
)
SGLANG_BENCH = (
    json.dumps(
        {
            "backend": "sglang",
            "tag": "night",
            "request_rate": 2.0,
            "median_e2e_latency_ms": 310.5,
            "total_throughput": 900.1,
            "input_lens": list(PROMPTS),
            "output_lens": list(OUTPUTS),
            "errors": ["", "", ""],
        }
    )
    + "\n"
)
INFERENCE_PERF = json.dumps(
    [
        {
            "start_time": 7000.25 + time,
            "end_time": 7001.5 + time,
            "request": "{}",
            "response": "",
            "info": {
                "request_metrics": {"text": {"input_tokens": prompt}},
                "response_metrics": {"output_tokens": output + 1, "server_usage": {"completion_tokens": output}},
                "input_tokens": prompt,
            },
            "error": None,
        }
        for time, prompt, output in reversed(ROWS)
    ],
    indent=2,
)


def aiperf_record(time, prompt, output, *, phase="profiling", error=None):
    metrics = {
        "input_sequence_length": {"value": prompt, "unit": "tokens"},
        "output_sequence_length": {"value": output, "unit": "tokens"},
    }
    return {
        "metadata": {
            "request_start_ns": EPOCH_S * 10**9 + round(time * 10**9),
            "benchmark_phase": phase,
            "session_num": 7,
            "conversation_id": "c",
        },
        "metrics": {} if error else metrics,
        "error": error,
    }


AIPERF = jsonl(aiperf_record(-9, 1, 1, phase="warmup"), *(aiperf_record(*row) for row in reversed(ROWS)))
FREE_JSONL = jsonl(
    *(
        {"at": f"2024-05-10T00:00:0{time}+02:00", "usage": {"prompt": prompt, "completion": output}}
        for time, prompt, output in ROWS
    )
)
SHAREGPT = json.dumps(
    [
        {"id": "a", "conversations": [{"from": "human", "value": "x" * 400}, {"from": "gpt", "value": "y" * 40}]},
        {"id": "b", "conversations": [{"from": "human", "value": "only one turn"}]},
        {"id": "c", "conversations": [{"from": "human", "value": ""}, {"from": "gpt", "value": "y" * 80}]},
    ]
)
