"""Where the shared measurement files are, if they are here; tests that need a whole file skip where they are not."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def is_plan(path: Path) -> bool:
    """Return whether a shipped document is one for `servesim plan`, with a space of deployments."""
    return re.search(r"^(space|inventory):", path.read_text(encoding="utf-8"), re.MULTILINE) is not None


DOCUMENTS = sorted((ROOT / "scenarios").rglob("*.yaml"))
SCENARIOS = [path for path in DOCUMENTS if not is_plan(path)]
PLANS = [path for path in DOCUMENTS if is_plan(path)]


def shared_data(*parts: str) -> Path:
    """Return the path of a shared data file, or skip the test that asked."""
    path = Path(os.environ.get("SERVESIM_DATA", ROOT.parent / "shared" / "data")).joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return path
