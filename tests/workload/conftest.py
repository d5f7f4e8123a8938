import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def traces() -> Path:
    """The directory of recorded traces, which are not part of the repository."""
    root = Path(__file__).resolve().parents[2]
    data = Path(os.environ.get("SERVESIM_DATA", root.parent / "shared" / "data"))
    if not (data / "traces").is_dir():
        pytest.skip(f"no recorded traces under {data}")
    return data / "traces"
