"""A small scenario with a baseline, and a way to change it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from servesim.check.record import update
from tests.cli.conftest import SCENARIO

REPLICATIONS = 5
Change = Callable[[str, str], Path]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SCENARIO)
    return path


@pytest.fixture
def baseline(small: Path) -> Path:
    path = small.with_name("baseline.yaml")
    update([small], path, replications=REPLICATIONS)
    return path


@pytest.fixture
def change(small: Path) -> Change:
    def changed(old: str, new: str) -> Path:
        text = small.read_text()
        assert old in text
        small.write_text(text.replace(old, new))
        return small

    return changed


@pytest.fixture
def edit(baseline: Path) -> Change:
    def edited(old: str, new: str) -> Path:
        text = baseline.read_text()
        assert old in text
        baseline.write_text(text.replace(old, new, 1))
        return baseline

    return edited
