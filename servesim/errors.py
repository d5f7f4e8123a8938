"""Errors a user can cause or meet, each with the exit code the command line gives it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class ServesimError(Exception):
    """Base of every error servesim raises on purpose."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with an input.

    `path` is the dotted place inside the document (`pools.main.engine`), `line` and `column` count from 1
    and are None where the input has no lines.
    """

    message: str
    path: str = ""
    file: str = ""
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        place = self.file
        if self.line is not None:
            place += f":{self.line}" + ("" if self.column is None else f":{self.column}")
        return ": ".join(part for part in (place, self.path, self.message) if part)


class InputError(ServesimError):
    """The input is wrong; carries every problem found, not only the first."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem] | Problem | str) -> None:
        if isinstance(problems, str):
            problems = Problem(problems)
        self.problems = [problems] if isinstance(problems, Problem) else list(problems)
        super().__init__("\n".join(map(str, self.problems)))


def unreadable(error: Exception, file: str) -> InputError:
    """Return, in the words that every command uses, why a file of the user's cannot be opened or read."""
    if isinstance(error, FileNotFoundError):
        return InputError(Problem("no such file", file=file))
    if isinstance(error, IsADirectoryError):
        return InputError(Problem("is a directory; expected a file", file=file))
    return InputError(Problem(f"cannot be read: {getattr(error, 'strerror', None) or error}", file=file))


class LimitReached(ServesimError):  # noqa: N818 (a cap did its work; the name says which)
    """A cap on events, simulated time, memory or events per instant stopped the run."""

    exit_code = 4
