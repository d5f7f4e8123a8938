"""Folders that are written whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yield a folder to fill under a temporary name beside `target`, and put it in `target`'s place at the end.

    A killed run leaves either nothing or something whole. What stood at `target` is replaced; nothing of it is touched
    when filling fails.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield work
        work.chmod(0o755)
        old = work.with_name(work.name + ".old")
        if target.exists():  # moved aside, not deleted first: a kill in between loses nothing
            target.rename(old)
        work.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
