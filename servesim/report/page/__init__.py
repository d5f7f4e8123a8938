"""One self-contained HTML page about a result directory: docs/report.md."""

from __future__ import annotations

import os
from pathlib import Path

from servesim.errors import InputError
from servesim.report.page.read import RUN_FILE, read_run
from servesim.report.page.render import MARKER
from servesim.report.page.run import run_page

NAME = "report.html"
_HEAD_BYTES = 2000


def page(directory: Path) -> str:
    """Return the page about what `directory` holds; the same files give the same text.

    Another kind of result is told apart here by its file, and has a reader and a template of its own, which
    extends `base.html` and shows its curves as charts (servesim.report.page.charts). Raises InputError if there is no
    result, or if its files cannot be read.
    """
    if not directory.is_dir():
        what = "is a file; expected the directory of a result" if directory.exists() else "there is no such directory"
        raise InputError(f"{directory}: {what}")
    if (directory / RUN_FILE).exists():
        return run_page(read_run(directory))
    raise InputError(f"{directory}: holds no {RUN_FILE}; expected a directory that `servesim run -o` wrote")


def write_page(path: Path, text: str, *, force: bool = False) -> None:
    """Write a page whole or not at all; InputError if `path` is something else, unless `force` and a file."""
    if path.is_dir():
        raise InputError(f"-o {path}: is a directory; expected a file")
    if path.exists() and not force and MARKER.encode() not in path.read_bytes()[:_HEAD_BYTES]:
        raise InputError(f"-o {path}: is not a servesim report; --force replaces it")
    if not path.parent.is_dir():
        raise InputError(f"-o {path}: there is no directory {path.parent}")
    work = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        work.write_text(text, encoding="utf-8")
        work.replace(path)
    finally:
        work.unlink(missing_ok=True)
