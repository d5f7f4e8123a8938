"""`servesim calibrate torch` refuses what it cannot do, with or without torch."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from servesim.cli import main


def invoke(tmp_path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["calibrate", "torch", *arguments, "-o", str(tmp_path / "out.yaml")])


@pytest.mark.parametrize(("arguments", "message"), [
    (["lama-3.1-8b"], "did you mean llama-3.1-8b"),
    (["nosuch.json"], "nosuch.json: no such file"),
    (["llama-3.1-8b", "--budget", "soon"], "expected a time such as 90s, 10m or 1h30m"),
    (["llama-3.1-8b", "--budget", "0s"], "expected a time such as 90s, 10m or 1h30m"),
    (["llama-3.1-8b", "--budget", "-5m"], "expected a time such as 90s, 10m or 1h30m"),
    (["llama-3.1-8b", "--dtype", "fp64"], "'fp64' is not one of"),
    (["llama-3.1-8b", "--quantization", "int3"], "'int3' is not one of"),
    (["llama-3.1-8b", "--tp", "3"], "--tp: 3 does not divide the 32 attention heads of llama-3.1-8b"),
    (["llama-3.1-8b", "--tp", "3"], "--tp: 3 does not divide the feed-forward width 14336 of llama-3.1-8b"),
    (["bert-base", "--tp", "2"], "--tp is for decoders; bert-base is: text encoder"),
    (["bert-base", "--prompt-tokens", "5000"], "above the 512 positions of bert-base"),
    (["llama-3.1-8b", "--output-tokens", "5"], "--output-tokens is for speech models"),
])  # fmt: skip
def test_bad_input_is_refused_and_nothing_written(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = invoke(tmp_path, *arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert list(tmp_path.iterdir()) == []


def test_without_torch_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    found = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name in ("torch", "transformers") else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    result = invoke(tmp_path, "llama-3.1-8b")
    assert result.exit_code == 2
    assert "torch, transformers not installed: pip install 'servesim[torch]'" in result.output


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    (tmp_path / "out.yaml").write_text("mine")
    assert "exists already" in invoke(tmp_path, "llama-3.1-8b").output
    (tmp_path / "out.yaml").rename(tmp_path / "out.points.csv")
    result = invoke(tmp_path, "llama-3.1-8b")
    assert result.exit_code == 2
    assert "out.points.csv" in result.output or "raw points" in result.output
    assert (tmp_path / "out.points.csv").read_text() == "mine"


def test_the_group_lists_it() -> None:
    result = CliRunner().invoke(main, ["calibrate", "--help"])
    assert "torch" in result.output
    assert "Profile MODEL" in result.output
