"""Models that compute a batch of whole requests: encoders, vision, speech, one step of a diffusion model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoModelForImageClassification, WhisperForConditionalGeneration

from servesim.calibrate.torch_device import DTYPES, Device, memory_errors, quantize, require
from servesim.calibrate.torch_measure import OutOfMemory
from servesim.calibrate.torch_points import BatchPoint
from servesim.calibrate.torch_subjects import DIFFUSION, ENCODER, SPEECH, VISION, Subject
from servesim.errors import InputError

_TEXT_CONDITION_TOKENS = 77  # what CLIP's text encoder gives a U-Net
_CLASSES = 1000


class BatchBackend:
    """Runs batches of one model with random weights and random inputs of the size that a request has."""

    def __init__(self, subject: Subject, device: Device, dtype: str, quantization: str | None, compiled: bool) -> None:
        self._subject, self._device = subject, device
        self._dtype = getattr(torch, DTYPES[dtype])
        torch.manual_seed(0)
        with memory_errors(), torch.device(device.kind):
            model = _build(subject).to(self._dtype).eval()
        if quantization is not None:
            quantize(model, quantization)
        self._config = model.config
        self._model = torch.compile(model) if compiled else model
        self._timed = device.timer()

    def prepare(self, point: BatchPoint) -> Callable[[], float]:
        """Return what runs the batch once."""
        with memory_errors(), torch.device(self._device.kind):
            step = _STEPS[self._subject.task](self, point.batch_size)

        def run() -> float:
            with memory_errors(), torch.inference_mode():
                return self._timed(step)

        return run

    def state(self) -> dict[str, float]:
        """Return clock and power."""
        return self._device.state()

    def _encode(self, size: int) -> Callable[[], Any]:
        ids = torch.randint(int(self._config.vocab_size), (size, self._subject.item["prompt_tokens"]))
        mask = torch.ones_like(ids)
        return lambda: self._model(input_ids=ids, attention_mask=mask)

    def _classify(self, size: int) -> Callable[[], Any]:
        side = self._config.image_size
        height, width = side if isinstance(side, list | tuple) else (side, side)
        pixels = torch.randn(size, int(getattr(self._config, "num_channels", 3)), height, width, dtype=self._dtype)
        return lambda: self._model(pixel_values=pixels)

    def _transcribe(self, size: int) -> Callable[[], Any]:
        """Encode 30 seconds of sound and decode greedily, `output_tokens` tokens for each."""
        config, count = self._config, self._subject.item["output_tokens"]
        sound = torch.randn(size, config.num_mel_bins, 2 * config.max_source_positions, dtype=self._dtype)
        start = torch.full((size, 1), int(config.decoder_start_token_id))

        def step() -> None:
            encoded = self._model.get_encoder()(sound)
            token, cache = start, None
            for _ in range(count):
                out = self._model(
                    encoder_outputs=encoded, decoder_input_ids=token, past_key_values=cache, use_cache=True
                )
                token, cache = out.logits[:, -1:].argmax(-1), out.past_key_values

        return step

    def _denoise(self, size: int) -> Callable[[], Any]:
        config = self._config
        latent = torch.randn(size, config.in_channels, config.sample_size, config.sample_size, dtype=self._dtype)
        moment = torch.full((size,), 500)
        if type(self._unwrapped()).__name__ == "DiTTransformer2DModel":
            labels = torch.randint(_CLASSES, (size,))
            return lambda: self._model(latent, timestep=moment, class_labels=labels)
        text = torch.randn(size, _TEXT_CONDITION_TOKENS, config.cross_attention_dim, dtype=self._dtype)
        return lambda: self._model(latent, moment, encoder_hidden_states=text)

    def _unwrapped(self) -> Any:
        return getattr(self._model, "_orig_mod", self._model)


_STEPS: dict[str, Callable[[BatchBackend, int], Callable[[], Any]]] = {
    ENCODER: BatchBackend._encode,
    VISION: BatchBackend._classify,
    SPEECH: BatchBackend._transcribe,
    DIFFUSION: BatchBackend._denoise,
}


def _build(subject: Subject) -> Any:
    """Return the model with random weights; InputError where the libraries cannot build it."""
    fields = dict(subject.fields)
    try:
        if subject.task == DIFFUSION:
            require("diffusers")
            import diffusers

            return getattr(diffusers, fields.pop("_class_name")).from_config(fields)
        config = AutoConfig.for_model(fields.pop("model_type"), **fields)
        if subject.task == SPEECH:
            return WhisperForConditionalGeneration(config)
        if subject.task == VISION:
            return AutoModelForImageClassification.from_config(config)
        return AutoModel.from_config(config)
    except OutOfMemory:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise InputError(f"{subject.name}: the libraries cannot build it: {message}") from error
