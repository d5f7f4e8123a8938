"""One self-contained HTML page about a result directory: docs/report.md."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from servesim.errors import InputError
from servesim.report.page.checking import CHECK_FILE, check_page, read_check
from servesim.report.page.comparison import COMPARISON_FILE, comparison_page, read_comparison
from servesim.report.page.planning import PLAN_FILE, plan_page, read_plan
from servesim.report.page.read import RUN_FILE, read_run
from servesim.report.page.read_sweep import SENSITIVITY_FILE, SWEEP_FILE, read_sensitivity, read_sweep
from servesim.report.page.render import MARKER
from servesim.report.page.run import run_page
from servesim.report.page.sensitivity import sensitivity_page
from servesim.report.page.sweep import sweep_page

NAME = "report.html"
_HEAD_BYTES = 2000
# A kind of result is told by its file. A folder holds one of them.
_PAGES: dict[str, Callable[[Path], str]] = {
    RUN_FILE: lambda directory: run_page(read_run(directory)),
    SWEEP_FILE: lambda directory: sweep_page(read_sweep(directory)),
    SENSITIVITY_FILE: lambda directory: sensitivity_page(read_sensitivity(directory)),
    COMPARISON_FILE: lambda directory: comparison_page(read_comparison(directory)),
    CHECK_FILE: lambda directory: check_page(read_check(directory)),
    PLAN_FILE: lambda directory: plan_page(read_plan(directory)),
}


def page(directory: Path) -> str:
    """Return the page about what `directory` holds; the same files give the same text.

    Raises InputError if there is no result, or if its files cannot be read.
    """
    if not directory.is_dir():
        what = "is a file; expected the directory of a result" if directory.exists() else "there is no such directory"
        raise InputError(f"{directory}: {what}")
    for name, made in _PAGES.items():
        if (directory / name).exists():
            return _made(made, directory, name)
    raise InputError(
        f"{directory}: holds no result; expected one of {', '.join(_PAGES)}, which `-o` of run, sweep, "
        "compare, check and plan writes"
    )


def _made(made: Callable[[Path], str], directory: Path, name: str) -> str:
    """Return the page; a file with a part missing or of another kind is bad input, whichever part it is."""
    from jinja2 import TemplateError

    try:
        return made(directory)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, TemplateError) as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        told = f"is not as servesim wrote it ({what}); make the result again. If nobody changed it, please report this"
        raise InputError(f"{directory / name}: {told}, with what --debug shows") from error


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
