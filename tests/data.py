"""Where the shared measurement files are, if they are here; tests that need a whole file skip where they are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def shared_data(*parts: str) -> Path:
    """Return the path of a shared data file, or skip the test that asked."""
    path = Path(os.environ.get("SERVESIM_DATA", ROOT.parent / "shared" / "data")).joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return path
