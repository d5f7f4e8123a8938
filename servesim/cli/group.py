"""How every command ends: exit codes, one-line errors, no tracebacks unless asked for."""

from __future__ import annotations

import difflib
import math
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from servesim.errors import InputError, ServesimError

INTERRUPTED = 130
_DEBUG = "servesim.debug"
_DURATION = re.compile(r"(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?")
_LONGEST_S = 7 * 86_400
_Command = TypeVar("_Command", bound=Callable[..., Any])


def _remember_debug(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    context.meta[_DEBUG] = value


debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, callback=_remember_debug, help="Show the traceback of internal errors."
)


def allow_path_option(help_text: str) -> Callable[[_Command], _Command]:
    """Return the option `--allow-path`, given any number of times: folders whose files a scenario may name too."""
    return click.option(
        "--allow-path", "allow_paths", multiple=True, type=click.Path(path_type=Path), metavar="DIR", help=help_text
    )


class CommandGroup(click.Group):
    """A group whose commands report errors as documented; a closed pipe is left to click, which stays quiet."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn what it raises into a message on stderr and an exit code."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.ClickException, click.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            _fail(ctx, "interrupted", INTERRUPTED)
        except InputError as error:
            if ctx.meta.get(_DEBUG) and error.__cause__ is not None:
                click.echo(traceback.format_exc(), err=True, nl=False)
            _fail(ctx, str(error), error.exit_code)
        except ServesimError as error:
            _fail(ctx, f"error: {error}", error.exit_code)
        except MemoryError:
            _fail(ctx, "error: out of memory; limits.max_memory_bytes stops a run before that", 1)
        except OSError as error:
            _fail(ctx, f"error: {error}", 1)
        except Exception as error:
            if ctx.meta.get(_DEBUG):
                click.echo(traceback.format_exc(), err=True, nl=False)
            what = " ".join(f"{type(error).__name__}: {error}".split())
            _fail(ctx, f"internal error ({what}); please report it, with the traceback that --debug shows", 1)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; a misspelt one is answered with the nearest (click does so only from 8.4 on)."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            near = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(self.list_commands(ctx))}"
            raise click.UsageError(f"no such command {name!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)


def _fail(ctx: click.Context, message: str, exit_code: int) -> None:
    click.echo(message, err=True)
    ctx.exit(exit_code)


class FiniteRange(click.FloatRange):
    """A number within bounds; NaN, which compares with nothing, and infinity are refused like text."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number; raises click.BadParameter."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"expected a finite number, got {number}", param, ctx)
        return number


def a_share(_context: click.Context, _parameter: click.Parameter, value: float | None) -> float | None:
    """Refuse NaN and infinities as a limit of errors: a gate that cannot fail."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"expected a share such as 0.1, got {value}")
    return value


def duration_s(_context: click.Context, _parameter: click.Parameter, value: str) -> float:
    """Return a time such as 10m, 90s, 1h30m or 90 (seconds) in seconds; for options."""
    match = _DURATION.fullmatch(f"{value}s" if value.isdecimal() else value)
    seconds = sum(int(n or 0) * unit for n, unit in zip(match.groups(), (3600, 60, 1), strict=True)) if match else 0
    if not 0 < seconds <= _LONGEST_S:
        raise click.BadParameter(f"expected a time such as 90s, 10m or 1h30m, at most 168h; got {value!r}")
    return float(seconds)
