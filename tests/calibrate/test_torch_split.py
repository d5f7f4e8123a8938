"""Decoders split over processes: two of them on this processor compute what one does, and measure in lock-step."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from servesim.calibrate.torch_measure import OutOfMemory
from servesim.calibrate.torch_points import IterationPoint
from servesim.calibrate.torch_subjects import Subject, subject_of
from servesim.catalog.calibrations import read_calibration
from servesim.cli import main
from servesim.errors import InputError
from tests.calibrate.test_torch_models import _SMALL, DECODERS, written

pytestmark = pytest.mark.slow
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

ODD = {"vocab_size": 501}  # a vocabulary that two do not divide
QUERIES_ONLY = {"num_key_value_heads": 1}  # fewer key-value heads than ranks


def subjects(tmp_path: Path) -> dict[str, Subject]:
    """Every family, and Llamas whose vocabulary, biases and key-value heads are not easily halved."""
    fields = {name: {**_SMALL, **more} for name, more in DECODERS.items()}
    fields["odd vocabulary, tied"] = {**_SMALL, **ODD, "model_type": "llama", "tie_word_embeddings": True}
    fields["biases"] = {**_SMALL, "model_type": "llama", "attention_bias": True, "mlp_bias": True}
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2}
    fields["GptOssForCausalLM"] = {**_SMALL, **experts, "model_type": "gpt_oss", "head_dim": 16, "sliding_window": 12}
    fields["one key-value head"] = {**_SMALL, **QUERIES_ONLY, "model_type": "llama"}
    found = {}
    for name, given in fields.items():
        architecture = name if name.endswith("ForCausalLM") else "LlamaForCausalLM"
        found[name] = subject_of(str(written(tmp_path, {"architectures": [architecture], **given})))
    return found


def differences(ranks: Any, of: dict[str, Subject]) -> dict[str, Any]:
    """Return what a rank finds: by how much its scores differ from the whole model's, and its share of memory."""
    from servesim.calibrate.torch_decoder import Decoder, DecoderBackend, FlatBatch, Group
    from servesim.calibrate.torch_device import device_of
    from servesim.calibrate.torch_latent import absorb
    from servesim.calibrate.torch_shard import shard

    found = {}
    device = device_of("cpu", 1, "wall", ranks.size)
    for name, subject in of.items():
        whole = Decoder(subject, device, "fp32", None, False, 200)
        for i, weight in enumerate(whole.model.parameters()):
            torch.manual_seed(i)
            torch.nn.init.normal_(weight, 0.5 if weight.ndim == 1 else 0.0, 0.1)
        absorb(whole.model)
        split = Decoder(subject, device, "fp32", None, False, 200, ranks)
        ids = torch.randint(subject.entry.vocab, (1, 40), generator=torch.Generator().manual_seed(1))

        def scores(model: Any, cache: Any, ids: Any = ids) -> Any:
            pieces = []
            for before, new in ((0, 17), (17, 22), (39, 1)):
                flat, at = FlatBatch(cache, [Group(60, 1, 50, before, new)]), torch.arange(before, before + new)[None]
                tokens = ids[:, before : before + new]
                hidden = model.model(input_ids=tokens, position_ids=at, use_cache=False, flat=flat).last_hidden_state
                pieces.append(model.lm_head(hidden[0]))
            return torch.cat(pieces)

        with torch.inference_mode():
            expected = scores(whole.model, whole.cache)
        shard(whole.model, subject.entry.kv_heads, ranks)  # the same weights, split
        absorb(whole.model)
        with torch.inference_mode():
            got = scores(whole.model, split.cache)
            whole.model.model.layers[0].self_attn.o_proj._forward_hooks.clear()  # its parts are no longer added
            wrong = scores(whole.model, split.cache)
        point = IterationPoint(3, 30, 1, 20, 10)
        seconds = DecoderBackend(split).prepare(point)()
        refused = False
        try:
            DecoderBackend(split).prepare(IterationPoint(30, 300))
        except OutOfMemory:
            refused = True
        found[name] = {
            "difference": float((got - expected).abs().max() / expected.std()),
            "wrong": float((wrong - expected).abs().max() / expected.std()),
            "bytes": sum(weight.numel() for weight in split.model.parameters()) * 2,
            "same shapes": [w.shape for w in split.model.parameters()] == [w.shape for w in whole.model.parameters()],
            "seconds": seconds,
            "refused": refused,
        }
    return found


def test_two_ranks_compute_what_one_does(tmp_path: Path) -> None:
    from servesim.calibrate.torch_ranks import launched

    of = subjects(tmp_path)
    found = launched(2, "cpu", differences, of)
    assert found is not None
    assert found.keys() == of.keys()
    for name, one in found.items():
        assert one["difference"] < 1e-4, name
        assert one["wrong"] > 0.01, name
        assert one["same shapes"], name
        assert one["refused"], name
        assert one["seconds"] > 0, name
        expected = of[name].entry.weight_bytes_per_gpu("bf16", 2)
        assert one["bytes"] == pytest.approx(expected, rel=0.02), name


def test_a_split_decoder_is_profiled_and_the_campaign_goes_on(tmp_path: Path) -> None:
    path = written(tmp_path, {"architectures": ["LlamaForCausalLM"], **_SMALL, "model_type": "llama"})
    output = tmp_path / "split.yaml"
    arguments = ["calibrate", "torch", str(path), "-o", str(output), "--tp", "2", "--device", "cpu", "--threads", "1"]
    arguments += ["--dtype", "fp32", "--points", "50", "--max-point", "0.05", "--max-num-seqs", "8"]
    arguments += ["--max-context", "256", "--max-prefill-tokens", "128", "--format", "json"]
    short = CliRunner().invoke(main, [*arguments, "--budget", "1s"])
    raw = output.with_suffix(".points.csv")
    if short.exit_code:  # on a fast machine a second is enough
        assert "a fit needs 50: they are kept" in short.output
        assert not output.exists()
    stored = raw.read_text().splitlines()
    result = CliRunner().invoke(main, [*arguments, "--budget", "40s", "--resume"])
    assert result.exit_code == 0, result.output
    assert raw.read_text().splitlines()[: len(stored)] == stored
    facts = json.loads(result.stdout)
    entry = read_calibration(output)
    assert entry.tensor_parallel_size == facts["tensor_parallel_size"] == 2
    assert entry.provenance.rows == 50
    assert entry.provenance.method.count(entry.gpu) == 2  # the device of each rank
    assert "by gloo" in entry.provenance.method
    assert any("says nothing of NVLink" in note for note in facts["notes"])
    other = CliRunner().invoke(main, [*arguments[:5], *arguments[7:], "--resume", "--force"])
    assert other.exit_code == 2
    assert "tensor_parallel_size 2 there, 1 asked for" in other.output


def test_processor_time_is_refused_since_it_counts_no_waiting(tmp_path: Path) -> None:
    options = ["--tp", "2", "--clock", "cpu", "--device", "cpu", "-o", str(tmp_path / "x.yaml")]
    result = CliRunner().invoke(main, ["calibrate", "torch", "llama-3.1-8b", *options])
    assert result.exit_code == 2
    assert "--tp needs --clock wall" in result.output
    assert list(tmp_path.iterdir()) == []


def test_more_ranks_than_gpus_are_refused_with_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from servesim.calibrate.torch_device import device_of

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_of("auto", None, "wall", 2).is_cuda
    with pytest.raises(InputError, match=r"--tp 4: PyTorch finds 2 GPU\(s\) here"):
        device_of("auto", None, "wall", 4)


def test_an_architecture_without_a_plan_is_refused_by_name() -> None:
    from servesim.calibrate.torch_ranks import Ranks
    from servesim.calibrate.torch_shard import shard

    for plan, message in (
        ({}, "no plan for splitting the attention of 'odd' models"),
        ({"layers.*.self_attn.o_proj": "rowwise_split_input"}, "uses rowwise_split_input: not supported"),
    ):
        config = SimpleNamespace(model_type="odd")
        config.get_text_config = lambda plan=plan: SimpleNamespace(base_model_tp_plan=plan)
        with pytest.raises(InputError, match=message):
            shard(SimpleNamespace(config=config), 2, Ranks(0, 2))


class Ran:
    """Two ranks that talk through lists: what the followers were told, and whether one of them had room."""

    def __init__(self, fits: bool, slowest_s: float) -> None:
        self.size, self.fits, self.slowest_s = 2, fits, slowest_s
        self.told: list[Any] = []

    def tell(self, what: Any) -> None:
        self.told.append(what)

    def fit(self, make: Any) -> Any:
        made = make()
        if not self.fits:
            raise OutOfMemory
        return made

    def meet(self) -> None:
        self.told.append("meet")

    def largest(self, value: float) -> float:
        return max(value, self.slowest_s)


def test_the_slowest_rank_counts_and_one_without_room_speaks_for_all() -> None:
    from servesim.calibrate.torch_lockstep import leading

    own: Any = SimpleNamespace(prepare=lambda point: lambda: 1.0, state=dict)
    point = IterationPoint(2, 20)
    others: Any = Ran(fits=True, slowest_s=3.0)
    with leading(own, others) as lead:
        run = lead.prepare(point)
        assert [run(), run()] == [3.0, 3.0]
    assert others.told == [point, "run", "meet", "run", "meet", "end"]
    with leading(own, Ran(fits=False, slowest_s=0.0)) as lead, pytest.raises(OutOfMemory):
        lead.prepare(point)
    with leading(own, Ran(fits=True, slowest_s=float("inf"))) as lead, pytest.raises(OutOfMemory):
        lead.prepare(point)()
    refused: Any = Ran(fits=True, slowest_s=0.0)
    with pytest.raises(InputError), leading(own, refused):
        raise InputError("something")
    assert refused.told == ["end"]
